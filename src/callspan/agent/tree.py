"""Tree: a scope is a node of a tree. A session, a timestep and a tool differ only in their `Kind` (`kinds.py`).

The difficult part is which scope is current. Python copies the context for every task, may close a generator in a
different task than the one that started it, and lets threads end what others started. Each of these must leave the code
around it as it was. Four rules follow:

- The current scope is stored in the OpenTelemetry context, beside the current span. Both follow tasks, and threads that
  get the context, and never disagree.
- An end restores the context from before the start by attaching it, because a token can be reset only in the context
  that set it. If the end ran in a copy, the original still has the ended scope, and `current_context()` skips it. A
  task that started inside rightly keeps it; `OriginContext` tells the two apart.
- Nothing is attached across a `yield`: a decorated generator is current only while it runs, by `resume`.
- A node does not keep the context that it makes current, nor a session its timesteps: such cycles would keep a million
  timesteps until the garbage collector runs. `inner` is built on each access.

The order of an end matters. First the context is restored, so that the application goes on even if recording fails; an
inner scope that was left open ends before. Then totals and registries are updated, also if nothing is recorded. Then
the record is made, because it states the totals, processed, written, and given to the enclosing scopes. An interrupt
can come between any two steps: then the whole end runs again on another thread, which no signal handler interrupts.
Each step is therefore safe to repeat, and the span is started only once.

Kinds were classes that overrode each other's methods, five bases deep: to follow one end, one had to read six files.
Now the engine is here, once, and calls the functions of the kind.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, ParamSpec, TypeAlias, TypeVar

import msgspec
from opentelemetry.context import Context, attach, get_current, set_value
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import get_current_span

from callspan.agent.arguments import Time, moment, offset
from callspan.agent.context import (
    SCOPE,
    AsyncWithMixin,
    OriginContext,
    block_of,
    content_of,
    current_context,
    metadata_of,
    with_block,
    within_block,
    without_ended_scopes,
)
from callspan.agent.decorators import block_opener, decorated
from callspan.agent.misuse import UsageError, current_runtime_or_warn, report_misuse
from callspan.agent.runtime import Runtime, current_runtime
from callspan.agent.tool_requests import MAX_PARALLEL, Answer
from callspan.agent.totals import RunningTotals, sums_of_call
from callspan.process.callbacks import Point
from callspan.process.processed import ProcessedRecord
from callspan.record.call import CallRecord, Place, Trace
from callspan.record.events import EventRecord, Record, RewardRecord, ScopeRecord
from callspan.record.ids import CallIdCell, new_id
from callspan.record.messages import Conversation
from callspan.record.reward_sums import NO_REWARD, sums_of
from callspan.record.span_handle import FOREIGN_RUNS, span_ids
from callspan.runtime.fail_open import fail_open
from callspan.semconv.scope_messages import ScopeExchange, exchange_in
from callspan.settings import Content, strictest
from callspan.spans.session import NO_SPAN

if TYPE_CHECKING:
    from typing_extensions import Self

    from callspan.agent.kinds import Kind
    from callspan.agent.sessions import Session
    from callspan.agent.timesteps import Timestep

CallEnded: TypeAlias = Callable[[ProcessedRecord[CallRecord], Conversation | None], None]
"""Called with an ended call and its messages."""
_P = ParamSpec("_P")
_R = TypeVar("_R")
_NO_STEPS: Final[Mapping[str, Timestep]] = MappingProxyType({})
LOOSE_CALLS: Final = [0]
"""About how many calls of this process have ended in no scope."""
_START: Final = fail_open("record the start of a session, timestep or tool")
_START_SPAN: Final = fail_open("start the span of a session, timestep or tool")
_RECORD: Final = fail_open("record an event of a session")
_OBSERVE: Final = fail_open("keep the input or output of a session")
_END: Final = fail_open("end a session, timestep or tool")
_ADOPT: Final = fail_open("find the scope of an agent's span")


class Node(AsyncWithMixin):
    """A part of an agent's work that starts once, is current for the running code, and ends once.

    Used with `with`, `async with`, or `start()` and `end()`. Only the first end counts. An exception in the block is
    recorded and propagates unchanged.
    """

    kind: ClassVar[Kind]
    """Its kind: the functions that make its records, and in what it differs from other kinds."""
    is_named_late: ClassVar[bool] = False
    """Whether its name or ids may become known after its start."""
    reads_arguments: ClassVar[bool] = False
    """Whether `new_block` needs the arguments of a decorated function by name; binding them takes time."""
    place: Place = Place()
    open_steps: Mapping[str, Timestep] = _NO_STEPS
    """Of a session: its open timesteps by id."""
    counted_in: Sequence[RunningTotals] = ()
    """The totals of the enclosing timesteps and session, innermost first; its own is the first."""
    agent: Any = None
    """The run of an agent that is the nearest around it; None outside of agents."""
    is_automatic: bool = False
    """Whether callspan itself starts it; then it has no span while OpenTelemetry's instrumentation is suppressed."""

    id: str
    """The id, known before the start; of an operation also the id of its event."""
    name: str | None
    _is_announced: bool = False
    """Whether its span was started and its first record written, as far as that is possible."""
    _blocks: int = 0
    """The number of its `with` blocks that are open: one within another, or in another thread, is misuse."""
    state: Literal["new", "running", "ended"]

    def __init__(self, owner: Node | None = None) -> None:
        """`owner` is its enclosing scope; by default the current scope at its start."""
        self.owner = self.above = owner
        """`above` is the enclosing scope, such as a tool's timestep or a timestep's session; None for a session."""
        self.runtime: Runtime | None = None
        self.span = NO_SPAN
        self.base: Context | None = None
        self.outer: Context | None = None
        self.origin_context: OriginContext | None = None
        """Where it became current; None once it has been left there."""
        self.state = "new"
        self.start_ns = self._clock_ns = 0
        self.level: Content = "full"
        self.duration_ns: int | None = None
        self._at: Time | None = None
        """The start time given to the constructor."""
        self.has_given_times = False
        """Whether its start or end time was given by `at`."""
        self.info: dict[str, object] = {}
        """The metadata."""
        self.answers: Sequence[Answer] = ()
        """The answers of the last call that ended inside, and of calls that ran in parallel to it."""
        self.last_call: CallIdCell | None = None
        """The id of the newest call inside."""

    def __repr__(self) -> str:
        """Return its id, name and state."""
        return f"<{type(self).__name__} {self.id} name={self.name!r} {self.state}>"

    @property
    def inner(self) -> Context | None:
        """The context with this scope as the current one; None before the start.

        Built on each access, because a stored context would form a reference cycle with this scope.
        """
        return None if self.base is None else set_value(SCOPE, self, self.span.within(self.base))

    @property
    def content_level(self) -> Content:
        """The content level for its own record: of its start, or the current setting if that is stricter."""
        runtime = current_runtime() or self.runtime
        return self.level if runtime is None else strictest(self.level, runtime.content)

    @property
    def session(self) -> Session | None:
        """The session this belongs to; None outside a session, and for a timestep that has not found its own yet."""
        node: Any = self
        while node is not None and not node.kind.is_session:
            node = node.above
        return node  # type: ignore[no-any-return]

    @property
    def step(self) -> Timestep | None:
        """The timestep this is or belongs to; None outside a timestep."""
        node: Any = self
        while node is not None and not node.kind.is_timestep:
            node = node.above
        return node  # type: ignore[no-any-return]

    def start(self, *, current: bool = True, at: Time | None = None) -> Self:
        """Start, and become the current scope unless `current` is False; return the scope itself.

        `using` makes it current later. `at` is the start time, now by default. Misuse has no effect.
        """
        try:
            self._admit(at)
        except UsageError as error:
            report_misuse(error)
            return self
        try:
            outside = current_context()
            self._begin(outside)
            if current and (inner := self.inner) is not None:
                self.outer, self.origin_context = outside, OriginContext()
                attach(inner)
            return self
        except BaseException as error:  # the block will not be entered
            self.state = "running"
            self.runtime = None if self.base is None else self.runtime
            self.end(error)
            raise

    def end(self, error: BaseException | None = None, *, at: Time | None = None) -> None:
        """End, with the exception that ended it if there was one, and restore the previous current scope.

        `at` is the end time; by default now, by the monotonic clock. Only the first end counts. Misuse has no effect.
        """
        if self.state != "running":
            return
        if at is not None:
            self.duration_ns = offset(at, self.start_ns)
            if self.duration_ns is None:
                return
            self.has_given_times = True
        try:
            self._leave(error)
            if self.open_steps:
                for step in list(self.open_steps.values()):
                    step.end(error)
            self.state = "ended"
            if self.outer is not None:
                self.outer = without_ended_scopes(self.outer)  # so that ended scopes can be freed
            self._finish(error)
        except BaseException:
            self._end_later(error)
            raise

    @contextmanager
    def using(self) -> Iterator[None]:
        """Make this the current scope for a block, without starting or ending it. A context manager; not reusable."""
        outer = current_context()
        attach(within_block(self.inner or outer, outer))
        try:
            yield
        finally:
            restore(outer)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return the function with such a scope around each call, until a returned coroutine or generator ends."""
        prototype: Any = self
        return decorated(function, partial(block_opener, prototype))

    def function_returned(self, result: object) -> None:
        """Receive the result of the decorated function."""
        self.kind.returned(self, result)

    def start_quietly(self) -> None:
        """Start without becoming current, unless it was started before."""
        if self.state == "new":
            self.start(current=False)

    resume = using
    """The context manager of one advance of a decorated generator."""

    def generator_ended(self, error: BaseException | None) -> None:
        """End; closing a generator before its end is no error."""
        self.end(None if isinstance(error, GeneratorExit) else error)

    def collected(self) -> None:
        """End on another thread, unless it has ended."""
        if self.state == "running":
            self._end_later(None)

    def _admit(self, at: Time | None) -> None:
        """Set the start time. Raises UsageError if it must not start, or the time is invalid."""
        if self.kind.needs_session:
            self.owner = self.owner or current_session()
            if self.owner is None:
                raise UsageError(f"a {self.kind.name} must be started inside `with callspan.session(...)`")
        if self.state != "new":
            raise UsageError(f"a {self.kind.name} can be started only once; create a new one")
        if self.owner is not None:
            self.owner.check_open()
        at = self._at if at is None else at
        # One right after the other: the recorded end is earlier than the real one by the time between the two.
        self.start_ns, self._clock_ns = moment(at), time.perf_counter_ns()
        self.has_given_times = at is not None

    def check_open(self, *, late: bool = False) -> None:
        """Raise UsageError unless it was started and, if not `late`, has not ended."""
        if self.state == "new":
            raise UsageError(f"start the {self.kind.name} with `with` before recording anything in it")
        if self.state == "ended" and not late:
            raise UsageError(f"the {self.kind.name} has ended; nothing more can be recorded in it")

    def _begin(self, outside: Context) -> None:
        base, block = self.kind.enter(self, outside), block_of(outside)
        if self.runtime is not None:
            self.level = strictest(self.runtime.content, block, content_of(base), self.kind.outer_level(self))
        self.base = with_block(base, block)  # from here on its record is written, also if an interrupt comes
        if self.runtime is not None:
            with _START:
                self.kind.first(self, self.runtime, self.base)
            self._is_announced = True
        self.state = "running"

    def _make_up_for_start(self, runtime: Runtime) -> None:
        """Start the span and write the first record if an interrupt cut that off, once.

        A redactor may raise the interrupt each time; the end must be recorded nevertheless.
        """
        if not self._is_announced and self.base is not None:
            self._is_announced = True
            with _START:
                self.kind.first(self, runtime, self.base)

    def enter(self, current: Context) -> Context:
        """Inherit from the enclosing scope; return the base of its context: `current`, or the owner's context."""
        owner, enclosing = self.owner, scope_of(current, self)
        if owner is not None and not is_within(enclosing, owner):
            # Started in another thread or session.
            enclosing, current = owner, owner.inner or current
        self.above = enclosing
        if enclosing is None:
            self.runtime = current_runtime_or_warn()
        else:
            self.runtime, self.place = enclosing.runtime, enclosing.place
            self.counted_in = enclosing.counted_in
            self.agent = enclosing if enclosing.kind.is_agent else enclosing.agent
        self.info = {**metadata_of(current), **self.info}
        return current

    def _leave(self, error: BaseException | None) -> None:
        """Restore the previous current scope if this one is current; end scopes that were left open inside it."""
        scope = _own_scope(current_context())
        if scope is not self and not is_within(scope, self):
            return
        while scope is not None and scope is not self:
            scope.end(error)
            scope = scope.above
        self._restore()

    def _restore(self) -> None:
        if self.outer is not None:
            restore(self.outer)
            if self.origin_context is not None and self.origin_context.is_current():
                self.origin_context = None

    def _finish(self, error: BaseException | None) -> None:
        """Write the final record and end the span; called once more if it was interrupted."""
        with _END:
            duration_ns = self.duration_ns = self._elapsed_ns()
            self.kind.count(self)
            if (runtime := self.runtime) is not None:
                self._make_up_for_start(runtime)
                record = self.kind.last(self, error, duration_ns)
                final = runtime.process(record, self.level, self.kind.end_point)
                self.span.end(final, named_late=self.is_named_late)
                self.write(runtime, self.kind.stored(self, final))
                self.kind.ended(self, final)
        if self.kind.finished is not None:
            self.kind.finished(self, error)

    def _end_later(self, error: BaseException | None) -> None:
        """End on another thread, for example because an interrupt stopped the first attempt to end."""
        self.duration_ns, self.state = self._elapsed_ns(), "ended"
        context = contextvars.copy_context()  # which has the content level of the block
        if is_within(_own_scope(current_context()), self):
            self._restore()
        if self.runtime is not None:
            self.runtime.run_again(partial(context.run, self._finish, error))

    def _elapsed_ns(self) -> int:
        """Return the nanoseconds from the start to the given end time, else to now by the monotonic clock."""
        return time.perf_counter_ns() - self._clock_ns if self.duration_ns is None else self.duration_ns

    def call_ended(self, processed: ProcessedRecord[CallRecord], conversation: Conversation | None = None) -> None:
        """Add an ended call to the totals, and its messages to the input and output, of this and all outer scopes."""
        record = processed.record
        if record.is_first_version:
            return
        if conversation is not None:
            self.observe(processed, conversation)
        answer, start_ns = Answer(record), record.timing.start_ns
        self.add(sums_of_call(record))
        scope: Node | None = self
        while scope is not None:
            parallel = [earlier for earlier in scope.answers if earlier.end_ns > start_ns]
            scope.answers = [*parallel[1 - MAX_PARALLEL :], answer]
            # The tools requested by the calls of a tool run inside it.
            scope = None if scope.kind.is_tool else scope.above

    def latest_answers(self) -> Sequence[Answer]:
        """Return the latest answers; also the newest call's, if its stream is complete but not read to its end."""
        newest = self.last_call
        call = None if newest is None or newest.stream is None else newest.stream()
        if newest is None or call is None or self.level != "full":
            return self.answers
        record = None if any(answer.call_id == newest.value for answer in self.answers) else call.answered()
        if record is None:
            return self.answers
        return [*(answer for answer in self.answers if answer.end_ns > record.timing.start_ns), Answer(record)]

    def count_reward(self, record: Record) -> None:
        """Add the reward of a processed record, if any, to the totals of this scope and the enclosing ones.

        A session's reward is added only to its own.
        """
        sums, counted_in = sums_of(record), self.counted_in
        if sums is NO_REWARD or not counted_in or not counted_in[-1].is_counted(record):
            return
        is_of_session = isinstance(record, RewardRecord) and record.scope == "session"
        for totals in counted_in[-1:] if is_of_session else counted_in:
            totals.add_reward(sums)

    def add(self, sums: Mapping[str, int | None]) -> None:
        """Add to the totals of this scope and the enclosing ones."""
        for totals in self.counted_in:
            totals.add(sums)

    def next_sequence(self) -> int | None:
        """Return the next sequence number of events in this session; None without a session."""
        session = self.session
        return None if session is None else next(session.episode.sequence)

    def event_record(
        self, event_type: str, time_ns: int, *, event_id: str | None = None, **fields: Any,
    ) -> EventRecord:  # fmt: skip
        """Return an event of this scope's session and timestep; `fields` are further fields of its record."""
        # Two steps, as a call with more than fifteen keywords builds a dictionary.
        place = self.place
        record = EventRecord(
            event_id=event_id or new_id(),
            session_id=place.session_id,
            timestep_id=place.timestep_id,
            timestep=place.timestep,
            event_type=event_type,
            time_ns=time_ns,
        )
        return msgspec.structs.replace(record, **fields) if fields else record

    def emit(self, record: Record, point: Point | None = None, level: Content | None = None) -> None:
        """Add an event, message or reward to the span and write it, after the callbacks of `point`.

        `level` is the content level of its target, if that is another scope.
        """
        if (runtime := self.runtime) is None:
            return
        with _RECORD:
            processed = runtime.process(record, strictest(self.level, level), point)
            processed = self.span.event(processed)
            self.write(runtime, processed)
            self.count_reward(processed.record)
            self.observe(processed)

    def observe(self, processed: ProcessedRecord[Record], conversation: Conversation | None = None) -> None:
        """Add the input or output in a record to this scope and the enclosing ones."""
        with _OBSERVE:
            exchange: ScopeExchange | None = None
            scope: Node | None = self
            while scope is not None and not scope.kind.hides_messages:
                messages = scope.span.messages
                if messages is not None:
                    exchange = exchange or exchange_in(processed.record, conversation, messages.room)
                    if exchange is None:
                        return
                    messages.add(exchange)
                scope = scope.above

    def start_span(
        self, runtime: Runtime, processed: ProcessedRecord[ScopeRecord], parent: Context, **links: Any
    ) -> None:  # fmt: skip
        """Start this scope's span from its first record; for `links` see `SessionSpans.start`."""
        if self.span is NO_SPAN and (not self.is_automatic or is_instrumentation_enabled()):
            with _START_SPAN:
                self.span = runtime.spans.start(processed, parent=parent, **links)

    def write(self, runtime: Runtime, processed: ProcessedRecord[Record]) -> None:
        """Write a record; it is not measured if its times were given."""
        write = runtime.write_unmeasured if self.has_given_times else runtime.write
        write(processed)

    def span_ids(self) -> dict[str, Any]:
        """Return the span's ids as fields of a record."""
        ids, step = span_ids(self.span), self.step
        if step is not None and step.span.trace_id != self.span.trace_id:
            ids["trace"] = msgspec.structs.replace(self.span.trace or Trace(), is_apart=True)
        return ids

    def __deepcopy__(self, _: object) -> Self:
        """Return the scope itself, because the application may copy an object that refers to it."""
        return self

    def __enter__(self) -> Self:
        self._blocks = self._blocks + 1 if self.state == "running" else 1
        try:
            return self.start()  # last: an interrupt after it would leave the scope open, without a block that ends it
        except UsageError:  # the block is not entered
            self._blocks -= 1
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks -= 1
        if self._blocks < 1:
            self.end(error)


