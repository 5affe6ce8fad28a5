"""Spans and metrics of calls, sessions and their events."""
