"""Parts: an agent's run, a guardrail's check, and a handoff from one agent to another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec
from opentelemetry.context import Context

from callspan.agent.child_scope import ChildScope
from callspan.agent.context import metadata_of
from callspan.agent.faults import error_info
from callspan.agent.runtime import Runtime
from callspan.agent.scope import IDLE, Scope, treated
from callspan.agent.times import Time
from callspan.agent.tools import tool_call_fact
from callspan.agent.values import as_bool, as_text
from callspan.record.events import AGENT_START, EventRecord, Record, start_id
from callspan.record.ids import new_id

if TYPE_CHECKING:
    from callspan.agent.event_recorder import EventRecorder

_ABSENT: Final = msgspec.UNSET


class Part(ChildScope):
    """One part of an agent's work: a span and an event row.

    Set `output` to what came of it, or `error` to an exception or text where it failed without raising.
    """

    __slots__ = ("_given", "_id", "_metadata", "error", "name", "output")

    kind: ClassVar[str]
    """Type of its event."""
    is_aside = True

    def __init__(
        self,
        name: str | None = None,
        given: object = None,
        owner: EventRecorder | None = None,
    ) -> None:
        super().__init__(owner)
        self._id = new_id()
        self._given = given
        self.name = as_text(name)
        self.output: object = _ABSENT
        self.error: BaseException | str | None = None
        self._metadata: Mapping[str, object] = {}

    @property
    def id(self) -> str:
        """The id of the event row."""
        return self._id

    def returned(self, result: object) -> None:
        """Keep what a decorated function returned as the output."""
        self.output = result

    def fresh(self, name: str, arguments: Mapping[str, object]) -> Scope:
        """Return a new one for one call of a function, with its arguments; an idle one where nothing records."""
        if self.nobody_records():
            return IDLE
        return type(self)(self.name or name, arguments if self._given is None else self._given, self._asked_by)

    def system(self) -> str | None:
        """Return the name of the agent it runs in, or None."""
        return None if self.above is None else self.above.acting()

    def _renew(self) -> None:
        super()._renew()
        self._id = new_id()
        self.output, self.error = _ABSENT, None

    def _announce(self, runtime: Runtime, base: Context) -> None:
        self._metadata = metadata_of(base)
        self.begin_span(treated(self._record(None, None), runtime), base)

    def _close(self, error: BaseException | None) -> None:
        if self.runtime is None:
            return
        shown = treated(self._record(error, self.elapsed_ns()), self.runtime, "event")
        self.span.end(shown, error)
        self.write(shown)
        if not self.is_aside:
            self._tell_above(shown)

    def _record(self, error: BaseException | None, duration_ns: int | None) -> EventRecord:
        data = {} if self._given is None else {"input": self._given}
        if self.output is not _ABSENT:
            data["output"] = self.output
        session = self.session
        return EventRecord(
            event_id=self._id,
            session_id=self.place.session_id,
            timestep_id=self.place.timestep_id,
            timestep=self.place.timestep,
            event_type=self.kind,
            name=self.name,
            time_ns=self.start_ns,
            duration_ns=duration_ns,
            sequence=session.next_sequence() if session is not None else None,
            system=self.system(),
            data=data or None,
            error=error_info(error if error is not None else self.error),
            flags=list(self._flags),
            metadata=self._told(),
        )

    def _tell_above(self, shown: Record) -> None:
        if self.above is not None:
            self.above.observe(shown)

    def _told(self) -> dict[str, object]:
        return dict(self._metadata)


class Agent(Part):
    """One run of an agent among several: a span `invoke_agent {name}`; what it calls and runs is below it.

    An event row `agent`, announced at its start by a row `agent_start`.
    """

    __slots__ = ("description",)

    kind = "agent"
    is_aside = False

    def __init__(
        self,
        name: str | None = None,
        given: object = None,
        owner: EventRecorder | None = None,
        description: str | None = None,
    ) -> None:
        super().__init__(name, given, owner)
        self.description = as_text(description)

    def fresh(self, name: str, arguments: Mapping[str, object]) -> Scope:
        """Return a new run of the same agent for one call of a function; an idle one where nothing records."""
        run = super().fresh(name, arguments)
        if isinstance(run, Agent):
            run.description = self.description
        return run

    def acting(self) -> str | None:
        """Return its name: what runs in it is this agent's doing."""
        return self.name

    def _announce(self, runtime: Runtime, base: Context) -> None:
        self._metadata = metadata_of(base)
        told = msgspec.structs.replace(self._record(None, None), event_id=start_id(self._id), event_type=AGENT_START)
        shown = treated(told, runtime)
        self.begin_span(shown, base)
        self.write(shown)
        self._tell_above(shown)

    def _told(self) -> dict[str, object]:
        about = {} if self.description is None else {"description": self.description}
        return {**self._metadata, **about}


class Guardrail(Part):
    """One check of what goes in or comes out: a span `guardrail {name}` and an event row `guardrail`.

    Set `triggered` to whether it found something; a decorated function's answer is that where it is a bool.
    """

    __slots__ = ("triggered",)

    kind = "guardrail"

    def __init__(
        self,
        name: str | None = None,
        given: object = None,
        owner: EventRecorder | None = None,
    ) -> None:
        super().__init__(name, given, owner)
        self.triggered: bool | None = None

    def _renew(self) -> None:
        super()._renew()
        self.triggered = None

    def returned(self, result: object) -> None:
        """Keep what a decorated function returned: whether it found something, or what it says about it."""
        super().returned(result)
        if isinstance(result, bool):
            self.triggered = result

    def _told(self) -> dict[str, object]:
        triggered = as_bool(self.triggered)
        return {**self._metadata} if triggered is None else {**self._metadata, "triggered": triggered}


class Handoff(Part):
    """One agent passes the work on to another: a span `handoff {to}` and an event row `handoff`."""

    __slots__ = ("_asked", "_sender")

    kind = "handoff"

    def __init__(
        self,
        name: str | None = None,
        given: object = None,
        owner: EventRecorder | None = None,
        sender: str | None = None,
        call: object = None,
    ) -> None:
        super().__init__(name, given, owner)
        self._sender = as_text(sender)
        self._asked = call if isinstance(call, str) else as_text(tool_call_fact(call, "id"))

    @classmethod
    def made(
        cls, to: str, sender: str | None, call: object, reason: object, owner: EventRecorder | None, at: Time | None
    ) -> str:
        """Record one that has been made, at once; return its event's id."""
        handoff = cls(to, reason, owner, sender, call)
        handoff.start(current=False, at=at)
        handoff.end()
        return handoff.id

    def system(self) -> str | None:
        """Return who passes the work on: as given, else the agent it runs in."""
        return self._sender or super().system()

    def _record(self, error: BaseException | None, duration_ns: int | None) -> EventRecord:
        return msgspec.structs.replace(super()._record(error, duration_ns), tool_call_id=self._asked)
