"""Last: of a stream whose events are not read, keeps the last one that is a body."""

from __future__ import annotations

from collections.abc import Callable

from callspan.providers.fold.merge import Json
from callspan.providers.wire_json import detached


class LastBody:
    """Keeps the last body that `find` returns of an event; None: it has none."""

    def __init__(self, find: Callable[[object], Json | None]) -> None:
        self._body: Json | None = None
        self._find = find
        self.complete = False
        """True once there is a body."""

    def add(self, event: object) -> bool:
        """Take an event; return True, since any may carry content."""
        found = self._find(event)
        if found is not None:
            self._body, self.complete = detached(found), True
        return True

    def body(self) -> Json | None:
        """Return the body; None if none was received."""
        return self._body
