"""Span handle: the protocol of the span of a call or scope, as used by the code that builds the record.

It is the same for calls, sessions, timesteps and operations: it has ids for the record and is ended with the record.
`observe` and `agent` extend it; `spans` implements it.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

_Record_contra = TypeVar("_Record_contra", contravariant=True)
_Last_contra = TypeVar("_Last_contra", contravariant=True)


class SpanHandle(Protocol[_Record_contra, _Last_contra]):
    """The span of one record. No method raises; all are safe after the end."""

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; None without tracing."""

    @property
    def span_id(self) -> str | None:
        """16 hexadecimal digits; None without tracing."""

    @property
    def sampled(self) -> bool | None:
        """Whether the span is sampled; None without tracing."""

    def within(self, context: Any) -> Any:  # noqa: ANN401 - OpenTelemetry's, of which records know nothing
        """Return OpenTelemetry's `context` with this span as the current one."""

    def end(self, record: _Record_contra, last: _Last_contra, tokens: dict[str, bool], /) -> None:
        """Set the final attributes on the span and end it at the record's end time.

        Takes the token `background.SPAN` before what may be done once. Called again after an interrupt.
        """


class NoSpan:
    """Replaces a span that does not exist or could not be started; records are made anyway."""

    trace_id: str | None = None
    span_id: str | None = None
    sampled: bool | None = None

    def within(self, context: Any) -> Any:  # noqa: ANN401
        """Return the context unchanged."""
        return context

    def end(self, record: object, last: object, tokens: dict[str, bool], /) -> None:
        """Do nothing."""
