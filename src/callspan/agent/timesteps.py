"""Timestep: one turn between the agent and its environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.context import Context

from callspan.agent.arguments import Time, as_dict, as_int, as_text
from callspan.agent.context import metadata_of
from callspan.agent.decorators import Decorating
from callspan.agent.episode import OPEN_STEPS, STEP_SPANS, RunningTotals
from callspan.agent.event_recorder import EventRecorder
from callspan.agent.misuse import UsageError
from callspan.agent.runtime import Runtime, span_ref
from callspan.agent.scope import scope_of
from callspan.errors import application_error, outcome_of
from callspan.fail_open import fail_open
from callspan.process.processed import Processed
from callspan.process.processors import with_span
from callspan.record.call import Place
from callspan.record.events import Record, TimestepRecord
from callspan.record.ids import new_id
from callspan.record.span_handle import with_span_ids

if TYPE_CHECKING:
    from callspan.agent.sessions import Session


class Timestep(EventRecorder, Decorating):
    """One turn of a session: a span `timestep`, a row at its start and at its end.

    Made by `session.timestep()` or `callspan.timestep()`. `id` and `index` are known from the start on. Safe from any
    thread.

    Raises:
        UsageError: Misuse, such as a start outside a session; only inside `callspan.testing.capture()`, see `Session`.

    Example:
        >>> with callspan.session("chat") as session, session.timestep("answer") as step:
        ...     _ = step.observation("Where is my parcel?")
        ...     _ = step.reward(1.0, source="user")
        >>> step.index
        0
    """

    __slots__ = (
        "_at",
        "_find",
        "_first",
        "_given",
        "_index",
        "_info",
        "_session",
        "_status",
        "_step_id",
        "_terminated",
        "_truncated",
        "id",
    )

    def __init__(
        self,
        find: Callable[[], Session | None],
        name: str | None = None,
        turn: int | None = None,
        metadata: Mapping[str, object] | None = None,
        at: Time | None = None,
        step_id: str | None = None,
    ) -> None:
        """`find` returns the session of a step that starts; None: there is none."""
        super().__init__()
        self._find = find
        self._given = (as_text(name), as_int(turn))
        self._at = at
        self._step_id = as_text(step_id) or None
        self._info = as_dict(metadata)
        self._session: Session | None = None
        self._first: TimestepRecord | None = None
        self._status: str | None = None
        self._index = -1
        self._terminated: bool | None = None
        self._truncated: bool | None = None
        self.id = new_id()

    def __repr__(self) -> str:
        """Return its id, index, name and state."""
        return f"<Timestep {self.id} index={self.index} name={self.name!r} {self.state}>"

    @property
    def index(self) -> int:
        """Position in the session, from 0, as this process counts; -1 before the start."""
        return self._index

    @property
    def name(self) -> str | None:
        """The name it was given; None when it has none. Names may repeat."""
        return self._given[0]

    @property
    def step_id(self) -> str | None:
        """The application's own id; None if none was given."""
        return self._step_id

    @property
    def session(self) -> Session | None:
        """The session it belongs to; None before the start."""
        return self._session

    @property
    def _step(self) -> Timestep:
        """The timestep itself."""
        return self

    def update(self, status: str | None = None, metadata: Mapping[str, object] | None = None) -> None:
        """Set a word of your own as the step's outcome, and merge metadata key by key; written at once.

        What is None, a value in `metadata` too, changes nothing. May be called again, and after the end.
        """
        self._status = self._status if status is None else as_text(status)
        self._info.update(as_dict(metadata))
        if self._first is not None and self._runtime is not None:
            with fail_open("record an update of a timestep"):
                self._write(self._runtime.process(self._later(self._first, self._status), self._level))

    def _saw_end(self, terminated: bool | None, truncated: bool | None) -> None:
        """Store the environment's last `terminated` and `truncated` flags."""
        self._terminated = self._terminated if terminated is None else terminated
        self._truncated = self._truncated if truncated is None else truncated

    def _fresh(self, name: str, arguments: Mapping[str, object]) -> Timestep:  # noqa: ARG002
        """Return a new step like this one, for one call of a function."""
        given, turn = self._given
        return Timestep(self._find, given or name, turn, self._info)

    def _admit(self, at: Time | None) -> int:
        start_ns = super()._admit(self._at if at is None and not self._started else at)
        if not self._started:
            session = self._find()
            if session is None:
                raise UsageError("a timestep belongs into `with callspan.session(...)`")
            session._check_open()
            self._session = session
        return start_ns

    def _open(self, current: Context) -> Context:
        session = self._session
        if session is None:
            return current
        self._runtime = session._runtime
        self._index = session._episode.next_index()
        self._place = Place(
            session_id=session._place.session_id,
            session_name=session._place.session_name,
            timestep_id=self.id,
            timestep=self._index,
        )
        around = scope_of(current)
        # Started in another thread or session, its parent is its session, not the scope that is current there.
        inside = around is not None and around.session is session
        self._above = above = around if inside and around is not None else session
        session._open_steps[self.id] = OPEN_STEPS[self.id] = self
        above._add_to_totals(RunningTotals.add_timesteps, 1)
        return current if inside else session._inner or current

    def _announce(self, runtime: Runtime, base: Context) -> None:
        session = self._session
        if session is None:
            return
        if around := metadata_of(base):
            self._info = {**around, **self._info}
        link = session._last if runtime.trace_per_timestep and self._above is session else None
        self._first = self._record(session)
        shown = runtime.process(self._first, self._level, "timestep_start")
        self._begin_span(shown, base, link=link, root=link is not None, workflow=session._shown_name)
        # Only the span: a session must not keep references to its steps, of which there may be a million.
        session._last = self._span
        self._write(with_span(shown, self._span))

    def _close(self, error: BaseException | None) -> Processed[Record] | None:
        session = self._session
        if session is not None:
            session._open_steps.pop(self.id, None)
        STEP_SPANS.put(self.id, span_ref(self._span, self._place))
        OPEN_STEPS.pop(self.id, None)
        if self._runtime is None or self._first is None:
            return None
        record = msgspec.structs.replace(
            self._later(self._first, self._status or outcome_of(error)),
            end_ns=self._start_ns + self._elapsed_ns(),
            error=application_error(error) if isinstance(error, Exception) else None,
            totals=self._running.totals(),
        )
        return self._runtime.process(record, self._level, "timestep_end")

    def _record(self, session: Session) -> TimestepRecord:
        name, turn = self._given
        return TimestepRecord(
            timestep_id=self.id,
            session_id=session.id,
            seen_ns=session._episode.next_time_ns(),
            index=self._index,
            user_step_id=self._step_id,
            name=name,
            turn=turn,
            parent_timestep_id=None if self._above is None else self._above._place.timestep_id,
            start_ns=self._start_ns,
            metadata=dict(self._info),
        )

    def _later(self, first: TimestepRecord, outcome: str | None) -> TimestepRecord:
        """Return the first record, updated."""
        record = msgspec.structs.replace(
            first,
            seen_ns=first.seen_ns if self._session is None else self._session._episode.next_time_ns(),
            metadata=dict(self._info),
            terminated=self._terminated,
            truncated=self._truncated,
            outcome=outcome,
        )
        return with_span_ids(record, self._span)
