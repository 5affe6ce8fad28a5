"""Anthropic's endpoints, on every platform."""
