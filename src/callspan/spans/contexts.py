"""Contexts: spans of which only the context is in the process, because a store makes or takes the rest.

Sampler and id generator of the application's provider decide as if the SDK's spans began; nothing is given to its
exporters. Of a call or tool there is nothing else: its span is made of its record where it is delivered. What is no
function of one record (sessions, steps, agents, late rewards, batches) is collected until it ends, and then passed on
as a whole.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from msgspec.structs import replace
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    use_span,
)
from opentelemetry.util.types import Attributes as GivenAttributes

from callspan.fail_open import Once, log
from callspan.semconv.call import SpanEvent
from callspan.semconv.content_attributes import Attributes
from callspan.semconv.spans import Span as FinishedSpan
from callspan.spans.call import link_to

_WARNED: Final = Once()
_LOST: Final = (
    "An application sets %s on a span of callspan. That span is made of its record, because a store takes spans: what "
    "is set on it is not sent; use callspan.metadata()"
)
_RANDOM: Final[int] = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)  # 0: this version has no such flag
_FLAGS: Final = {
    (is_sampled, is_random): TraceFlags(is_sampled * TraceFlags.SAMPLED | is_random * _RANDOM)
    for is_sampled in (False, True)
    for is_random in (False, True)
}


class _Deciding(NamedTuple):
    """What of a provider decides on contexts."""

    sampler: Any
    ids: Any
    is_random: bool
    """Whether trace ids that it makes are random."""
    reads_attributes: bool


class CallContext(NonRecordingSpan):
    """The span of a call or tool while it runs. What an application sets on it is not sent, which is logged once."""

    parent: SpanContext | None = None
    """As the SDK's spans have it."""

    def set_attribute(self, key: str, value: object) -> None:
        """Say once that it is not sent."""
        del key, value
        _say("an attribute")

    def set_attributes(self, attributes: object) -> None:
        """Say once that they are not sent."""
        del attributes
        _say("attributes")

    def add_event(self, name: str, attributes: object = None, timestamp: int | None = None) -> None:
        """Say once that it is not sent."""
        del name, attributes, timestamp
        _say("an event")


