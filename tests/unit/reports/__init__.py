"""Text, charts and prices: pure functions."""
