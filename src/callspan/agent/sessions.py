"""Session: one episode or conversation."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Mapping
from typing import SupportsFloat

import msgspec
from opentelemetry.context import Context

from callspan.agent.arguments import SupportsBool, Time, as_bool, as_dict, as_text
from callspan.agent.context import Carrier, carrier_of, metadata_of, read_carrier, with_metadata
from callspan.agent.event_recorder import EventRecorder
from callspan.agent.misuse import installed_or_warn
from callspan.agent.registry import episode_of, open_level
from callspan.agent.rewards import RewardArguments
from callspan.agent.runtime import Runtime
from callspan.agent.scope import Scope, current_timestep, scope_of
from callspan.agent.timesteps import Timestep
from callspan.process.processed import ProcessedRecord
from callspan.process.processors import with_span
from callspan.process_identity import own_identity
from callspan.record.call import Place
from callspan.record.events import Record, SessionRecord, TimestepRecord, Totals
from callspan.record.labels import label_of
from callspan.record.span_handle import with_span_ids
from callspan.settings import Content, strictest
from callspan.spans.session import NO_SPAN, span_ref


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `callspan.session`."""

    name: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    group_id: str | None = None
    task_id: str | None = None
    experiment: str | None = None
    metadata: Mapping[str, object] | None = None
    carrier: Mapping[str, str] | None = None
    parent: Session | Timestep | str | None = None
    at: Time | None = None


