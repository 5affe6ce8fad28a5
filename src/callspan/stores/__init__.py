"""Stores: write records and read them."""
