"""Scope: what sessions, timesteps and tools share: a start, an end, a span, a place in the context."""

from __future__ import annotations

import contextvars
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Generator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from opentelemetry.context import Context, attach, get_current

from callspan.agent.api_misuse import MisuseError, flagged
from callspan.agent.context import Using, current_scope, leave, scope_of, with_scope
from callspan.agent.running_totals import RunningTotals
from callspan.agent.runtime import NO_SPAN, Runtime, SpanHandle, installed, run_now
from callspan.agent.times import Time, moment
from callspan.fail_open import fail_open
from callspan.process import callbacks
from callspan.process.callbacks import Point
from callspan.record.call import CallRecord, Place
from callspan.record.events import Record
from callspan.record.messages import Conversation
from callspan.semconv.exchange import Observed, observed

if TYPE_CHECKING:
    from typing_extensions import Self

    from callspan.agent.sessions import Session
    from callspan.agent.timesteps import Timestep


_NOWHERE: Final = Place()
_ENDING: Final = fail_open("end a session, timestep or tool")
_RECORDING: Final = fail_open("record an event of a session")
_SHOWING: Final = fail_open("start the span of a session, timestep or tool")
_OBSERVING: Final = fail_open("keep what went into or came out of a session")
_STARTING: Final = fail_open("record the start of a session, timestep or tool")
_CLOSE, _SHOW, _WRITE, _REPORT, _OVER = range(5)
"""The steps of the end."""


