"""Processors: pure functions from record to record that remove values that may not be exported or stored."""
