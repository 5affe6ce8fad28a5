"""The `callspan` command; one file per sub-command."""
