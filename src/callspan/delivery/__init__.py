"""Delivery: delivers processed records, and records left by ended processes, to the stores."""
