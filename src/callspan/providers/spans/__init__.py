"""Spans: the messages that spans of other instrumentations state."""
