"""Lock-free: a flag, a set and a cache that threads, signal handlers and finalizers share.

None takes a lock, because a signal handler would wait forever for one that is held by the thread it interrupted. Each
step is one operation of a dictionary, which is atomic under the GIL.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

_MAX_KEYS: Final = 1024
_K = TypeVar("_K")
_V = TypeVar("_V")


class AtomicFlag(dict[str, bool]):
    """A flag that exactly one of several threads and signal handlers can clear.

    True while it is set, initially with `AtomicFlag(is_set=True)`. It is a dictionary, because its truth value calls no
    function.
    """

    __slots__ = ()

    def set(self) -> None:
        """Set the flag; safe in finalizers."""
        self["is_set"] = True

    def test_and_clear(self) -> bool:
        """Clear the flag; return True to the one caller that cleared it."""
        return self.pop("is_set", False)


class Once:
    """A set of up to 1,024 keys that were seen."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[Hashable, object] = {}

    def first(self, key: Hashable) -> bool:
        """Return True for exactly one caller per key; False for all further keys once the set is full."""
        marker, keys = object(), self._keys
        return key not in keys and len(keys) < _MAX_KEYS and keys.setdefault(key, marker) is marker

    def forget(self) -> None:
        """Remove all keys. For tests."""
        self._keys.clear()


class LRUCache(Generic[_K, _V]):
    """A mapping of bounded size; the least recently used entry is evicted first."""

    __slots__ = ("_entries", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[_K, _V] = OrderedDict()

    def get(self, key: _K) -> _V | None:
        """Return the value, or None, and mark the entry as used."""
        value = self._entries.get(key)
        if value is not None:
            self._renew(key)
        return value

    def put(self, key: _K, value: _V) -> None:
        """Set a value."""
        entries = self._entries
        entries.pop(key, None)
        entries[key] = value
        if len(entries) > self._limit:
            entries.popitem(last=False)

    def pop(self, key: _K) -> _V | None:
        """Remove an entry and return its value, or None."""
        return self._entries.pop(key, None)

    def setdefault(self, key: _K, value: _V) -> _V:
        """Return the value of a key, which is this one if there was none, and mark the entry as used."""
        entries = self._entries
        kept_value = entries.setdefault(key, value)
        self._renew(key)
        if len(entries) > self._limit:
            entries.popitem(last=False)
        return kept_value

    def is_first(self: LRUCache[_K, object], key: _K) -> bool:
        """Add a key with a new value; return whether it was missing."""
        value = object()
        return self.setdefault(key, value) is value

    def _renew(self, key: _K) -> None:
        try:
            self._entries.move_to_end(key)
        except KeyError:
            return  # evicted by another thread

    def items(self) -> list[tuple[_K, _V]]:
        """Return all entries, the least recently used first."""
        # Listing the keys is atomic; listing the items is not.
        return [(key, value) for key in list(self._entries) if (value := self._entries.get(key)) is not None]
