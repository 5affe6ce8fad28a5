"""Datasets out of records made by hand."""
