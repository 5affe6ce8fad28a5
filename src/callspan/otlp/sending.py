"""Sending: spans in requests that a receiver takes, each span once; what it refuses is found and left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

from callspan.fail_open import ours
from callspan.otlp.encoding import encode_request
from callspan.otlp.transport import RefusedError, Transport

MAX_REQUEST_BYTES: Final = 3 << 20
"""Receivers of gRPC take 4 MiB by default."""
_PER_SPAN: Final = 8
"""Bytes of tag and size at most."""


class Envelope(NamedTuple):
    """What is around spans in a request."""

    resource: bytes
    """The message `Resource`."""
    resource_schema: str
    scope: bytes
    """The message `InstrumentationScope`."""
    scope_schema: str

    @property
    def size(self) -> int:
        """Its bytes in a request, rounded up."""
        return sum(map(len, self)) + 4 * _PER_SPAN


class EncodedSpan(NamedTuple):
    """A span to be sent."""

    trace_id: str
    data: bytes
    """The message `Span`."""
    envelope: Envelope


class SpanSender:
    """Sends spans to one receiver and counts what becomes of them. Used by one thread at a time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.taken = 0
        """Number of spans in requests that the receiver took."""
        self.rejected = 0
        """How many of these it rejected: they are never sent again."""
        self.refused = 0
        """Number of spans that it refused to take."""
        self.message: str | None = None
        """Why it rejected some last, in its own words."""

    def send(
        self,
        spans: Sequence[EncodedSpan],
        taken: Callable[[Sequence[int]], object],
        refused: Callable[[int, str], object],
    ) -> None:
        """Send spans in requests of at most 3 MiB; spans of one trace that lie together stay together if they can.

        `taken` is called with the indices of each request that was taken, `refused` with the index of each span that
        was refused, and why. A request that was refused is halved until the span is found.

        Raises UnavailableError: the spans for which neither was called are to be sent again.
        """
        parts = [*_parts(spans)]
        while parts:
            part = parts.pop(0)
            try:
                rejection = self._transport.send(request_of([spans[index] for index in part]))
            except ours(RefusedError) as error:
                if len(part) > 1:
                    parts[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
                    continue
                self.refused += 1
                refused(part[0], str(error))
                continue
            self.taken += len(part)
            if rejection is not None:
                self.rejected += min(rejection.spans, len(part))
                self.message = rejection.message
            taken(part)


def request_of(spans: Sequence[EncodedSpan]) -> bytes:
    """Return a request to export spans, in their order."""
    parts = groupby(spans, lambda span: span.envelope)
    return b"".join([_around(envelope, [span.data for span in together]) for envelope, together in parts])


def _around(envelope: Envelope, spans: Sequence[bytes]) -> bytes:
    resource, resource_schema, scope, schema = envelope
    return encode_request(resource, resource_schema, scope, schema, spans)


def _parts(spans: Sequence[EncodedSpan]) -> Iterator[range]:
    """Yield the indices of the spans of each request."""
    start = size = 0
    for run in _traces(spans):
        together = sum(map(_size, spans[run.start : run.stop]))
        if size and size + together > MAX_REQUEST_BYTES:
            yield range(start, run.start)
            start, size = run.start, 0
        for index in run if size + together > MAX_REQUEST_BYTES else ():
            if size and size + _size(spans[index]) > MAX_REQUEST_BYTES:
                yield range(start, index)
                start, size = index, 0
            size += _size(spans[index])
            together = 0
        size += together
    if start < len(spans):
        yield range(start, len(spans))


def _traces(spans: Sequence[EncodedSpan]) -> Iterator[range]:
    """Yield the indices of spans of one trace that lie together."""
    start = 0
    for _, run in groupby(spans, attrgetter("trace_id")):
        stop = start + sum(1 for _ in run)
        yield range(start, stop)
        start = stop


def _size(span: EncodedSpan) -> int:
    return len(span.data) + _PER_SPAN + span.envelope.size
