"""Span handle: the span that shows a record while it is in the making, as those see it who make the record.

What they know of it is the same for a call, a session, a timestep and an operation: ids that go into the record, and
that it ends with the record. `observe` and `agent` add what only theirs have; `spans` implements all of it.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

_Record_contra = TypeVar("_Record_contra", contravariant=True)
_Last_contra = TypeVar("_Last_contra", contravariant=True)


class SpanHandle(Protocol[_Record_contra, _Last_contra]):
    """The span of one record. No method raises; all are safe after the end."""

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; None where there is no tracing."""

    @property
    def span_id(self) -> str | None:
        """16 hexadecimal digits; None where there is no tracing."""

    @property
    def sampled(self) -> bool | None:
        """Whether the span is kept; None where there is no tracing."""

    def end(self, record: _Record_contra, last: _Last_contra, /) -> None:
        """Put the final record on the span, with what is known of it only now, and end it at the record's end."""


class NoSpan:
    """Stands in for a span where there is none, or it could not be started: records do not depend on it."""

    trace_id: str | None = None
    span_id: str | None = None
    sampled: bool | None = None

    def end(self, record: object, last: object = None, /) -> None:
        """Show nothing."""