class CollectedSpan(Span):
    """A span that is passed on as a whole when it ends. Its methods are called by one thread at a time."""

    def __init__(self, begun: FinishedSpan, context: SpanContext, ended: Callable[[FinishedSpan], object]) -> None:
        """`begun` is the span as it began; `ended` takes it with what was added."""
        self._begun = begun
        self._context = context
        self._ended = ended
        self._is_open = True
        self._attributes: Attributes = dict(begun.attributes)
        self._events: list[SpanEvent] = []
        self._failure: str | None = None
        self._name = begun.name

    def get_span_context(self) -> SpanContext:
        """Return its context."""
        return self._context

    def is_recording(self) -> bool:
        """Return whether it has not ended."""
        return self._is_open

    def set_attribute(self, key: str, value: Any) -> None:  # noqa: ANN401 - OpenTelemetry's values
        """Set an attribute; an earlier value stays in its place."""
        self._attributes[key] = value

    def set_attributes(self, attributes: Any) -> None:  # noqa: ANN401 - as above
        """Set several."""
        self._attributes.update(attributes)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:  # noqa: ANN401
        """Add an event at a time, Unix nanoseconds; None: now."""
        self._events.append(SpanEvent(name, attributes, time.time_ns() if timestamp is None else timestamp))

    def update_name(self, name: str) -> None:
        """Change its name."""
        self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Keep why it failed; any other status is not kept."""
        code = status.status_code if isinstance(status, Status) else status
        given = status.description if isinstance(status, Status) else description
        self._failure = (given or "") if code is StatusCode.ERROR else None

    def record_exception(
        self, exception: BaseException, attributes: GivenAttributes = None, timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:  # fmt: skip
        """Add the event of an exception, by its class."""
        del escaped
        self.add_event("exception", {"exception.type": type(exception).__qualname__, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """Pass it on, once; its end is in Unix nanoseconds, None: now."""
        if self._is_open:
            self._is_open = False
            end_ns = time.time_ns() if end_time is None else end_time
            self._ended(
                replace(
                    self._begun, name=self._name, end_ns=end_ns, attributes=self._attributes, events=self._events,
                    failure=self._failure,
                )
            )  # fmt: skip


class ContextTracer(Tracer):
    """Starts spans that are contexts, or collects them. Safe from any thread."""

    def __init__(
        self, provider: trace.TracerProvider | None, ended: Callable[[FinishedSpan], object] | None = None
    ) -> None:
        """`provider` decides, None: the global one, looked up when a span starts.

        `ended` takes each sampled span that has ended; None: there are contexts alone.
        """
        self._provider = provider
        self._ended = ended

    @property
    def reads_attributes(self) -> bool:
        """Whether the sampler may read the attributes that a span begins with."""
        return self._ended is not None or self._deciding().reads_attributes

    def start_span(
        self, name: str, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL,
        attributes: GivenAttributes = None, links: Sequence[Link] | None = None, start_time: int | None = None,
        record_exception: bool = True, set_status_on_exception: bool = True,
    ) -> Span:  # fmt: skip
        """Return a span that begins at `start_time`, Unix nanoseconds; None: now."""
        del record_exception, set_status_on_exception
        above = trace.get_current_span(context).get_span_context()
        decided, own = self._decided(above, context, name, kind, attributes, links)
        if self._ended is None:
            made = CallContext(own)
            made.parent = above
            return made
        if not own.trace_flags.sampled:
            return NonRecordingSpan(own)
        begun = FinishedSpan(
            trace_id=own.trace_id.to_bytes(16, "big").hex(),
            span_id=own.span_id.to_bytes(8, "big").hex(),
            parent_span_id=above.span_id.to_bytes(8, "big").hex() if above.is_valid else None,
            is_parent_remote=above.is_valid and above.is_remote,
            trace_state=(own.trace_state or DEFAULT_TRACE_STATE).to_header() or None,
            name=name,
            is_client=kind is SpanKind.CLIENT,
            start_ns=time.time_ns() if start_time is None else start_time,
            end_ns=0,
            attributes=dict(decided),
            links=[link_to(link.context) for link in links or ()],
        )
        return CollectedSpan(begun, own, self._ended)

    @contextmanager
    def start_as_current_span(self, name: str, *given: Any, **named: Any) -> Iterator[Span]:  # type: ignore[override]  # noqa: ANN401
        """Start a span that is the current one in the block, and ends with it."""
        with use_span(self.start_span(name, *given, **named), end_on_exit=True) as span:
            yield span

    def _decided(
        self, above: SpanContext, context: Context | None, name: str, kind: SpanKind, attributes: GivenAttributes,
        links: Sequence[Link] | None,
    ) -> tuple[Any, SpanContext]:  # fmt: skip
        """Return the attributes that the sampler leaves, and the new context."""
        by, is_root = self._deciding(), not above.is_valid
        trace_id = by.ids.generate_trace_id() if is_root else above.trace_id
        if by.sampler is DEFAULT_ON:
            # As that decides, without the objects that it makes.
            is_sampled = is_root or above.trace_flags.sampled
            state, decided = None if is_root else above.trace_state, attributes if is_sampled else None
        else:
            result = by.sampler.should_sample(context, trace_id, name, kind, attributes, links)
            is_sampled, state, decided = result.decision.is_sampled(), result.trace_state, result.attributes
        flags = _FLAGS[is_sampled, by.is_random if is_root else bool(above.trace_flags & _RANDOM)]
        own = SpanContext(trace_id, by.ids.generate_span_id(), is_remote=False, trace_flags=flags, trace_state=state)
        return decided or {}, own

    def _deciding(self) -> _Deciding:
        return _deciding(self._provider or trace.get_tracer_provider())


@lru_cache(8)
def _deciding(provider: trace.TracerProvider) -> _Deciding:
    """Return sampler and id generator of a provider; of another implementation's those of the environment."""
    sampler, ids = getattr(provider, "sampler", None), getattr(provider, "id_generator", None)
    if sampler is None or ids is None:
        return _of_environment()
    is_random = bool(getattr(ids, "is_trace_id_random", bool)())
    return _Deciding(sampler, ids, is_random, sampler not in (ALWAYS_ON, DEFAULT_ON))


@cache
def _of_environment() -> _Deciding:
    # Its limits are not used; those of the environment may be malformed.
    return _deciding(TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(*[SpanLimits.UNSET] * 8)))


def _say(what: str) -> None:
    if _WARNED.first(what):
        log(logging.WARNING, _LOST, what)
