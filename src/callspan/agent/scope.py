"""Scope: what sessions, timesteps and operations share: start and end, a span, a place, totals, the enclosing scopes.

The current scope is kept in the OpenTelemetry context: it follows tasks, and threads that the context is passed to.
"""

from __future__ import annotations

import contextvars
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, TypeVar

import msgspec
from opentelemetry.context import Context, attach, get_current, set_value

from callspan.agent.arguments import Time, moment, offset
from callspan.agent.context import SCOPE, block_of, content_of, metadata_of, with_content, within_block
from callspan.agent.decorators import Block
from callspan.agent.episode import RunningTotals
from callspan.agent.misuse import UsageError, installed_or_warn, refuse
from callspan.agent.runtime import Runtime
from callspan.agent.tool_requests import MAX_PARALLEL, Answer
from callspan.fail_open import fail_open
from callspan.frames import FRAMES
from callspan.process import processors
from callspan.process.callbacks import Point
from callspan.process.processed import Processed
from callspan.record.call import CallRecord, Place, Trace
from callspan.record.events import EventRecord, Record, RewardRecord
from callspan.record.ids import new_id
from callspan.record.messages import Conversation
from callspan.record.span_handle import span_ids
from callspan.semconv.scope_messages import Observed, observed
from callspan.settings import Content, strictest
from callspan.spans.session import NO_SPAN

if TYPE_CHECKING:
    from typing_extensions import Self

    from callspan.agent.call_ids import Begun
    from callspan.agent.event_recorder import EventRecorder

_V = TypeVar("_V")
CallEnded: TypeAlias = Callable[[Processed[CallRecord], Conversation | None], None]
"""Takes an ended call and its messages."""
_NOWHERE: Final = Place()
_STARTING: Final = fail_open("record the start of a session, timestep or tool")
_SHOWING: Final = fail_open("start the span of a session, timestep or tool")
_RECORDING: Final = fail_open("record an event of a session")
_OBSERVING: Final = fail_open("keep what went into or came out of a session")
_FRAMES_S: Final = 0.5
"""Seconds to wait for the calls over websockets whose last message was received."""
_ENDING: Final = fail_open("end a session, timestep or tool")


