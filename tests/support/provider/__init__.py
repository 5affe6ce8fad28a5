"""The scripted provider with the endpoints that only our own tests need."""

from __future__ import annotations

from tests.support.provider.server import FullProvider

__all__ = ["FullProvider"]
