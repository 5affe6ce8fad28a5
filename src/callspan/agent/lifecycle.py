"""Lifecycle: the start and end of a session, timestep or operation, in which it is the current one of the running code.

The current one is kept in the OpenTelemetry context, so it follows tasks and whatever carries that context to threads.
"""

from __future__ import annotations

import contextvars
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Generator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context, attach, get_current, set_value

from callspan.agent.api_misuse import MisuseError, flagged
from callspan.agent.runtime import NO_SPAN, Runtime, installed, run_now
from callspan.agent.values import Time, moment
from callspan.fail_open import fail_open
from callspan.record.events import Record

if TYPE_CHECKING:
    from typing_extensions import Self

SCOPE: Final = "callspan.scope"
"""Key of the current one in the OpenTelemetry context."""
_ENDING: Final = fail_open("end a session, timestep or tool")
_STARTING: Final = fail_open("record the start of a session, timestep or tool")
_CLOSE, _SHOW, _WRITE, _REPORT, _OVER = range(5)
"""The steps of the end."""


class _Done(Awaitable[None]):
    """What is awaited, and has been done already."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        yield from ()


_DONE: Final = _Done()


class Lifecycle(ABC):
    """What is started, is the current one of the running code, and ends once.

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
        "runtime",
        "span",
        "start_ns",
        "started",
    )

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self.span = NO_SPAN
        self.base: Context | None = None
        self.outer: Context | None = None
        self.started = self.ended = False
        self.start_ns = self._clock_ns = 0
        self._lasted_ns: int | None = None
        self._final: Record | None = None
        self._end_step = _CLOSE

    @property
    def inner(self) -> Context | None:
        """The context in which this is the current one; None before the start.

        Made again each time: kept, it would refer back to this and leave every step to the garbage collector.
        """
        return None if self.base is None else set_value(SCOPE, self, self.span.within(self.base))

    @property
    def state(self) -> str:
        """`new`, `running` or `ended`."""
        return "ended" if self.ended else "running" if self.started else "new"

    @property
    @abstractmethod
    def above(self) -> Lifecycle | None:
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
            current: Any = get_current().get(SCOPE)
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

    def elapsed_ns(self) -> int:
        """Return the nanoseconds since the start, by the monotonic clock; to the end where the end was given."""
        return time.perf_counter_ns() - self._clock_ns if self._lasted_ns is None else self._lasted_ns

    def _begin(self, at: Time | None) -> None:
        self.start_ns, self._clock_ns = self._began(at), time.perf_counter_ns()
        outside = get_current()
        base = self._open(outside)
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

    def _end_inner(self, scope: Lifecycle | None, error: BaseException | None) -> None:
        """End what is current within this: an interrupt came before the first step of its block's end."""
        while scope is not None and scope is not self:
            scope.flag("left_open")
            scope.end(error)
            scope = scope.above

    def _put_off(self, error: BaseException | None) -> None:
        """Restore what was current, and have the steps that an interrupt has left undone taken on another thread."""
        here = contextvars.copy_context()  # it says what may be shown
        if self.outer is not None and is_within(get_current().get(SCOPE), self):
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

    @abstractmethod
    def _open(self, current: Context) -> Context:
        """Set runtime and place; return the context this scope's own is made from: `current`, or one within it."""

    @abstractmethod
    def _announce(self, runtime: Runtime, base: Context) -> None:
        """Start the span in the context `base` and write the first record."""

    @abstractmethod
    def _close(self, error: BaseException | None) -> Record | None:
        """Return the final record, processed, for the span and the stores; None where nothing records.

        Called again where an interrupt came in its middle.
        """

    @abstractmethod
    def _keep(self, final: Record) -> None:
        """Write the final record."""

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


def is_within(scope: Any, outer: Lifecycle) -> bool:  # noqa: ANN401 - a scope of a context, or None
    """Return whether `scope` is `outer` or inside it."""
    while scope is not None and scope is not outer:
        scope = scope.above
    return scope is not None


def leave(scope: Lifecycle, outer: Context) -> None:
    """Make `outer` current again where `scope` is the current one; elsewhere there is nothing to restore.

    Attaches instead of detaching: a token is of no use in another task, where OpenTelemetry would log an error.
    """
    if get_current().get(SCOPE) is scope:
        attach(_still_open(outer))


def _still_open(context: Context) -> Context:
    # Two sessions that end in the order they started must not leave the first one, ended, as the current one.
    scope: Any = context.get(SCOPE)
    while scope is not None and scope.ended and scope.outer is not None and scope.outer is not context:
        context = scope.outer
        scope = context.get(SCOPE)
    return context


class Using:
    """Context manager that makes a scope the current one for a block, and nothing else."""

    __slots__ = ("_outer", "_scope")

    def __init__(self, scope: Lifecycle) -> None:
        self._scope = scope
        self._outer = get_current()

    def __enter__(self) -> None:
        """Make the scope current."""
        self._outer = get_current()
        try:
            attach(self._scope.inner or self._outer)
        except BaseException:
            leave(self._scope, self._outer)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore what was current."""
        try:
            leave(self._scope, self._outer)
        except BaseException:
            leave(self._scope, self._outer)
            raise
