"""Semantic conventions: pure record -> span attributes; the only place that knows attribute names."""
