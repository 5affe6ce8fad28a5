"""Last: keeps the last event that contains a body, for streams that are not folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.wire_json import Json, detached


class LastBody:
    """Keeps the last body that `find` returns for an event."""

    usage_rule: ClassVar[UsageRule] = "last whole"

    def __init__(self, find: Callable[[object], Json | None]) -> None:
        self._body: Json | None = None
        self._find = find
        self.complete = False
        """True once a body was received."""

    def add(self, event: object) -> bool:
        """Keep the body of an event, if it has one; return True, because any event may carry content."""
        body = self._find(event)
        if body is not None:
            self._body, self.complete = detached(body), True
        return True

    def body(self) -> Json | None:
        """Return the body; None if none was received."""
        return self._body
