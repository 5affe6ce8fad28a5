"""Delivery: takes processed records, and records that ended processes left, to the stores."""
