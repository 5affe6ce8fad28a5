"""Alibaba: the own API of DashScope."""
