"""Span frames: what segments have beside records, for stores that take spans: finished spans, and how to make others.

A span that is no function of one record (of a session, step or agent, of a late reward, of a batch) is finished in the
process, and written when it ends. That of a call or tool is made of its record where it is delivered, by what the head
of the segment says of the process that wrote it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.record.call import schema_field
from callspan.settings import Settings

SPAN: Final = b'{"kind":"span"'
"""What the payload of a finished span begins with."""
HEAD: Final = b'{"kind":"head"'
"""What the payload of a segment's head begins with."""


class SpanFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="span"):
    """A finished span. Stores of records pass over it."""

    trace_id: str
    """32 hex digits."""
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    session_id: str | None = None
    """Id of its session, by which it is erased; None: none."""
    span: bytes
    """The message `Span` of OTLP."""


class SpanLimits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How much a span may have; None: any number. The defaults are those of OpenTelemetry."""

    attributes: int | None = 128
    events: int | None = 128
    links: int | None = 128
    event_attributes: int | None = 128
    """Of each event."""
    value_chars: int | None = None
    """Characters of a value that is a text."""
    event_value_chars: int | None = None
    """Of a value in an event or link."""


class SegmentHead(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="head"
):
    """What the spans of a segment have in common; its first frame, where a store takes spans."""

    resource: bytes
    """The message `Resource` of OTLP."""
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    resource_schema: str = ""
    """The URL of its schema."""
    scope: bytes
    """The message `InstrumentationScope`."""
    scope_schema: str = ""
    """The URL of the schema of its spans."""
    process: str = ""
    """An id of the process, or of the fork of it, that wrote the segment."""
    begun: list[msgspec.Raw] = []
    """The first records of what had begun in it, and not ended, when it began the segment."""
    limits: SpanLimits = SpanLimits()
    """The limits in force in its process."""
    settings: dict[str, object] = {}
    """The settings that say what spans show."""


_SHOWN: Final = (
    "vocabularies", "content", "content_on_spans", "compatibility", "llm_raw", "max_attribute_bytes", "max_span_bytes",
    "attempt_spans",
)  # fmt: skip
NO_HEAD: Final = (msgspec.MsgspecError,)
"""What `decode_head` raises for anything else."""
_encode: Final = msgspec.json.Encoder().encode
_span: Final = msgspec.json.Decoder(SpanFrame).decode
_head: Final = msgspec.json.Decoder(SegmentHead).decode


def settings_of_spans(settings: Settings) -> dict[str, object]:
    """Return the settings that say what spans show."""
    return {name: getattr(settings, name) for name in _SHOWN}


def with_settings(head: SegmentHead) -> Settings:
    """Return settings with those of the process that wrote the segment. Raises msgspec.ValidationError."""
    plain = msgspec.structs.asdict(Settings())
    shown = {name: value for name, value in head.settings.items() if name in _SHOWN}
    kept = {name: tuple(value) if isinstance(value, list) else value for name, value in shown.items()}
    return Settings(**{**plain, **kept})


def encode_frame_of(span: SpanFrame | SegmentHead) -> bytes:
    """Return the payload of a span or head."""
    return _encode(span)


def decode_span(payload: bytes) -> SpanFrame:
    """Return the span in a payload. Raises msgspec.MsgspecError."""
    return _span(payload)


def decode_head(payload: bytes) -> SegmentHead:
    """Return the head in a payload. Raises msgspec.MsgspecError."""
    return _head(payload)
