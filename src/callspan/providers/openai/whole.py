"""Whole bodies: the accumulator of endpoints that have no streams."""

from __future__ import annotations

from callspan.providers.copies import detached


class WholeBody:
    """Keeps the one body there is."""

    __slots__ = ("_body", "_holds", "complete")

    def __init__(self, holds: str) -> None:
        """`holds` is the key without which a body is no answer."""
        self.complete = False
        self._holds = holds
        self._body: dict[str, object] | None = None

    def add(self, chunk: object) -> bool:
        """Take a whole body; the last one wins. True if it is an answer."""
        if not isinstance(chunk, dict):
            return False
        self._body = detached(chunk)
        self.complete = self._holds in chunk
        return self.complete

    def body(self) -> dict[str, object] | None:
        """Return the body; None if none came."""
        return self._body