class _Done(Awaitable[None]):
    """What is awaited, and has been done already."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        yield from ()


_DONE: Final = _Done()


class Scope(ABC):
    """One stretch of an agent's work, between its start and its end.

    Used with `with`, `async with`, or `start()` and `end()`. The first end counts. An exception of the block
    marks the scope and passes on unchanged.
    """

    __slots__ = (
        "_clock_ns",
        "_end_step",
        "_final",
        "_lasted_ns",
        "base",
        "ended",
        "outer",
        "place",
        "running",
        "runtime",
        "span",
        "start_ns",
        "started",
    )

    is_aside: ClassVar[bool] = False
    """What is exchanged within is neither input nor output of the scope above: tools, checks, environments."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self.span = NO_SPAN
        self.place = _NOWHERE
        self.base: Context | None = None
        self.outer: Context | None = None
        self.started = self.ended = False
        self.start_ns = self._clock_ns = 0
        self._lasted_ns: int | None = None
        self._final: Record | None = None
        self._end_step = _CLOSE
        self.running = RunningTotals()

    @property
    def inner(self) -> Context | None:
        """The context in which this is the current one; None before the start.

        Made anew each time: kept, it would refer back to this and leave every step to the garbage collector.
        """
        return None if self.base is None else with_scope(self, self.span.within(self.base))

    @property
    def state(self) -> str:
        """`new`, `running` or `ended`."""
        return "ended" if self.ended else "running" if self.started else "new"

    @property
    @abstractmethod
    def session(self) -> Session | None:
        """The session this belongs to; None for a tool outside any."""

    @property
    @abstractmethod
    def step(self) -> Timestep | None:
        """The timestep this is or belongs to; None outside of one."""

    @property
    @abstractmethod
    def above(self) -> Scope | None:
        """What this is a part of: a tool's timestep, a timestep's parent step or session; None for a session."""

    def start(self, *, current: bool = True, at: Time | None = None) -> Self:
        """Begin, and become the current one unless `current` is False; what has begun without may become it later.

        `at` is when it began; None: now. Return the scope itself.
        """
        if self.ended or self.outer is not None:
            advice = f"a {type(self).__name__.lower()} starts once; make a new one"
            flag = flagged("started_twice", advice, self.runtime)
            if not self.ended:
                self.flag(flag)
                return self
            # What happens from now on must be somewhere: in another one, made the same way.
            self._renew()
            self.flag(flag)
        try:
            if not self.started:
                self._begin(at)
            if current and (inner := self.inner) is not None:
                self.outer = get_current()
                attach(inner)
        except BaseException as error:
            self._undo_start(error)
            raise
        return self

    def end(self, error: BaseException | None = None, *, at: Time | None = None) -> None:
        """Finish, with the exception that ended it if there was one, and restore what was current before.

        `at` is when it ended; None: now, by the monotonic clock. Only the first end counts.
        """
        if self.ended or not self.started:
            return
        try:
            if at is not None:
                self._lasted_ns = max(0, self._moment(at) - self.start_ns)
            current = scope_of(get_current())
            if current is not self and is_within(current, self):
                self._end_inner(current, error)
            self.ended = True
            self._finish(error)
            if self.outer is not None:
                leave(self, self.outer)
        except BaseException as interrupt:
            if not isinstance(interrupt, MisuseError):
                self.ended = True
                self._put_off(error)
            raise

    def using(self) -> Using:
        """Return a context manager that makes this the current scope for a block; it starts and ends nothing."""
        return Using(self)

    def returned(self, result: object) -> None:  # noqa: B027 - most have no use for it
        """Take notice of what a decorated function has returned."""

    def call_ended(self, record: CallRecord, conversation: Conversation | None = None) -> None:
        """Add a call that has ended to the totals of this scope and of those above it, and its conversation."""
        if record.outcome == "started":
            return
        if conversation is not None:
            self.observe(record, conversation)
        scope: Scope | None = self
        while scope is not None:
            scope.running.add_call(record)
            scope = scope.above

    def elapsed_ns(self) -> int:
        """Return the nanoseconds since the start, by the monotonic clock; to the end where the end was given."""
        return time.perf_counter_ns() - self._clock_ns if self._lasted_ns is None else self._lasted_ns

    def emit(self, record: Record, point: Point | None = None) -> None:
        """Put an event, message or reward on the span and write it; the callbacks (of `point`) go first."""
        if self.runtime is None:
            return
        with _RECORDING:
            shown = self.runtime.process(record, point)
            self.span.event(shown)
            self.write(shown)
            self.observe(shown)

    def observe(self, record: Record, conversation: Conversation | None = None) -> None:
        """Have this scope and those above it show what a processed record says went in or came out."""
        with _OBSERVING:
            seen: Observed | None = None
            scope: Scope | None = self
            while scope is not None and not scope.is_aside:
                exchange = scope.span.exchange
                if exchange is not None:
                    seen = seen or observed(record, conversation, exchange.room)
                    if seen is None:
                        return
                    exchange.add(seen)
                scope = scope.above

    def begin_span(
        self, record: Record, parent: Context | None, *, link: SpanHandle | None = None, root: bool = False
    ) -> None:
        """Start this scope's span out of its first record, processed; `root`: in a trace of its own."""
        if self.runtime is not None:
            with _SHOWING:
                self.span = self.runtime.spans.start(record, parent=parent, link=link, root=root)

    def write(self, record: Record) -> None:
        """Write a processed record."""
        if self.runtime is not None:
            callbacks.write(record, self.runtime.write)

    def _begin(self, at: Time | None) -> None:
        self.start_ns, self._clock_ns = self._began(at), time.perf_counter_ns()
        outside = get_current()
        base = self._open(scope_of(outside), outside)
        if self.runtime is not None:
            with _STARTING:
                self._announce(self.runtime, base)
        self.base = base
        self.started = True

    def _undo_start(self, error: BaseException) -> None:
        """End what an interrupt has broken off in its start: its block is never entered."""
        if not isinstance(error, MisuseError) and not self.ended:
            if self.span is NO_SPAN:
                self.runtime = None  # nothing was shown or written
            self.started = True
            self.end(error)

    def _finish(self, error: BaseException | None) -> None:
        """Take the steps of the end that are left. One that is interrupted is taken again, but the last."""
        with _ENDING:
            if self._end_step == _CLOSE:
                self._final = self._close(error)
                self._end_step = _SHOW
            final = self._final
            if self._end_step == _SHOW:
                if final is not None:
                    self.span.end(final, error)
                self._end_step = _WRITE
            if self._end_step == _WRITE:
                if final is not None:
                    self._keep(final)
                self._end_step = _REPORT
            if self._end_step == _REPORT:
                self._end_step, self._final = _OVER, None
                if final is not None:
                    self._observe_end(final)

    def _end_inner(self, scope: Scope | None, error: BaseException | None) -> None:
        """End what is current within this: an interrupt came before the first step of its block's end."""
        while scope is not None and scope is not self:
            scope.flag("left_open")
            scope.end(error)
            scope = scope.above

    def _put_off(self, error: BaseException | None) -> None:
        """Restore what was current, and have the steps that an interrupt has left undone taken on another thread."""
        here = contextvars.copy_context()  # it says what may be shown
        if self.outer is not None and is_within(current_scope(), self):
            attach(self.outer)
        if self._end_step != _OVER:
            put_off = run_now if self.runtime is None else self.runtime.put_off
            put_off(partial(here.run, self._finish, error))

    def _renew(self) -> None:
        """Be as before the start, to start again as another one."""
        self.started = self.ended = False
        self._end_step = _CLOSE
        self.base = self.outer = None
        self._lasted_ns = None
        self.span = NO_SPAN
        self.running = RunningTotals()

    def _began(self, at: Time | None) -> int:
        return time.time_ns() if at is None else self._moment(at)

    def _moment(self, at: Time) -> int:
        flags: list[str] = []
        time_ns = moment(at, flags, self.runtime or installed())
        for flag in flags:
            self.flag(flag)
        return time_ns

    def flag(self, flag: str) -> None:  # noqa: B027 - most have nowhere to keep it
        """Flag its record, where it has one."""

    def acting(self) -> str | None:
        """Return the name of the innermost agent, of several, whose doing this is; None outside of any."""
        above = self.above
        return None if above is None else above.acting()

    @abstractmethod
    def _open(self, around: Scope | None, current: Context) -> Context:
        """Set runtime and place; return the context this scope's own is made from.

        `around` is the innermost scope of the running code, `current` its context.
        """

    @abstractmethod
    def _announce(self, runtime: Runtime, base: Context) -> None:
        """Start the span in the context `base` and write the first record."""

    @abstractmethod
    def _close(self, error: BaseException | None) -> Record | None:
        """Return the final record, processed, for the span and the stores; None where nobody records.

        Called again where an interrupt came in its middle.
        """

    def _keep(self, final: Record) -> None:
        """Write the final record."""
        self.write(final)

    def _observe_end(self, final: Record) -> None:  # noqa: B027 - most have no use for it
        """Have what is above take notice of the final record."""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException as error:
            self._undo_start(error)  # CPython 3.10 also interrupts between the return of `start` and here
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.end(error)
        except BaseException:
            self.end(error)  # an interrupt may come before the first step of `end`
            raise

    async def __aenter__(self) -> Self:
        try:
            return self.start()
        except BaseException as error:
            self._undo_start(error)
            raise

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Awaitable[None]:
        # No coroutine: an interrupt may come before that is awaited.
        self.__exit__(kind, error, trace)
        return _DONE


def is_within(scope: Scope | None, outer: Scope) -> bool:
    """Return whether `scope` is `outer` or inside it."""
    while scope is not None and scope is not outer:
        scope = scope.above
    return scope is not None


class Idle(Scope):
    """Stands in for the run of a decorated tool where nothing is instrumented; holds no state, shared by all."""

    __slots__ = ()

    session = step = above = None

    def start(self, *, current: bool = True, at: Time | None = None) -> Self:  # noqa: ARG002 - as the base has it
        """Do nothing."""
        return self

    def end(self, error: BaseException | None = None, *, at: Time | None = None) -> None:
        """Do nothing."""

    def _open(self, around: Scope | None, current: Context) -> Context:  # noqa: ARG002 - as the base has it
        return current

    def _announce(self, runtime: Runtime, base: Context) -> None:
        """Do nothing."""

    def _close(self, error: BaseException | None) -> None:  # noqa: ARG002 - as the base has it
        return None


IDLE: Final = Idle()
