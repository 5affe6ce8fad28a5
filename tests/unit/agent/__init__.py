"""Unit tests of the agent API."""
