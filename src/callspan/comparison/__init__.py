"""Comparison: groups of sessions with sums, means and intervals, and the differences between two groups."""