def current_scope() -> Node | None:
    """Return the innermost session, timestep or operation of the running code, or None."""
    return scope_of(current_context())


def current_session() -> Session | None:
    """Return the current session, or None.

    Example:
        >>> callspan.current_session() is None
        True
    """
    scope = current_scope()
    return None if scope is None else scope.session


def current_timestep() -> Timestep | None:
    """Return the current timestep, or None.

    Example:
        >>> with callspan.session("chat"), callspan.timestep("answer"):
        ...     callspan.current_timestep().name
        'answer'
    """
    scope = current_scope()
    return None if scope is None else scope.step


def ambient() -> tuple[Place | None, CallEnded | None, dict[str, object]]:
    """Return the place of a call made now, the function to call at its end, and its metadata.

    Outside sessions, timesteps and operations, the first two have the value None.
    """
    context = get_current()
    scope: Any = context.get(SCOPE)
    metadata = dict(metadata_of(context))
    if FOREIGN_RUNS and (scope := scope_of(context)) is None:
        run = FOREIGN_RUNS.get(get_current_span(context).get_span_context().span_id)
        return None, None if run is None else run.keeper(), metadata
    return (None, None, metadata) if scope is None else (scope.place, scope.call_ended, metadata)


def scope_of(context: Context, newcomer: Node | None = None) -> Node | None:
    """Return the innermost scope in `context`, of callspan's own or of a span of other code; None without one.

    `newcomer` is the scope that starts there, if any.
    """
    own: Any = context.get(SCOPE)
    if FOREIGN_RUNS:
        with _ADOPT:
            run = FOREIGN_RUNS.get(get_current_span(context).get_span_context().span_id)
            return own if run is None else run.nearest(own, newcomer)  # type: ignore[no-any-return]
    return own  # type: ignore[no-any-return]


def _own_scope(context: Context) -> Node | None:
    scope: Any = context.get(SCOPE)
    return scope  # type: ignore[no-any-return]


def is_within(scope: Any, outer: Node) -> bool:
    """Return whether `scope` is `outer` or inside it; False for None."""
    while scope is not None and scope is not outer:
        scope = scope.above
    return scope is not None


def restore(outer: Context) -> None:
    """Make `outer` current again, within the current content blocks.

    Attaches instead of detaching, because OpenTelemetry logs an error for another task's token.
    """
    attach(with_block(without_ended_scopes(outer), block_of(get_current())))
