"""Interception through the real SDKs over a real socket; each body runs sync and async."""