class Scope(Block, ABC):
    """A part of an agent's work that is started, is current for the running code, and ends once.

    Used with `with`, `async with`, or `start()` and `end()`. The first end counts. An exception of the block
    marks the scope and passes on unchanged.
    """

    _kind: ClassVar[str]
    """What it is: a word for messages, and the type of the event of an operation."""
    _is_aside: ClassVar[bool] = False
    """Whether its messages are not input or output of the enclosing scope: tools, guardrails, environments."""
    _is_observed: ClassVar[bool] = False
    """Whether its own input and output are messages of the enclosing scope."""
    _end_point: ClassVar[Point]
    """The callbacks of its end."""
    _running: RunningTotals | None = None
    """Its totals; None where nothing reads them."""

    state: Literal["new", "running", "ended"]
    """Whether it has started and ended."""

    def __init__(self, owner: Scope | None = None) -> None:
        """`owner` is the scope it is started in wherever it starts; None: the innermost one there."""
        self._owner = self._above = owner
        """`_above` is the enclosing scope: a tool's timestep, a timestep's session; None for a session."""
        self._place = _NOWHERE
        self._runtime: Runtime | None = None
        self._span = NO_SPAN
        self._base: Context | None = None
        self._outer: Context | None = None
        self.state = "new"
        self._start_ns = self._clock_ns = 0
        self._level: Content = "full"
        self._lasted_ns: int | None = None
        self._at: Time | None = None
        """When it begins; None: at its start."""
        self._is_explicit = False
        """Whether its start or end was given by `at`."""
        self._info: dict[str, object] = {}
        """Its metadata."""
        self._answers: Sequence[Answer] = ()
        """Those of the last call that has ended below, and of the calls beside it."""
        self._last_call: Begun | None = None
        """The newest call begun below."""

    @property
    def _inner(self) -> Context | None:
        """The context in which this is the current one; None before the start.

        Built on each access: a stored context would make a reference cycle with this scope.
        """
        return None if self._base is None else set_value(SCOPE, self, self._span.within(self._base))

    @property
    def _content_level(self) -> Content:
        """The content level that it was begun with, also by the setting, for what comes after its end."""
        return self._level if self._runtime is None else strictest(self._level, self._runtime.content)

    @property
    def session(self) -> Scope | None:
        """The session this belongs to; None for a tool outside any."""
        return None if self._above is None else self._above.session

    @property
    def _step(self) -> EventRecorder | None:
        """The timestep this is or belongs to; None outside of one."""
        return None if self._above is None else self._above._step

    def start(self, *, current: bool = True, at: Time | None = None) -> Self:
        """Start, and become the current scope unless `current` is False (`using` can make it current later).

        `at` is when it began; None: now. Return the scope itself. Misuse starts nothing.
        """
        try:
            start_ns = self._admit(at)
        except UsageError as error:
            refuse(error)
            return self
        try:
            outside = get_current()
            self._begin(start_ns, outside)
            if current and (inner := self._inner) is not None:
                self._outer = outside
                attach(inner)
            return self  # noqa: TRY300 - an interrupt may come here too
        except BaseException as error:  # its block is never entered
            self.state = "running"
            self._runtime = None if self._base is None else self._runtime
            self.end(error)
            raise

    def end(self, error: BaseException | None = None, *, at: Time | None = None) -> None:
        """End, with the exception that ended it if there was one, and restore the previous current scope.

        `at` is when it ended; None: now, by the monotonic clock. Only the first end counts. Misuse ends nothing.
        """
        if self.state != "running":
            return
        if at is not None:
            try:
                self._lasted_ns = offset(at, self._start_ns)
            except UsageError as misuse:
                refuse(misuse)
                return
            self._is_explicit = True
        try:
            if FRAMES.waiting or FRAMES.reading:
                FRAMES.drain(_FRAMES_S)  # the calls that they end count here
            self._leave(error)
            self.state = "ended"
            self._finish(error)
        except BaseException:
            self._end_later(error)
            raise

    def using(self) -> Using:
        """Return a context manager that makes this the current scope for a block; it starts and ends nothing."""
        return Using(self)

    def _prepare(self) -> None:
        self.start(current=False)

    def _advance(self) -> Using:
        return Using(self)

    def _exhausted(self, error: BaseException | None) -> None:
        self.end(None if isinstance(error, GeneratorExit) else error)

    def _admit(self, at: Time | None) -> int:
        """Return the start time. Raises UsageError where it may not start, or the time is invalid."""
        if self.state != "new":
            raise UsageError(f"each {self._kind} starts once; make a new one")
        if self._owner is not None:
            self._owner._check_open()
        at = self._at if at is None else at
        if at is None:
            return time.time_ns()
        self._is_explicit = True
        return moment(at)

    def _check_open(self) -> None:
        """Raise UsageError unless it was started and has not ended."""
        if self.state == "new":
            raise UsageError(f"use the {self._kind} with `with` before anything is recorded in it")
        if self.state == "ended":
            raise UsageError(f"the {self._kind} has ended; nothing happens in it any more")

    def _begin(self, start_ns: int, outside: Context) -> None:
        self._start_ns, self._clock_ns = start_ns, time.perf_counter_ns()
        base, block = self._enter(outside), block_of(outside)
        if self._runtime is None:
            self._base = with_content(base, block)
        else:
            self._level = strictest(block, content_of(base), self._own_level())
            self._base = base = with_content(base, block, self._level)
            with _STARTING:
                self._announce(self._runtime, base)
        self.state = "running"

    def _enter(self, current: Context) -> Context:
        """Set runtime and place; return the context to derive this scope's own from: `current` or its owner's."""
        owner, around = self._owner, scope_of(current)
        if owner is not None and not is_within(around, owner):
            # Started in another thread or session.
            around, current = owner, owner._inner or current
        self._above = around
        if around is None:
            self._runtime = installed_or_warn()
        else:
            self._runtime, self._place = around._runtime, around._place
        self._info = {**metadata_of(current), **self._info}
        return current

    def _leave(self, error: BaseException | None) -> None:
        """Restore the previous current scope, if this is current or one inside it that was left open, which ends."""
        scope = current_scope()
        if scope is not self and not is_within(scope, self):
            return
        while scope is not None and scope is not self:
            scope.end(error)
            scope = scope._above
        if self._outer is not None:
            leave(self._outer)

    def _finish(self, error: BaseException | None) -> None:
        """Do all that the end does; called once more if it was interrupted."""
        with _ENDING:
            duration_ns = self._lasted_ns = self._elapsed_ns()
            self._note_end()
            if self._runtime is not None:
                record = self._final_record(error, duration_ns)
                final = self._runtime.process(record, self._level, self._end_point)
                self._span.end(final)
                self._write(final)
                self._observe_end(final)

    def _end_later(self, error: BaseException | None) -> None:
        """End on another thread, once more if an interrupt cut the end off."""
        self._lasted_ns, self.state = self._elapsed_ns(), "ended"
        here = contextvars.copy_context()  # it determines what may be recorded
        if self._outer is not None and is_within(current_scope(), self):
            leave(self._outer)
        if self._runtime is not None:
            self._runtime.run_again(partial(here.run, self._finish, error))

    @abstractmethod
    def _announce(self, runtime: Runtime, base: Context) -> None:
        """Start the span in the context `base` and write the first record."""

    @abstractmethod
    def _final_record(self, error: BaseException | None, duration_ns: int) -> Record:
        """Return the final record."""

    def _note_end(self) -> None:
        """Note the end where the enclosing scopes, or others, look for it, whether anything records or not."""

    def _elapsed_ns(self) -> int:
        """Return the nanoseconds since the start by the monotonic clock, or up to the given end time."""
        return time.perf_counter_ns() - self._clock_ns if self._lasted_ns is None else self._lasted_ns

    def _observe_end(self, final: Processed[Record]) -> None:
        """Pass the final record to the enclosing scopes."""
        if self._is_observed and self._above is not None:
            self._above._observe(final)

    def _call_ended(self, processed: Processed[CallRecord], conversation: Conversation | None = None) -> None:
        """Add an ended call to the totals, and its conversation to the input and output, of this and outer scopes."""
        record = processed.record
        if record.outcome == "started":
            return
        if conversation is not None:
            self._observe(processed, conversation)
        answer, start_ns = Answer(record), record.timing.start_ns
        scope: Scope | None = self
        is_of_tool = False
        while scope is not None:
            if not is_of_tool:
                beside = [one for one in scope._answers if one.end_ns > start_ns]
                scope._answers = [*beside[1 - MAX_PARALLEL :], answer]
                is_of_tool = scope._kind == "tool"  # what its calls request runs in it
            if scope._running is not None:
                scope._running.add_call(record)
            scope = scope._above

    def _count_reward(self, record: EventRecord | RewardRecord) -> None:
        """Add a reward to the totals of this scope and the enclosing ones; a reward of the whole session only there."""
        session = self.session
        running = None if session is None else session._running
        if running is not None and not running.is_counted(record):
            return
        is_of_session = isinstance(record, RewardRecord) and record.scope == "session"
        scope = session if is_of_session else self
        if scope is not None:
            scope._add_to_totals(RunningTotals.add_reward, record)

    def _add_to_totals(self, add: Callable[[RunningTotals, _V], object], amount: _V) -> None:
        """Add to the totals of this scope and the enclosing ones."""
        scope: Scope | None = self
        while scope is not None:
            if scope._running is not None:
                add(scope._running, amount)
            scope = scope._above

    def _sequence(self) -> int | None:
        """Return the next sequence number of events in this session; None without a session."""
        return None if self._above is None else self._above._sequence()

    def _own_level(self) -> Content:
        """Return the content level that it has besides that of its context."""
        return "full" if self._above is None else self._above._level

    def _event_record(
        self, event_type: str, time_ns: int, *, event_id: str | None = None, **fields: Any,  # noqa: ANN401
    ) -> EventRecord:  # fmt: skip
        """Return an event of this scope's session and step; a new id without `event_id`."""
        # Two steps, as for the record of a session.
        place = self._place
        record = EventRecord(
            event_id=event_id or new_id(),
            session_id=place.session_id,
            timestep_id=place.timestep_id,
            timestep=place.timestep,
            event_type=event_type,
            time_ns=time_ns,
        )
        return msgspec.structs.replace(record, **fields) if fields else record

    def _emit(self, record: Record, point: Point | None = None, level: Content | None = None) -> None:
        """Add an event, message or reward to the span and write it, after the callbacks of `point`.

        `level` is the content level of what it is for, if that is not this scope.
        """
        if self._runtime is None:
            return
        with _RECORDING:
            shown = self._runtime.process(record, strictest(self._level, level), point)
            shown = self._span.event(shown)
            self._write(shown)
            self._observe(shown)

    def _observe(self, processed: Processed[Record], conversation: Conversation | None = None) -> None:
        """Add the input and output of a record to this scope and the enclosing ones."""
        with _OBSERVING:
            seen: Observed | None = None
            scope: Scope | None = self
            while scope is not None and not scope._is_aside:
                messages = scope._span.messages
                if messages is not None:
                    seen = seen or observed(processed.record, conversation, messages.room)
                    if seen is None:
                        return
                    messages.add(seen)
                scope = scope._above

    def _begin_span(self, processed: Processed[Record], parent: Context, **links: Any) -> None:  # noqa: ANN401
        """Start this scope's span from its first record; for `links` see `SessionSpans.start`."""
        if self._runtime is not None:
            with _SHOWING:
                self._span = self._runtime.spans.start(processed, parent=parent, **links)

    def _write(self, processed: Processed[Record]) -> None:
        runtime = self._runtime
        if runtime is not None:
            unmeasured = runtime.write_unmeasured if self._is_explicit else None
            processors.write(processed, unmeasured or runtime.write)

    def _span_ids(self) -> dict[str, Any]:
        """Return the fields of a record that say where the span of this is."""
        ids, step = span_ids(self._span), self._step
        if step is not None and step._span.trace_id != self._span.trace_id:
            ids["trace"] = msgspec.structs.replace(self._span.trace or Trace(), is_apart=True)
        return ids

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)


