"""Joining: which calls belong together, as pure functions of what is known of them."""
