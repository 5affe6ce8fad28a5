"""Semantic conventions: pure mapping from records to span attributes; the only package with attribute names."""
