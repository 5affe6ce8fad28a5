"""Replay tests: recorded exchanges, an oracle that reads their bytes, and a replay through the real SDKs."""
