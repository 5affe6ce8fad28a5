"""What differs between spans, as OpenTelemetry's exporter sends them, and those made of their records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan
from opentelemetry.sdk.trace import ReadableSpan
from typing_extensions import Unpack

from callspan.otlp.recorded import readable
from callspan.providers.registry import conversation_of
from callspan.record.events import record_key, start_id
from callspan.records import CallRecord, Record, decode, encode
from callspan.semconv.call import Projection
from callspan.semconv.session_spans import SpanRebuilder
from callspan.semconv.spans import ScopeSpanOptions, Span
from callspan.settings import SettingArguments, Settings
from callspan.settings_loader import load


def sent(span: ReadableSpan) -> SentSpan:
    """Return the message that OpenTelemetry's exporter makes of a span."""
    return encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]


def encoded(span: Span) -> bytes:
    """Return what OpenTelemetry's exporter sends of a span made of a record."""
    return sent(readable(span)).SerializeToString()


def of_records(records: Iterable[Record], settings: Settings) -> dict[str, bytes]:
    """Return the encoded spans of all records, by the span's id, made session by session of what the spool has."""
    last = {record_key(record): decode(encode(record)) for record in records}
    ended = {start_id(ident) for kind, ident in last if kind == "event"}
    kept = [record for (_, ident), record in last.items() if ident not in ended]
    shows_content = settings.content == "full" and settings.content_on_spans
    made = dict[str, bytes]()
    for session in {_session(record) for record in kept}:
        spans = SpanRebuilder(
            Projection(settings), ScopeSpanOptions.of(settings), conversation_of if shows_content else lambda _: None
        )
        parts = [record for record in kept if _session(record) == session]
        made |= {span.span_id: encoded(span) for span in spans.of(parts)}
    return made


def differences(
    spans: Iterable[ReadableSpan], records: Iterable[Record], **arguments: Unpack[SettingArguments]
) -> Iterator[str]:
    """Yield what differs between spans and those of the records, and which of them the other side lacks."""
    made = of_records(records, load(arguments, {}, warn=False))
    for span in spans:
        theirs = sent(span)
        ours = made.pop(theirs.span_id.hex(), None)
        if ours != theirs.SerializeToString():
            yield f"{span.name}: {_difference(ours, theirs)}"
    yield from (f"{SentSpan.FromString(one).name} is no span" for one in made.values())


def _session(record: Record) -> str | None:
    return (record.place if isinstance(record, CallRecord) else record).session_id


def _difference(made: bytes | None, theirs: SentSpan) -> str:
    if made is None:
        return "the record has no span"
    sides = SentSpan.FromString(made), theirs
    fields = [[str(getattr(side, field.name)) for field in SentSpan.DESCRIPTOR.fields] for side in sides]
    found = [f"{one} for {other}" for one, other in zip(*fields, strict=True) if one != other]
    return "; ".join(found) or "the bytes differ, the messages do not"
