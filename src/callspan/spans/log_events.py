"""Log events: calls and evaluations as log events of the GenAI conventions.

The event of a call has its content as structured values, not as JSON text.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import msgspec
from opentelemetry import _logs, trace
from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import Span
from opentelemetry.util.types import AnyValue

from callspan.fail_open import fail_open, log
from callspan.record.call import FAILED, CallRecord
from callspan.record.messages import Conversation
from callspan.semconv import call, gen_ai
from callspan.semconv.call import Projection
from callspan.settings import Settings

EVENT_NAME: Final = "gen_ai.client.inference.operation.details"
EXCEPTION_EVENT_NAME: Final = "gen_ai.client.operation.exception"
_EMIT: Final = fail_open("emit a log event")
_READ: Final = fail_open("read a call for its log event")
_STRUCTURED: Final = (
    gen_ai.INPUT_MESSAGES,
    gen_ai.OUTPUT_MESSAGES,
    gen_ai.SYSTEM_INSTRUCTIONS,
    gen_ai.TOOL_DEFINITIONS,
)


class EventLog:
    """Emits log events. Thread-safe; never raises."""

    def __init__(self, provider: LoggerProvider | None, version: str) -> None:
        """Without `provider` the global one is looked up for each event, because it may be set later."""
        self._provider = provider
        self._version = version
        self._has_warned = False

    def emit(
        self,
        name: str,
        attributes: Mapping[str, AnyValue],
        time_ns: int,
        context: Context,
        severity: SeverityNumber | None = None,
    ) -> bool:
        """Emit an event; False if the provider would drop it."""
        with _EMIT:
            provider = self._provider or _logs.get_logger_provider()
            # The API's no-op providers have no `force_flush`.
            if not hasattr(provider, "force_flush"):
                self._warn()
                return False
            record = LogRecord(
                timestamp=time_ns, context=context, severity_number=severity, attributes=attributes, event_name=name
            )
            _logs.get_logger("callspan", self._version, provider, gen_ai.SCHEMA_URL).emit(record)
            return True
        return False

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            log(
                logging.WARNING,
                "log_events is on, but no logger provider is set: set one, or configure otlp= or "
                "OTEL_EXPORTER_OTLP_ENDPOINT",
            )


class CallLogEvents:
    """Emits one event for each finished call, and a second one if it failed. Thread-safe; never raises."""

    def __init__(self, settings: Settings, events: EventLog) -> None:
        self._projection = Projection(msgspec.structs.replace(settings, vocabularies=("gen_ai",)))
        self._events = events

    def emit(self, record: CallRecord, conversation: Conversation | None, span: Span) -> None:
        """Emit the events of a call in the context of its span; content only if `conversation` is given."""
        with _READ:
            context = trace.set_span_in_context(span)
            end_ns = record.timing.start_ns + (record.timing.duration_ns or 0)
            attributes = self._attributes(record, conversation)
            self._events.emit(EVENT_NAME, attributes, end_ns, context, SeverityNumber.DEBUG)
            if record.error is not None and record.outcome in FAILED:
                error = {gen_ai.ERROR_TYPE: record.error.type, **call.EXCEPTION.of(record.error)}
                about = {**gen_ai.START.of(record), **error}
                self._events.emit(EXCEPTION_EVENT_NAME, about, end_ns, context, SeverityNumber.WARN)

    def _attributes(self, record: CallRecord, conversation: Conversation | None) -> dict[str, AnyValue]:
        named = self._projection.start(record) | self._projection.end(record, conversation)
        attributes: dict[str, AnyValue] = dict(named)
        for name in _STRUCTURED:
            text = named.get(name)
            if isinstance(text, str):
                attributes[name] = msgspec.json.decode(text)
        return attributes
