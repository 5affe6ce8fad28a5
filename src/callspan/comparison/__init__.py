"""Comparison: groups of sessions, their sums and means with intervals, and the differences of two groups."""
