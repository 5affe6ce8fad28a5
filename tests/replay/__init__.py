"""Recorded calls answered again."""
