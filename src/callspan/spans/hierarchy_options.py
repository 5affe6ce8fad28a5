"""Hierarchy options: how sessions, timesteps and what is in them are shown."""

from __future__ import annotations

from typing import Final

from callspan.vocabulary.values import ByteBudget

_KIB: Final = 1024


class HierarchyOptions:
    """How the hierarchy is shown: content or not, `llm.meta.*`, compatibility names, byte caps."""

    __slots__ = ("attribute_bytes", "compatibility", "content", "llm", "span_bytes")

    def __init__(
        self,
        *,
        content: bool = True,
        compatibility: bool = True,
        llm: bool = True,
        attribute_bytes: int = 32 * _KIB,
        span_bytes: int = 128 * _KIB,
    ) -> None:
        self.content = content
        self.compatibility = compatibility
        self.llm = llm
        self.attribute_bytes = attribute_bytes
        self.span_bytes = span_bytes

    def budget(self) -> ByteBudget:
        """Return the bytes of content a new span may hold."""
        return ByteBudget(self.attribute_bytes, self.span_bytes)
