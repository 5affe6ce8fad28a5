"""Lines: joins the JSON lines of a stream. The last line has `"done": true` and the counters.

An error may come as a line of a stream with status 200.
"""

from __future__ import annotations

from typing import ClassVar, Final

from callspan.providers.fold.merge import finished_copy, grow
from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.wire_json import Json, detached

_GROWING: Final = frozenset({"content", "thinking", "response"})
_LISTS: Final = frozenset({"tool_calls", "images", "logprobs"})
"""Lists that are deltas: each line has only what is new."""


class LinesFold:
    """Texts grow, of other fields the last value counts."""

    usage_rule: ClassVar[UsageRule] = "last whole"

    def __init__(self) -> None:
        self._body: Json = {}

    @property
    def complete(self) -> bool:
        """True once the last line was received."""
        return self._body.get("done") is True

    @property
    def ended(self) -> bool:
        """True once the last line was received."""
        return self.complete

    def add(self, line: object) -> bool:
        """Fold in one line; return True if it carried content."""
        return isinstance(line, dict) and _merge(self._body, line)

    def body(self) -> Json | None:
        """Return the body so far; None if nothing was received."""
        return finished_copy(self._body) or None


def _merge(target: Json, line: Json) -> bool:
    has_content = False
    for key, value in line.items():
        if key in _GROWING and isinstance(value, str):
            has_content = grow(target, key, value) or has_content
        elif key in _LISTS and isinstance(value, list):
            if not isinstance(target.get(key), list):
                target[key] = []
            target[key].extend(detached(value))
            has_content = has_content or bool(value)
        elif key == "message" and isinstance(value, dict):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            has_content = _merge(target[key], value) or has_content
        elif value is not None:
            target[key] = detached(value)
    return has_content
