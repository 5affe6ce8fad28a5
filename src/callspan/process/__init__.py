"""Processors: pure record -> record; what of a record may be shown and stored."""
