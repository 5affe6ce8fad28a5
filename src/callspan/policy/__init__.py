"""Policy: pure record -> record; what may be shown and kept."""
