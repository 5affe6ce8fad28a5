"""A scripted provider: an HTTP server on loopback with the APIs of several providers, for tests."""

from __future__ import annotations

from callspan.testing.provider.script import Choice, ReceivedRequest, Reply
from callspan.testing.provider.server import ScriptedProvider

__all__ = ["Choice", "ReceivedRequest", "Reply", "ScriptedProvider"]
