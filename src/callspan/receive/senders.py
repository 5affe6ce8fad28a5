"""Senders: the programs that report here, and the sessions of their records."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from callspan.intercept.programs import SESSION
from callspan.providers.wire_json import text
from callspan.receive.decoding import Attributes, LogEvent
from callspan.record.call import Place
from callspan.record.events import EventRecord, SessionRecord
from callspan.runtime.process_identity import own_identity
from callspan.settings import Content

_SUCCESS: Final = "success"
_DECISION: Final = (("decision", "decision"), ("decision_source", "source"), ("tool_type", "tool_source"))
"""Names in the metadata of a tool's record, each with its name in the event of the decision."""


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """The program that sends, as far as callspan started it."""

    place: Place = Place()
    """The session that started it; without one its own sessions are recorded."""
    trace_id: str | None = None
    span_id: str | None = None
    """The span that was current at its start."""
    level: Content = "full"
    """The content level when it was started."""
    metadata: dict[str, object] = {}
    """The metadata of the code that started it."""
    bodies: Path | None = None
    """The directory that callspan made for its body files; no other file is read."""

    def place_of(self, event: LogEvent, own: Place) -> Place:
        """Return the session that started the program, by what is known here or by its event; else its `own`."""
        if self.place.session_id is not None:
            return self.place
        session_id = text(event.resource, SESSION)
        return own if session_id is None else Place(session_id=session_id)


def tool_run(
    event_id: str, event: LogEvent, sender: Sender, place: Place, decision: Attributes, duration_ns: int
) -> EventRecord:
    """Return the record of a tool's run, as far as every program states it in the same way.

    Args:
        event_id: The id of the record.
        event: The event of the run's end.
        sender: The program that ran the tool.
        place: The session of the record.
        decision: The attributes of the event that says whether the tool may run; empty without one.
        duration_ns: How long the tool ran.
    """
    return EventRecord(
        event_id=event_id,
        session_id=place.session_id,
        timestep_id=place.timestep_id,
        timestep=place.timestep,
        event_type="tool",
        name=None if sender.level == "off" else text(event.attributes, "tool_name"),
        time_ns=event.time_ns - duration_ns,
        duration_ns=duration_ns,
        metadata={name: value for name, key in _DECISION if (value := text(decision, key)) is not None},
        trace_id=sender.trace_id,
        parent_span_id=sender.span_id,
    )


class ProgramSession:
    """A session of the program's own. It reports no end: once the program has ended, its last event is the end."""

    def __init__(self, event: LogEvent, place: Place, sender: Sender) -> None:
        """`event` is the first one. The session runs at most as long as this process receives."""
        self.sender = sender
        self.start = SessionRecord(
            session_id=place.session_id or "",
            seen_ns=event.time_ns,
            name=place.session_name,
            service=text(event.resource, "service.name"),
            start_ns=event.time_ns,
            resumed_ns=event.time_ns,
            process=own_identity(),
        )
        self._first_ns = self.last_ns = event.time_ns
        """The times of the first and the last event."""
        self._outcome = _SUCCESS

    def go_on(self, event: LogEvent, outcome: str | None = None) -> None:
        """Add an event, and the session's outcome if it is the last one; None leaves the outcome as it was."""
        if event.time_ns >= self.last_ns:
            self._outcome = outcome or self._outcome
        self._first_ns = min(self._first_ns, event.time_ns)
        self.last_ns = max(self.last_ns, event.time_ns)

    def ended(self) -> SessionRecord:
        """Return the record of its end."""
        start_ns, end_ns = self._first_ns, self.last_ns
        return msgspec.structs.replace(
            self.start, seen_ns=end_ns + 1, start_ns=start_ns, end_ns=end_ns, outcome=self._outcome
        )
