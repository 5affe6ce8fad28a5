"""JSON Lines: one record per line, in one file and its rotated predecessors."""
