"""Hierarchy options: how sessions, timesteps and what is in them are shown."""

from __future__ import annotations

from typing import Final

from callspan.semconv.budgets import ByteBudget

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

    def budget(self, *, reserved: bool = False) -> ByteBudget:
        """Return the bytes of content a new span may hold; `reserved` keeps back those of what went in and came out."""
        return ByteBudget(self.attribute_bytes, self.span_bytes - (self._reserve if reserved else 0))

    def rest(self, used: ByteBudget | None) -> ByteBudget:
        """Return what is left for what went in and came out, of a span whose other content has `used` its budget."""
        left = self.span_bytes if used is None else used.left + self._reserve
        return ByteBudget(self.attribute_bytes, left)

    @property
    def _reserve(self) -> int:
        return min(2 * self.attribute_bytes, self.span_bytes // 2)
