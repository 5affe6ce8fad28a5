"""Timestep: one turn between the agent and its environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from opentelemetry.context import Context

from callspan.agent.arguments import Time, as_dict, as_int, as_text
from callspan.agent.event_recorder import EventRecorder
from callspan.agent.misuse import UsageError
from callspan.agent.registry import REGISTRY
from callspan.agent.runtime import Runtime
from callspan.agent.scope import current_session
from callspan.agent.totals import RunningTotals
from callspan.process.processors import with_span
from callspan.record.events import TimestepRecord
from callspan.record.ids import new_id
from callspan.record.span_handle import with_span_ids
from callspan.spans.session import span_ref

if TYPE_CHECKING:
    from callspan.agent.scope import Scope
    from callspan.agent.sessions import Session


class Timestep(EventRecorder):
    """One turn of a session: a span `timestep`, and a record at its start and at its end.

    Created by `session.timestep()` or `callspan.timestep()`. `id` and `index` are known from its start. Thread-safe.

    Raises:
        UsageError: Misuse, such as a start outside a session; only inside `callspan.testing.capture()`, see `Session`.

    Example:
        >>> with callspan.session("chat") as session, session.timestep("answer") as step:
        ...     _ = step.observation("Where is my parcel?")
        ...     _ = step.reward(1.0, source="user")
        >>> step.index
        0
    """

    index: int
    """Index within the session in this process, from 0; -1 before the start."""
    step_id: str | None
    """The application's own id, if given."""
    _owner: Session
    """Its session; None before the start of one that was created without a session."""
    above: Scope
    kind = "timestep"
    _end_point = "timestep_end"

    def __init__(
        self,
        name: str | None = None,
        turn: int | None = None,
        metadata: Mapping[str, object] | None = None,
        at: Time | None = None,
        step_id: str | None = None,
        session: Session | None = None,
    ) -> None:
        """`session` is the current one at its start by default."""
        super().__init__(session)
        self._at, self._turn = at, as_int(turn)
        self.name, self.step_id = as_text(name), as_text(step_id) or None
        self._info = as_dict(metadata)
        self.index = -1
        self._terminated: bool | None = None
        self._truncated: bool | None = None
        self.id = new_id()

    @property
    def session(self) -> Session | None:
        """The session it belongs to; of one that was created without a session, None before its start."""
        return self._owner

    @property
    def step(self) -> Timestep:
        """The timestep itself."""
        return self

    def note_episode_end(self, result: Mapping[str, Any]) -> None:
        """Store the last `terminated` and `truncated` flags, see `environment_fields`."""
        terminated, truncated = result.get("terminated"), result.get("truncated")
        self._terminated = self._terminated if terminated is None else terminated
        self._truncated = self._truncated if truncated is None else truncated

    def new_block(self, name: str, arguments: Mapping[str, object]) -> Timestep:  # noqa: ARG002
        """Return such a timestep for one call of a function."""
        return Timestep(self.name or name, self._turn, self._info, session=self._owner)

    def _admit(self, at: Time | None) -> None:
        owner = self._owner or current_session()
        if owner is None:
            raise UsageError("a timestep must be started inside `with callspan.session(...)`")
        self._owner = owner
        super()._admit(at)

    def _enter(self, current: Context) -> Context:
        current, session, parent = super()._enter(current), self._owner, self.above
        self.index = next(session.episode.indices)
        self.place = msgspec.structs.replace(parent.place, timestep_id=self.id, timestep=self.index)
        session.open_steps[self.id] = REGISTRY.open_steps[self.id] = self
        parent.add({"timesteps": 1})
        self.counted_in = (RunningTotals(), *parent.counted_in)
        return current

    def _announce(self, runtime: Runtime, base: Context) -> None:
        session = self._owner
        link = session.last_span if runtime.trace_per_timestep and self.above is session else None
        processed = runtime.process(self._record(), self.level, "timestep_start")
        self._begin_span(runtime, processed, base, link=link, root=link is not None, workflow=session.processed_name)
        # Only the span: a session must not keep references to its timesteps, of which there may be a million.
        session.last_span = self.span
        self._write(runtime, with_span(processed, self.span))

    def _note_end(self) -> None:
        self._owner.open_steps.pop(self.id, None)
        REGISTRY.step_spans.put(self.id, span_ref(self.span, self.place))
        REGISTRY.open_steps.pop(self.id, None)

    def _record(self) -> TimestepRecord:
        session, parent = self._owner, self.above
        record = TimestepRecord(
            timestep_id=self.id,
            session_id=session.id,
            seen_ns=session.episode.next_time_ns(),
            index=self.index,
            user_step_id=self.step_id,
            name=self.name,
            turn=self._turn,
            parent_timestep_id=parent.place.timestep_id,
            start_ns=self._start_ns,
            metadata=dict(self._info),
            terminated=self._terminated,
            truncated=self._truncated,
            outcome=self._status,
        )
        return with_span_ids(record, self.span)
