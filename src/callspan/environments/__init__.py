"""Adapters that record the episodes of other libraries' environments."""