class Session(EventRecorder):
    """One episode or conversation: a span `invoke_workflow {name}`, and a record at its start, updates and end.

    Created by `callspan.session(...)`. A session continued by a carrier adds to the original one: it has no span of its
    own, and its end does not end the episode. Thread-safe.

    Misuse is logged once and has no effect, except inside `callspan.testing.capture()`, where it raises.

    Raises:
        UsageError: Misuse inside `callspan.testing.capture()`, such as an event after the end, a second start, a reward
            that is not a number, or an invalid time.

    Example:
        >>> with callspan.session("gridworld", metadata={"seed": 7}) as session:
        ...     with session.timestep() as step:
        ...         _ = step.action("north")
        ...         _ = step.environment("a wall", reward=-0.1, terminated=False)
        ...     session.outcome(success=False)
    """

    kind = "session"
    _end_point = "session_end"

    def __init__(self, identity: Identity) -> None:
        super().__init__()
        self._identity = identity
        self._carrier = read_carrier(identity.carrier)
        self._is_remote = self._carrier.place.session_id is not None
        """Whether it continues a session of another process, which has its span and ends it."""
        self._is_update = self._is_remote
        """Whether its record already has a start, from another process or an earlier session with the same id."""
        self.episode = episode_of(self._carrier.place.session_id or identity.session_id)
        self._at = identity.at
        self.id, self.name = self.episode.id, identity.name or self._carrier.place.session_name
        self.place = Place(session_id=self.id, session_name=self.name)
        self.counted_in = (self.episode.running,)
        self._info = as_dict(identity.metadata)
        self.last_span = NO_SPAN
        """The span of its last timestep, else its own."""
        self.processed_name: str | None = None
        """Its name as the processors returned it at its start; None before."""
        self.open_steps: dict[str, Timestep] = {}
        self._parent_id: str | None = None
        self._success: bool | None = None

    @property
    def session(self) -> Session | None:
        """The session itself."""
        return self

    def timestep(
        self,
        name: str | None = None,
        turn: int | None = None,
        metadata: Mapping[str, object] | None = None,
        *,
        step_id: str | None = None,
        at: Time | None = None,
    ) -> Timestep:
        """Return the next timestep, to be used with `with`; it gets its index at its start.

        `step_id` is an id of your own, unique within the session: it is recorded as `user_step_id`, and filters and
        `callspan show` find it. `at` is the start time; by default when the block is entered.
        """
        return Timestep(name, turn, metadata, at, step_id, self)

    def outcome(
        self,
        reward: SupportsFloat | None = None,
        success: SupportsBool | None = None,
        status: str | None = None,
        *,
        at: Time | None = None,
    ) -> None:
        """Set the outcome of the episode: the reward of the whole, success, and a status of your own.

        The last reward given here is the session's, whatever the rewards of its events. May be called repeatedly, also
        after the end; None leaves a value unchanged. `at` is the time of the reward.
        """
        if reward is not None:
            self.give_reward(RewardArguments(reward, at=at))
        self._success = self._success if success is None else as_bool(success)
        self.update(status=status)

    def update(
        self,
        status: str | None = None,
        metadata: Mapping[str, object] | None = None,
        *,
        experiment: str | None = None,
        task_id: str | None = None,
        group_id: str | None = None,
        user_id: str | None = None,
    ) -> None:
        """Set a status of your own as the outcome and labels of the session, and merge metadata by key.

        Written immediately. None leaves a value unchanged, also in `metadata`. May be called repeatedly, also after the
        end.
        """
        given = {"experiment": experiment, "task_id": task_id, "group_id": group_id, "user_id": user_id}
        labels = {name: text for name, value in given.items() if (text := as_text(value)) is not None}
        if labels:
            self._identity = msgspec.structs.replace(self._identity, **labels)
        super().update(status, metadata)

    def carrier(self) -> Carrier:
        """Return the argument `carrier` of `callspan.session` that continues this session in another process."""
        return carrier_of(self.id, self.name, self.span)

    def new_block(self, name: str, arguments: Mapping[str, object]) -> Session:  # noqa: ARG002
        """Return a new session like this one, for one call of a function."""
        identity = self._identity
        return Session(msgspec.structs.replace(identity, name=identity.name or name, at=None))

    def _innermost(self) -> EventRecorder:
        """Return the current timestep of this session, else the session."""
        step = current_timestep()
        return self if step is None or step.session is not self or step.state == "ended" else step

    def _enter(self, current: Context) -> Context:
        self.runtime = installed_or_warn()
        identity = self._identity
        enclosing, parent = scope_of(current), identity.parent
        if isinstance(parent, Scope):
            current, enclosing = parent.inner or current, parent
        outer_id = parent if isinstance(parent, str) else enclosing.place.session_id if enclosing else None
        self._parent_id = outer_id if outer_id != self.id else None
        self._is_update = self.episode.enter(self) or self._is_remote
        self._info = {**metadata_of(current), **self._info}
        # Calls get the user as metadata: of a session's fields, their records have only its id and name.
        return current if identity.user_id is None else with_metadata(current, {"user_id": identity.user_id})

    def _own_level(self) -> Content:
        """Return the strictest level of the enclosing session and of open sessions with the same id."""
        return strictest(open_level(self.id), open_level(self._parent_id))

    def _announce(self, runtime: Runtime, base: Context) -> None:
        # The record keeps the first start; the span of a continued session starts now.
        record = msgspec.structs.replace(self._record(), start_ns=self._start_ns)
        first = runtime.process(record, self.level, None if self._is_update else "session_start")
        self.processed_name = first.record.name
        remote = runtime.spans.remote(self._carrier)
        if remote is None:
            self._begin_span(runtime, first, base, link=runtime.spans.remote(self.episode.span))
        else:
            self.span = remote
        self.last_span = self.span
        self.episode.span = span_ref(self.span, self.place)
        if not self._is_update:
            self._write(runtime, with_span(first, self.span))

    def _leave(self, error: BaseException | None) -> None:
        super()._leave(error)
        for step in list(self.open_steps.values()):
            step.end(error)

    def _note_end(self) -> None:
        self.episode.exit(self)

    def _observe_end(self, final: ProcessedRecord[Record]) -> None:
        if self.runtime is not None and not self._has_given_times:
            self.runtime.session_ended(final, self._start_ns)

    def _final_record(self, error: BaseException | None, duration_ns: int) -> SessionRecord | TimestepRecord:
        return self._record() if self._is_remote else super()._final_record(error, duration_ns)

    @property
    def _totals(self) -> Totals | None:
        return None if self._is_remote else super()._totals

    def _outcome(self, error: BaseException | None) -> str:
        is_failure = self._status is None and error is None and self._success is False
        return "failure" if is_failure else super()._outcome(error)

    def _record(self) -> SessionRecord:
        # Two steps: a call with more than fifteen keywords builds a dictionary, which takes several times as long.
        identity, runtime = self._identity, self.runtime
        record = SessionRecord(
            session_id=self.id,
            seen_ns=self.episode.next_time_ns(),
            name=self.name,
            group_id=identity.group_id,
            task_id=identity.task_id,
            experiment=identity.experiment,
            user_id=identity.user_id,
            parent_session_id=self._parent_id,
            service=runtime.service if runtime is not None else None,
            outcome=self._status,
            success=self._success,
            metadata=dict(self._info),
            content_level=self._content_level,
        )
        if self._is_update:
            # Absent fields keep the values of the first start, which the store may lack if that has ended.
            is_inner = self._is_remote or any(one is not self for one in self.episode.open_sessions())
            return record if is_inner else msgspec.structs.replace(record, start_ns=self._start_ns)
        user_id = identity.user_id or label_of(self._info, "user_id")
        record = msgspec.structs.replace(
            record, user_id=user_id, start_ns=self._start_ns, host=_host(), pid=os.getpid(), process=own_identity()
        )
        return with_span_ids(record, self.span)


@functools.cache
def _host() -> str:
    return socket.gethostname()
