"""Session tools: the runs of an application's tools for a hosted session, which the SDK answers from its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import UNSET
from opentelemetry.context import Context

from callspan.agent.operations import Tool
from callspan.agent.runtime import known_level
from callspan.record.call import ErrorInfo, Place
from callspan.settings import Content, strictest

TOOL_ERROR: Final = ErrorInfo(kind="unknown", type="tool_error")


def known_facts(facts: Mapping[str, object], level: Content) -> dict[str, object]:
    """Return those of a tool's facts that are known; its description only where all content is kept."""
    hidden = () if level == "full" else ("description",)
    return {name: value for name, value in facts.items() if value is not None and name not in hidden}


class SessionTool(Tool):
    """One run of a tool for a session that runs at the provider, in the scope around the code that answers it.

    Outside of a session of callspan it belongs to the hosted one, whose content level holds in either case.
    """

    __slots__ = ("_facts", "_failed", "_session_id")

    def __init__(
        self, name: object, tool_call_id: object, given: object, session_id: str | None, facts: Mapping[str, object]
    ) -> None:
        """`facts` are what its metadata have beside those around it; None: not known."""
        super().__init__(str(name), str(tool_call_id), given)
        self._session_id, self._facts, self._failed = session_id, facts, False

    def halt(self, error: BaseException | None, value: object, *, failed: bool) -> None:
        """End it with its result; UNSET: it has none."""
        if value is not UNSET:
            self.result = value
        self._failed = failed
        self.end(error)

    def _open(self, current: Context) -> Context:
        opened = super()._open(current)
        if self._place.session_id is None:
            self._place = Place(session_id=self._session_id)
        return opened

    def _own_level(self) -> Content | None:
        known = None if self._session_id is None else known_level("session", self._session_id)
        return strictest(super()._own_level(), known)

    def _failure(self, error: BaseException | None) -> ErrorInfo | None:
        return super()._failure(error) or (TOOL_ERROR if self._failed else None)

    def _own_metadata(self) -> dict[str, object]:
        return {**self._metadata, **known_facts(self._facts, self._content_level)}
