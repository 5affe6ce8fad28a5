"""Stores: where records rest, and how they are read again."""