def current_scope() -> Scope | None:
    """Return the innermost session, timestep or tool of the running code, or None."""
    scope: Any = get_current().get(SCOPE)
    return scope  # type: ignore[no-any-return] # `cast` is a call


def ambient() -> tuple[Place | None, CallEnded | None, dict[str, object]]:
    """Return the place of a call made now, what takes the call when it has ended, and its metadata.

    Place and function are None outside of sessions, timesteps and tools.
    """
    context = get_current()
    if not context:
        return None, None, {}
    scope: Any = context.get(SCOPE)
    metadata = dict(metadata_of(context))
    return (None, None, metadata) if scope is None else (scope._place, scope._call_ended, metadata)


def scope_of(context: Context) -> Scope | None:
    """Return the innermost scope `context` carries, or None."""
    scope: Any = context.get(SCOPE)
    return scope  # type: ignore[no-any-return]


def is_within(scope: Any, outer: Scope) -> bool:  # noqa: ANN401 - a scope of a context, or None
    """Return whether `scope` is `outer` or inside it."""
    while scope is not None and scope is not outer:
        scope = scope._above
    return scope is not None


def leave(outer: Context) -> None:
    """Make `outer` current again, within the present content blocks.

    Attaches instead of detaching, because OpenTelemetry logs an error for a token of another task.
    """
    attach(with_content(_still_open(outer), block_of(get_current())))


def _still_open(context: Context) -> Context:
    # If two sessions end in the order they started, the first, already ended, must not become current again.
    scope = scope_of(context)
    while scope is not None and scope.state == "ended" and scope._outer is not None and scope._outer is not context:
        context = scope._outer
        scope = scope_of(context)
    return context


class Using:
    """Context manager that makes a scope current for a block without starting or ending it."""

    __slots__ = ("_outer", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._outer = get_current()

    def __enter__(self) -> None:
        """Make the scope current."""
        self._outer = get_current()
        attach(within_block(self._scope._inner or self._outer, self._outer))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the previous current scope."""
        if is_within(current_scope(), self._scope):
            leave(self._outer)
