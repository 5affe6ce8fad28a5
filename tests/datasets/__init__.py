"""Records as training data."""
