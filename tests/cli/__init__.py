"""The sub-commands of `callspan`, on small stores made for each test."""
