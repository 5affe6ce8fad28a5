"""Span handle: gives a record the ids of its span.

It is the same for calls, sessions, timesteps and operations. `observe` and `spans` extend it.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeVar

import msgspec

from callspan.record.call import Trace
from callspan.settings import Content

_R = TypeVar("_R", bound=msgspec.Struct)
OWN_SPAN: Final = "callspan.span_id"
"""Key in OpenTelemetry's context for the id of the innermost scope or call that has no OpenTelemetry span.

It is no span context, because other tracers would take that as an unsampled parent, and drop their spans.
"""

SCOPE_KEY: Final = "callspan.scope"
"""Key in OpenTelemetry's context for the innermost scope, whose `span` is a `SpanHandle`."""


class ForeignScopes(Protocol):
    """What a span of other code stands for."""

    level: Content
    """The content level of what is in it."""

    def nearest(self, own: Any, newcomer: Any = None) -> Any:
        """Return the scope of code in that span: callspan's `own` current one, or one that stands for the span.

        `newcomer` is a scope of callspan's own that starts there. None: it is in no scope.
        """

    def keeper(self) -> Any:
        """Return what takes the calls in that span at their ends, while it may still turn out to be a session."""


FOREIGN_RUNS: Final[dict[int, ForeignScopes]] = {}
"""What the spans of other code stand for that are agents', or within one, by their ids; see `agent/adopted.py`."""


class SpanHandle:
    """The span of one record. No method raises; all are safe after the end.

    This one does not exist, or could not be started; records are written anyway.
    """

    trace_id: str | None = None
    """32 hexadecimal digits; None without tracing."""
    span_id: str | None = None
    """16 hexadecimal digits; without tracing an id of callspan's own."""
    parent_span_id: str | None = None
    """16 hexadecimal digits; None for the root of a trace."""
    sampled: bool | None = None
    """Whether the span is sampled; None without tracing."""
    trace: Trace | None = None
    """Further fields of the trace, if any differs from its default."""

    def within(self, context: Any) -> Any:
        """Return OpenTelemetry's `context` with this span as the current one."""
        return context


def span_ids(span: SpanHandle) -> dict[str, Any]:
    """Return the span's ids as fields of a record."""
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "sampled": span.sampled,
        "trace": span.trace,
    }


def with_span_ids(record: _R, span: SpanHandle) -> _R:
    """Return the record with the span's ids."""
    # Not `**span_ids(span)`, which takes twice as long.
    return msgspec.structs.replace(
        record,
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        sampled=span.sampled,
        trace=span.trace,
    )
