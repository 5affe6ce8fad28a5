"""The page about what was recorded."""
