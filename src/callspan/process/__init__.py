"""Processors: pure functions from record to record that remove what may not be exported or stored."""
