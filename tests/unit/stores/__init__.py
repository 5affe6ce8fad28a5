"""Stores fed by hand: small records, real files."""
