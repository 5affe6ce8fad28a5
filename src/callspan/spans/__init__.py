"""Spans and metrics, made of records and their lives."""
