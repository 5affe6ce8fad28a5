"""Scope: what sessions, timesteps and operations share: a span, a place, totals, and the enclosing scopes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from opentelemetry.context import Context, get_current

from callspan.agent.arguments import Time
from callspan.agent.context import SCOPE, metadata_of
from callspan.agent.episode import RunningTotals
from callspan.agent.lifecycle import Lifecycle
from callspan.agent.runtime import Runtime, ScopeSpanHandle
from callspan.fail_open import fail_open
from callspan.process import processors
from callspan.process.callbacks import Point
from callspan.process.processed import Processed
from callspan.record.call import CallRecord, Place
from callspan.record.events import EventRecord, Record, RewardRecord
from callspan.record.messages import Conversation
from callspan.semconv.exchange import Observed, observed
from callspan.settings import Content, stricter

if TYPE_CHECKING:
    from typing_extensions import Self

CallEnded: TypeAlias = Callable[[Processed[CallRecord], Conversation | None], None]
"""Takes an ended call and its messages."""
_NOWHERE: Final = Place()
_RECORDING: Final = fail_open("record an event of a session")
_SHOWING: Final = fail_open("start the span of a session, timestep or tool")
_OBSERVING: Final = fail_open("keep what went into or came out of a session")


class Scope(Lifecycle):
    """A part of an agent's work with a start and an end."""

    __slots__ = ("__weakref__", "_place", "_running")

    _is_aside: ClassVar[bool] = False
    """Whether its messages are not input or output of the enclosing scope: tools, guardrails, environments."""

    def __init__(self) -> None:
        super().__init__()
        self._place = _NOWHERE
        self._running = RunningTotals()

    @property
    def session(self) -> Scope | None:
        """The session this belongs to; None for a tool outside any."""
        return None if self._above is None else self._above.session

    @property
    def _step(self) -> Scope | None:
        """The timestep this is or belongs to; None outside of one."""
        return None if self._above is None else self._above._step

    @property
    @abstractmethod
    def _above(self) -> Scope | None:
        """The enclosing scope: a tool's timestep, a timestep's parent step or session; None for a session."""

    def _returned(self, result: object) -> None:
        """Called with the return value of a decorated function."""

    def _call_ended(self, processed: Processed[CallRecord], conversation: Conversation | None = None) -> None:
        """Add an ended call to the totals, and its conversation to the input and output, of this and outer scopes."""
        record = processed.record
        if record.outcome == "started":
            return
        if conversation is not None:
            self._observe(processed, conversation)
        scope: Scope | None = self
        while scope is not None:
            scope._running.add_call(record)
            scope = scope._above

    def _count_reward(self, record: EventRecord | RewardRecord) -> None:
        """Add a reward to the totals of this scope and the enclosing ones; a reward of the whole session only there."""
        session = self.session
        if session is not None and not session._running.is_counted(record):
            return
        scope: Scope | None = self
        if isinstance(record, RewardRecord) and record.scope == "session":
            scope = session
        while scope is not None:
            scope._running.add_reward(record)
            scope = scope._above

    def _sequence(self) -> int | None:
        """Return the next sequence number of events in this session; None without a session."""
        return None if self._above is None else self._above._sequence()

    def _level_within(self, base: Context) -> Content | None:
        """Return the content level of the enclosing scope; without one that which `content_for` decides."""
        if self._above is not None:
            return self._above._level
        decide = None if self._runtime is None else self._runtime.content_for
        return None if decide is None else decide(self._metadata_within(base))

    def _metadata_within(self, base: Context) -> Mapping[str, object]:
        """Return the metadata by which the content level is decided."""
        return metadata_of(base)

    def _emit(self, record: Record, point: Point | None = None, level: Content | None = None) -> None:
        """Add an event, message or reward to the span and write it, after the callbacks of `point`.

        `level` is the content level of what it is for, if that is not this scope.
        """
        if self._runtime is None:
            return
        with _RECORDING:
            shown = self._runtime.process(record, stricter(self._level, level), point)
            self._span.event(shown)
            self._write(shown)
            self._observe(shown)

    def _observe(self, processed: Processed[Record], conversation: Conversation | None = None) -> None:
        """Add the input and output of a record to this scope and the enclosing ones."""
        with _OBSERVING:
            seen: Observed | None = None
            scope: Scope | None = self
            while scope is not None and not scope._is_aside:
                exchange = scope._span.exchange
                if exchange is not None:
                    seen = seen or observed(processed.record, conversation, exchange.room)
                    if seen is None:
                        return
                    exchange.add(seen)
                scope = scope._above

    def _begin_span(
        self,
        processed: Processed[Record],
        parent: Context | None,
        *,
        link: ScopeSpanHandle | None = None,
        root: bool = False,
        workflow: str | None = None,
    ) -> None:
        """Start this scope's span from its first record; `root`: in a new trace."""
        if self._runtime is not None:
            with _SHOWING:
                spans = self._runtime.spans
                self._span = spans.start(processed, parent=parent, link=link, root=root, workflow=workflow)

    def _write(self, processed: Processed[Record]) -> None:
        """Write a record."""
        if self._runtime is not None:
            processors.write(processed, self._runtime.write)

    def _acting(self) -> str | None:
        """Return the name of the innermost enclosing agent; None outside of agents."""
        above = self._above
        return None if above is None else above._acting()

    def _keep(self, final: Processed[Record]) -> None:
        """Write the final record."""
        self._write(final)

    def _renew(self) -> None:
        super()._renew()
        self._running = RunningTotals()


def current_scope() -> Scope | None:
    """Return the innermost session, timestep or tool of the running code, or None."""
    scope: Any = get_current().get(SCOPE)
    return scope  # type: ignore[no-any-return] # `cast` is a call


def surroundings() -> tuple[Place | None, CallEnded | None, dict[str, object]]:
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


class Idle(Scope):
    """Replaces the scope of a decorated tool if nothing is instrumented. Stateless and shared."""

    __slots__ = ()

    _above = None

    def start(self, *, current: bool = True, at: Time | None = None) -> Self:  # noqa: ARG002 - as the base has it
        """Do nothing."""
        return self

    def end(self, error: BaseException | None = None, *, at: Time | None = None) -> None:
        """Do nothing."""

    def _open(self, current: Context) -> Context:
        return current

    def _announce(self, runtime: Runtime, base: Context) -> None:
        """Do nothing."""

    def _close(self, error: BaseException | None) -> None:  # noqa: ARG002 - as the base has it
        return None


IDLE: Final = Idle()
