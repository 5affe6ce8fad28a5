"""OTLP store: sends the spans of what is recorded to a receiver, from the spool; it cannot be read.

A span is sent once it is final: that of a call when its record is delivered, any other as its process wrote it. Where
no answer came it is sent again, with equal bytes; what the receiver refused is counted, and not sent again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from callspan.fail_open import fail_open, log, ours
from callspan.formatting import plural
from callspan.otlp.encoding import encode_request, encode_span, limits_or_default
from callspan.otlp.interrupted import interrupted_spans
from callspan.otlp.transport import RefusedError, Transport, transport_of
from callspan.providers.registry import conversation_of
from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.events import record_key
from callspan.record.messages import Conversation
from callspan.record.span_frames import SPAN, SegmentHead, decode_head, decode_span, with_settings
from callspan.safe_urls import names_user
from callspan.semconv.call import Projection
from callspan.semconv.scope_spans import ScopeSpanOptions
from callspan.semconv.session_spans import SessionSpans
from callspan.semconv.spans import span_of_call, spans_of_attempts
from callspan.settings import Settings
from callspan.spool.losses import Loss, Losses, add_losses
from callspan.spool.sink import BaseSink, Entry, PoisonError, Sink, decode_payload
from callspan.stores.protocol import ServerStore

MAX_REQUEST_BYTES: Final = 3 << 20
"""Less than the 4 MiB that receivers take by default."""
_NOTHING: Final = b""
DEAD_LETTERS: Final = "dead_letter.jsonl"
_OWN: Final = frozenset({"call", "import"})
_ENDS: Final = frozenset({"ended", "requested", "answered"})
"""The request of a background response has a span; its answer too, unless another request has read it."""
_COUNT: Final = fail_open("count spans that a receiver refuses")
_Spans: TypeAlias = tuple[Entry, list[bytes]]
"""The spans of an entry."""


class Otlp(ServerStore):
    """A receiver of OTLP. It takes spans, made of the records; nothing can be read from it."""

    example = "otlp+http://localhost:4318"
    extra = "otlp"
    options_type = None
    takes_spans = True

    def __init__(self, url: str) -> None:
        """Raises SettingError for a URL with a user, a query or a content level."""
        super().__init__(url)
        if names_user(url) or "?" in self.url:
            raise self.error("has a user or options: headers, TLS and time limit are those of OTEL_EXPORTER_OTLP_*")
        if self.content != "full":
            raise self.error("has a `content`: what spans show is said by the settings `content`, `content_on_spans`")

    @property
    def at_every_level(self) -> list[str]:
        """Its URL: it has no level of its own."""
        return [self.url]

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
        self._maker: SpanMaker | None = None
        self._segment: Path | None = None
        self._answered: set[tuple[str, int]] = set()
        """Entries of the batch in progress that the receiver has answered for."""

    def begin(self, segment: Path, head: bytes) -> None:
        """Take what the spans that follow have in common."""
        if segment != self._segment or self._maker is None:
            self._segment, self._maker = segment, SpanMaker.of(head)

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Send the spans of all entries, in requests of at most 3 MiB.

        Raises PoisonError where the receiver refuses a request for good or an entry is no record, UnavailableError
        where it may take it later.
        """
        maker = self._maker
        if maker is None:
            raise PoisonError("the segment has no head: what its spans have in common is not known")
        for part in _parts(self._spans(maker, entries)):
            self._send(maker, part)
        self._answered.difference_update((entry.segment, entry.end) for entry in entries)

    def take_over(self, segment: Path, head: bytes, payloads: Iterable[bytes]) -> None:
        """Send the spans of what a process had begun when it was killed. Raises as `deliver`, and then goes on."""
        maker, self._segment = SpanMaker.of(head), segment
        if maker is None:
            return
        # Each has a key of its own, below those of entries.
        found = (
            (Entry(segment.name, 0, -number, b""), span) for number, span in enumerate(maker.interrupted(payloads))
        )
        waiting = ((entry, [span]) for entry, span in found if (entry.segment, entry.end) not in self._answered)
        for part in _parts(waiting):
            self._send_halved(maker, part)
        self._answered.clear()

    def _send_halved(self, maker: SpanMaker, part: Sequence[_Spans]) -> None:
        try:
            self._send(maker, part)
        except ours(PoisonError) as error:
            if len(part) == 1:
                self.set_aside(part[0][0], str(error))
                self._answered.add((part[0][0].segment, part[0][0].end))
                return
            for half in (part[: len(part) // 2], part[len(part) // 2 :]):
                self._send_halved(maker, half)

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Note a span that is refused for good in `dead_letter.jsonl` of the spool, without content, and count it."""
        self._answered.discard((entry.segment, entry.end))
        self._refused(1, reason)
        if self._segment is not None:
            line = encode_json(
                {"store": self.name, "reason": reason, "segment": entry.segment, "start": entry.start} | _ids(entry)
            )
            path = self._segment.with_name(DEAD_LETTERS)
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            with os.fdopen(fd, "ab") as file:
                file.write(line + b"\n")

    def try_out(self, entry: Entry) -> str:  # noqa: ARG002 - the protocol's name
        """Send a request without spans. Raises UnavailableError, or StoreError where it is refused."""
        self._transport.send(_NOTHING)
        return "it takes requests; no span was sent, because it could not be taken back"

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _spans(self, maker: SpanMaker, entries: Sequence[Entry]) -> Iterator[_Spans]:
        for entry in entries:
            if (entry.segment, entry.end) not in self._answered and (spans := maker.spans(entry)):
                yield entry, spans

    def _send(self, maker: SpanMaker, part: Sequence[_Spans]) -> None:
        try:
            rejection = self._transport.send(maker.request([span for _, spans in part for span in spans]))
        except ours(RefusedError) as error:
            raise PoisonError(str(error)) from error
        self._answered.update((entry.segment, entry.end) for entry, _ in part)
        if rejection is not None and rejection.spans:
            self._refused(rejection.spans, rejection.message)

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
        settings: Settings = with_settings(head)
        self._shows_content = settings.content == "full" and settings.content_on_spans
        self._limits = limits_or_default(head.limits)
        self._shows_attempts = settings.attempt_spans
        self._options = ScopeSpanOptions.of(settings)
        self._projection = Projection(settings)

    @classmethod
    def of(cls, head: bytes) -> SpanMaker | None:
        """Return the maker of a head; None where it is not there or damaged."""
        try:
            return cls(decode_head(head)) if head else None
        except ours(msgspec.MsgspecError, TypeError):
            return None

    def spans(self, entry: Entry) -> list[bytes]:
        """Return the encoded spans of an entry; most records have none. Raises PoisonError."""
        if entry.payload.startswith(SPAN):
            try:
                return [decode_span(entry.payload).span]
            except ours(msgspec.MsgspecError) as error:
                raise PoisonError(f"not a span: {error}") from error
        record = entry.decode(entry)
        return self._of_call(record) if isinstance(record, CallRecord) and _is_final(record) else []

    def interrupted(self, payloads: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the encoded spans of what was begun in a segment, and not ended."""
        make = SessionSpans(self._projection, self._options, self._conversation)
        for span in interrupted_spans(self._head, payloads, make):
            yield encode_span(span, self._limits)

    def request(self, spans: Sequence[bytes]) -> bytes:
        """Return a request to export spans."""
        head = self._head
        return encode_request(head.resource, head.resource_schema, head.scope, head.scope_schema, spans)

    def _of_call(self, record: CallRecord) -> list[bytes]:
        span = span_of_call(record, self._projection, self._conversation(record))
        attempts = spans_of_attempts(record) if self._shows_attempts else []
        return [encode_span(one, self._limits) for one in (*attempts, span) if one is not None]

    def _conversation(self, record: CallRecord) -> Conversation | None:
        """Return the messages of a call that its span may show."""
        return conversation_of(record) if self._shows_content and record.content_level == "full" else None


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
    return bool(record.sampled) and record.seen_in in _OWN and record.part in _ENDS


def _parts(found: Iterator[_Spans]) -> Iterator[list[_Spans]]:
    part: list[_Spans] = []
    size = 0
    for entry, spans in found:
        more = sum(map(len, spans))
        if part and size + more > MAX_REQUEST_BYTES:
            yield part
            part, size = [], 0
        part.append((entry, spans))
        size += more
    if part:
        yield part
