"""Claims: which versions of calls, tool runs and batches this process has recorded, or is recording.

A claim is held by a token until its work is done. Where the work fails, the claim is released, and the next one who
reads the same records it. Without a lock, which a signal handler could wait for that has interrupted its holder.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from callspan.background import LRUCache
from callspan.record.call import Part
from callspan.record.merging import RANKS

_MOST: Final = 16_384
_S = TypeVar("_S")


class Claim(Generic[_S]):
    """The right of one holder to record a version."""

    __slots__ = ("_following", "before", "state", "token")

    def __init__(self, token: object, state: _S | None, before: _S | None) -> None:
        self.token = token
        self.state, self.before = state, before
        """What is recorded with this version, and what was recorded before it; None: nothing."""
        self._following: list[Claim[_S]] = []

    def last(self) -> Claim[_S]:
        """Return the newest claim that has followed this one."""
        claim = self
        while claim._following:
            claim = claim._following[0]
        return claim

    def follow(self, claim: Claim[_S]) -> bool:
        """Make `claim` the next one; False if another one already is."""
        # list.append is atomic, so the first item is the accepted one.
        self._following.append(claim)
        return self._following[0] is claim

    def finish(self) -> None:
        """Keep the version as recorded."""
        self.token = None

    def release(self) -> None:
        """Give the version back: it was not recorded."""
        self.state, self.token = self.before, None


class Claims(Generic[_S]):
    """The newest claim for each key; remembers the newest 16,384 keys. Safe from any thread and signal handler."""

    def __init__(self) -> None:
        self._claims: LRUCache[Hashable, Claim[_S]] = LRUCache(_MOST)

    def take(self, key: Hashable, token: object, adds: Callable[[_S | None], _S | None]) -> Claim[_S] | None:
        """Return the claim of `token` for a version; None if another one has recorded, or is recording, as much.

        `adds` takes what was recorded, None for nothing, and returns what will be; None: the version adds nothing.
        The same token gets the same claim again.
        """
        root: Claim[_S] = Claim(None, None, None)
        known = root if self._claims.claim(key, root) else self._claims.get(key) or root
        while True:
            known = known.last()
            if token is not None and known.token is token:
                return known
            state = adds(known.state)
            if state is None:
                return None
            claim = Claim(token, state, known.state)
            if known.follow(claim):
                self._claims.put(key, claim)
                return claim

    def state(self, key: Hashable) -> _S | None:
        """Return what is recorded, or being recorded, for a key; None: nothing."""
        known = self._claims.get(key)
        return None if known is None else known.last().state


def later(part: Part) -> Callable[[Part | None], Part | None]:
    """Return what `Claims.take` asks of versions that one with a later part replaces."""
    return lambda known: part if known is None or RANKS[part] > RANKS[known] else None


def unless_known(known: bool | None) -> bool | None:
    """Say to `Claims.take` that something is recorded once."""
    return None if known else True
