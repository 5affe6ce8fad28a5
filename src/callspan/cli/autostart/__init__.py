"""Autostart: the directory that `callspan run` puts first on `PYTHONPATH`."""
