"""OTLP store: sends the spans of what is recorded to a receiver, from the spool; it cannot be read.

A span is sent once it is final: that of a call or tool when its record is delivered, any other as its process wrote it.
Where no answer came it is sent again, with equal bytes; what the receiver refused is counted, and not sent again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from callspan.fail_open import fail_open, log, ours
from callspan.formatting import plural
from callspan.otlp.encoding import encode_span
from callspan.otlp.interrupted import interrupted_spans
from callspan.otlp.sending import EncodedSpan, Envelope, SpanSender
from callspan.otlp.transport import Transport, transport_of
from callspan.providers.registry import conversation_of
from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.events import EventRecord, record_key
from callspan.record.messages import Conversation
from callspan.record.span_frames import SPAN, SegmentHead, decode_head, decode_span, with_settings
from callspan.safe_urls import names_user
from callspan.semconv.call import Projection
from callspan.semconv.scope_spans import ScopeSpanOptions
from callspan.semconv.session_spans import MADE_OF_RECORDS, SessionSpans, span_of_event
from callspan.semconv.spans import Span, span_of_call, spans_of_attempts
from callspan.spool.losses import Loss, Losses, add_losses
from callspan.spool.sink import BaseSink, Entry, PoisonError, Sink, decode_payload
from callspan.stores.protocol import ServerStore

_NOTHING: Final = b""
DEAD_LETTERS: Final = "dead_letter.jsonl"
_ENDS: Final = frozenset({"ended", "requested", "answered"})
"""The request of a background response has a span; its answer too, unless another request has read it."""
_COUNT: Final = fail_open("count spans that a receiver refuses")
_Key: TypeAlias = tuple[str, int, int]
"""A span: its segment, the end of its entry in that, and its number among the spans of the entry."""


class Otlp(ServerStore):
    """A receiver of OTLP. It takes spans, made of the records; nothing can be read from it."""

    example = "otlp+http://localhost:4318"
    extra = "otlp"
    options_type = None
    takes_spans = True

    def __init__(self, url: str) -> None:
        """Raises SettingError for a URL with a user or a query."""
        super().__init__(url)
        if names_user(url) or "?" in self.url:
            raise self.error("has a user or options: headers, TLS and time limit are those of OTEL_EXPORTER_OTLP_*")

    def sink(self) -> Sink:
        """Return the sink, not connected. Raises SettingError where a package that it needs is not installed."""
        return OtlpSink(transport_of(self.url), self.name)


class OtlpSink(BaseSink):
    """Sends finished spans and those of calls. Used by one thread at a time."""

    batch_entries = 512
    takes_spans = True

    def __init__(self, transport: Transport, name: str) -> None:
        """Connect to nothing yet."""
        self.name = name
        self._transport = transport
        self._sender = SpanSender(transport)
        self._maker: SpanMaker | None = None
        self._segment: Path | None = None
        self._answers: dict[_Key, str | None] = {}
        """The spans in progress that the receiver has acknowledged: None, or why it refused one."""

    def begin(self, segment: Path, head: bytes) -> None:
        """Take what the spans that follow have in common."""
        if segment != self._segment or self._maker is None:
            self._segment, self._maker = segment, SpanMaker.of(head)

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Send the spans of all entries that the receiver has not acknowledged.

        Raises PoisonError where the receiver refused one for good or an entry is no record, UnavailableError where it
        may take it later.
        """
        maker = self._maker
        if maker is None:
            raise PoisonError("the segment has no head: what its spans have in common is not known")
        found = {
            (entry.segment, entry.end, number): span
            for entry in entries
            for number, span in enumerate(maker.spans(entry))
        }
        self._send(found)
        if refused := [why for key in found if (why := self._answers[key]) is not None]:
            raise PoisonError(refused[0])
        for key in found:
            del self._answers[key]

    def take_over(self, segment: Path, head: bytes, payloads: Iterable[bytes]) -> None:
        """Send the spans of what a process had begun when it was killed. Raises UnavailableError."""
        maker, self._segment = SpanMaker.of(head), segment
        if maker is None:
            return
        # Each is an entry of its own, below those of the segment.
        found = {(segment.name, -number, 0): span for number, span in enumerate(maker.interrupted(payloads), 1)}
        self._send(found)
        for name, end, _ in [key for key in found if self._answers[key] is not None]:
            self.set_aside(Entry(name, 0, end, b""), "")
        self._answers.clear()

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Note what is refused for good in `dead_letter.jsonl` of the spool, without content, and count its spans."""
        keys = [key for key in self._answers if key[:2] == (entry.segment, entry.end)]
        refused = [why for key in keys if (why := self._answers.pop(key)) is not None] or [reason]
        self._refused(len(refused), refused[0])
        if self._segment is not None:
            line = encode_json(
                {"store": self.name, "reason": refused[0], "segment": entry.segment, "start": entry.start} | _ids(entry)
            )
            path = self._segment.with_name(DEAD_LETTERS)
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(fd, "ab") as file:
                file.write(line + b"\n")

    def try_out(self, entry: Entry) -> str:  # noqa: ARG002 - the protocol's name
        """Send a request without spans. Raises UnavailableError, or StoreError where it is refused."""
        self._transport.send(_NOTHING)
        return "it takes requests; no span was sent, because it could not be taken back"

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _send(self, found: Mapping[_Key, EncodedSpan]) -> None:
        keys = [key for key in found if key not in self._answers]

        def taken(indices: Sequence[int]) -> None:
            self._answers.update((keys[index], None) for index in indices)
            rejected, self._sender.rejected = self._sender.rejected, 0
            if rejected:
                self._refused(rejected, self._sender.message or "")

        def refused(index: int, why: str) -> None:
            self._answers[keys[index]] = why

        self._sender.send([found[key] for key in keys], taken, refused)

    def _refused(self, spans: int, reason: str) -> None:
        """Count spans that are not sent again, as given up for this store."""
        log(logging.WARNING, "%s refuses %s: %s", self.name, plural(spans, "span"), reason)
        if self._segment is not None:
            now = time.time_ns()
            loss = Loss(self.name, spans, first_ns=now, last_ns=now)
            with _COUNT:
                add_losses(self._segment.parent, Losses(given_up={self.name: loss}))


class SpanMaker:
    """Makes the spans of the records of one process."""

    def __init__(self, head: SegmentHead) -> None:
        """`head` says what they have in common. Raises msgspec.ValidationError for unknown settings."""
        self._head = head
        settings = with_settings(head)
        self._shows_attempts = settings.attempt_spans
        self._options = ScopeSpanOptions.of(settings)
        self._projection = Projection(settings)
        self._envelope = Envelope(head.resource, head.resource_schema, head.scope, head.scope_schema)

    @classmethod
    def of(cls, head: bytes) -> SpanMaker | None:
        """Return the maker of a head; None where it is not there or damaged."""
        try:
            return cls(decode_head(head)) if head else None
        except ours(msgspec.MsgspecError, TypeError):
            return None

    def spans(self, entry: Entry) -> list[EncodedSpan]:
        """Return the spans of an entry; most records have none. Raises PoisonError."""
        if entry.payload.startswith(SPAN):
            try:
                frame = decode_span(entry.payload)
            except ours(msgspec.MsgspecError) as error:
                raise PoisonError(f"not a span: {error}") from error
            return [EncodedSpan(frame.trace_id, frame.span, self._envelope)]
        record = entry.decode(entry)
        if isinstance(record, CallRecord):
            return self._of_call(record) if _is_final(record) else []
        if isinstance(record, EventRecord) and record.event_type in MADE_OF_RECORDS:
            span = span_of_event(record, self._options)
            return [] if span is None else [self._encoded(span)]
        return []

    def interrupted(self, payloads: Iterable[bytes]) -> Iterator[EncodedSpan]:
        """Yield the spans of what was begun in a segment, and not ended."""
        make = SessionSpans(self._projection, self._options, self._conversation)
        return map(self._encoded, interrupted_spans(self._head, payloads, make))

    def _of_call(self, record: CallRecord) -> list[EncodedSpan]:
        span = span_of_call(record, self._projection, self._conversation(record))
        attempts = spans_of_attempts(record) if self._shows_attempts else []
        return [self._encoded(one) for one in (*attempts, span) if one is not None]

    def _encoded(self, span: Span) -> EncodedSpan:
        return EncodedSpan(span.trace_id, encode_span(span, self._head.limits), self._envelope)

    def _conversation(self, record: CallRecord) -> Conversation | None:
        """Return the messages of a call that its span may show."""
        return conversation_of(record) if self._options.content and record.content_level == "full" else None


def _ids(entry: Entry) -> dict[str, object]:
    """Return what is known of an entry without its content."""
    try:
        if entry.payload.startswith(SPAN):
            return {"kind": "span", "trace_id": decode_span(entry.payload).trace_id}
        kind, ident = record_key(decode_payload(entry.payload))
    except ours(PoisonError, msgspec.MsgspecError):
        return {}
    return {"kind": kind, "id": ident}


def _is_final(record: CallRecord) -> bool:
    """Return whether a record is the end of a call of its own request, with a sampled span.

    What another request answers has a span of that request, which its process collected.
    """
    return bool(record.sampled) and record.is_own and record.part in _ENDS
