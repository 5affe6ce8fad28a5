"""Tests of rows of docs/features.md that no other test covers."""
