"""Delivery: from processed records to the stores, and of what ended processes left."""
