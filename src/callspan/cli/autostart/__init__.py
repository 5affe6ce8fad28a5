"""Autostart: the directory `callspan run` puts first on the path of Python."""
