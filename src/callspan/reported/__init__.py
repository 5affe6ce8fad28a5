"""Reported: records what requests report of calls that run elsewhere, each once, in one order."""
