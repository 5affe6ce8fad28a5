"""Vocabularies: pure record -> span attributes; the only place that knows attribute names."""
