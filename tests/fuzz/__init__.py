"""A differential fuzzer: the same calls with and without callspan have equal results; see `python -m tests.fuzz`."""
