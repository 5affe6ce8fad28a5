"""A differential fuzzer: the same calls with and without callspan must come to the same; see `python -m tests.fuzz`."""
