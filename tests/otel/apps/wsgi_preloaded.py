"""The WSGI application of `wsgi.py`, which has asked something before the server forks."""

from calling import ask
from wsgi import application

__all__ = ["application"]

ask("asked by the master")
