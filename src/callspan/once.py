"""Once: marks what is done a single time per process, from any thread."""

from __future__ import annotations

from collections.abc import Hashable


class Once:
    """Remembers keys. Without a lock: a signal handler may ask while the thread it has interrupted asks too."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[Hashable, object] = {}

    def first(self, key: Hashable) -> bool:
        """Return True for exactly one caller per key, until `forget`."""
        mine = object()
        return key not in self._seen and self._seen.setdefault(key, mine) is mine

    def forget(self) -> None:
        """Start anew. For tests."""
        self._seen.clear()
