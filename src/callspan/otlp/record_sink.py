"""Record sink: sends records as OTLP log records with OpenTelemetry's exporter. Their bodies are the records' JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from opentelemetry._logs import LogRecord
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import HOST_NAME, SERVICE_NAME, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from callspan.otlp.receiver import Receiver, RefusedError, UnavailableError
from callspan.process.processors import within
from callspan.record.call import CallRecord, Redaction
from callspan.record.codec import encode_json
from callspan.record.events import Record, record_key
from callspan.spool.delivering import Rejected
from callspan.stores.base import StoreError, session_of, start_of
from callspan.stores.jsonl import SCOPE
from callspan.stores.protocol import Sink
from callspan.stores.tables.payloads import line_of

MAX_BYTES: Final = 950_000
"""The maximum number of bytes of a body, and of the bodies in a request: with what is around them less than 1 MiB,
which is what Kafka accepts as one message."""
_LEAST_CONTENT: Final = 1 << 10
_SCOPE: Final = InstrumentationScope(SCOPE)


class RecordSink(Sink):
    """Sends records to one receiver. A record counts as delivered once the receiver has accepted its request."""

    def __init__(self, address: str) -> None:
        """`address` is the URL of the receiver's log records.

        Raises SettingError if it is invalid, or the exporter is not installed or rejects its variables.
        """
        self._address = address
        Receiver(address, "logs", "http/protobuf").close()
        self._receiver: Receiver | None = None
        self._resources: dict[tuple[str | None, str | None], Resource] = {}

    def open(self) -> None:
        """Make the exporter; it connects when it sends."""
        self._receiver = Receiver(self._address, "logs", "http/protobuf")

    def deliver(self, records: Sequence[Record]) -> None:
        """Send records in requests of at most `MAX_BYTES`.

        Raises StoreError if the receiver may take them later, Rejected if it refuses a request, or a part of it.
        """
        for part in self._requests(records):
            self._send(part)

    def _requests(self, records: Sequence[Record]) -> Iterator[list[tuple[Record, str]]]:
        part: list[tuple[Record, str]] = []
        size = 0
        for record in records:
            line = body_of(record)
            if part and size + len(line) > MAX_BYTES:
                yield part
                part, size = [], 0
            part.append((record, line.decode()))
            size += len(line)
        if part:
            yield part

    def _send(self, part: Sequence[tuple[Record, str]]) -> None:
        if self._receiver is None:
            raise StoreError("the store is not open")
        only_record = part[0][0] if len(part) == 1 else None
        try:
            rejection = self._receiver.send([self._log_record(record, body) for record, body in part])
        except UnavailableError as error:
            raise StoreError(str(error)) from error
        except RefusedError as error:
            raise Rejected(str(error), only_record) from error
        if rejection is not None:
            # It does not say which ones: the batch is bisected, and what was accepted is sent again.
            raise Rejected(rejection.reason, only_record)

    def _log_record(self, record: Record, body: str) -> ReadableLogRecord:
        kind, ident = record_key(record)
        attributes = {"callspan.kind": kind, "callspan.id": ident, "session.id": session_of(record)}
        log_record = LogRecord(
            timestamp=start_of(record),
            observed_timestamp=time.time_ns(),
            context=_context_of(record),
            body=body,
            attributes={name: value for name, value in attributes.items() if value},
            event_name=f"callspan.{kind}",
        )
        return ReadableLogRecord(log_record, self._resource(record), _SCOPE)

    def _resource(self, record: Record) -> Resource:
        names = getattr(record, "service", None), getattr(record, "host", None)
        if names not in self._resources:
            named = zip((SERVICE_NAME, HOST_NAME), names, strict=True)
            self._resources[names] = Resource({key: name for key, name in named if name})
        return self._resources[names]

    def close(self) -> None:
        """Close connections."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.close()


def body_of(record: Record) -> bytes:
    """Return the JSON of a record in at most `MAX_BYTES`: of a larger one with less content, which its redactions say.

    Raises Rejected if it does not fit without content.
    """
    line, limit = line_of(record), MAX_BYTES
    while len(line) > MAX_BYTES and limit > _LEAST_CONTENT:
        limit //= 2
        slim = within(record, limit)
        line = line_of(slim)
        if len(line) > MAX_BYTES and isinstance(slim, CallRecord) and slim.conversation is not None:
            line = line_of(_without_conversation(slim))
    if len(line) > MAX_BYTES:
        raise Rejected(f"a record of {len(line)} bytes without its content", record)
    return line


def _without_conversation(call: CallRecord) -> CallRecord:
    note = Redaction(what="conversation", why="size", original_bytes=len(encode_json(call.conversation)))
    return msgspec.structs.replace(call, conversation=None, redactions=[*call.redactions, note])


def _context_of(record: Record) -> Context:
    """Return a context with the ids of a record's span; without them, an empty one."""
    ids = _number(getattr(record, "trace_id", None)), _number(getattr(record, "span_id", None))
    flags = TraceFlags(TraceFlags.SAMPLED if getattr(record, "sampled", None) else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(*ids, is_remote=False, trace_flags=flags)), Context())


def _number(hexadecimal: str | None) -> int:
    """Return an id of OpenTelemetry as a number; 0 without a valid one."""
    try:
        return int(hexadecimal or "0", 16)
    except ValueError:
        return 0
