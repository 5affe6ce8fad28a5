"""Log events: calls as log events of the GenAI conventions, with content as structured values, not as JSON text."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
from opentelemetry import _logs, trace
from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber
from opentelemetry.trace import Span
from opentelemetry.util.types import AnyValue

from callspan.record.call import FAILED, CallRecord
from callspan.record.messages import Conversation
from callspan.runtime.fail_open import fail_open
from callspan.semconv import call, gen_ai
from callspan.semconv.call import Projection
from callspan.settings import Settings
from callspan.settings_loader import warn_once

EVENT_NAME: Final = "gen_ai.client.inference.operation.details"
_EXCEPTION: Final = "gen_ai.client.operation.exception"
_EMIT: Final = fail_open("emit the log event of a call")
_NO_PROVIDER: Final = (
    "log_events is on, but no logger provider is set: set one, or configure otlp= or OTEL_EXPORTER_OTLP_ENDPOINT"
)
_STRUCTURED: Final = (
    gen_ai.INPUT_MESSAGES,
    gen_ai.OUTPUT_MESSAGES,
    gen_ai.SYSTEM_INSTRUCTIONS,
    gen_ai.TOOL_DEFINITIONS,
)


class CallLogEvents:
    """Emits one event for each finished call, and a second one if it failed. Thread-safe; never raises."""

    def __init__(self, settings: Settings, provider: LoggerProvider | None, version: str) -> None:
        """Without `provider` the global one is looked up for each call, because it may be set later."""
        self._projection = Projection(msgspec.structs.replace(settings, vocabularies=("gen_ai",)))
        self._provider = provider
        self._version = version

    def emit(self, record: CallRecord, conversation: Conversation | None, span: Span) -> None:
        """Emit the events of a call in the context of its span; content only if `conversation` is given."""
        with _EMIT:
            provider = self._provider or _logs.get_logger_provider()
            # The API's no-op providers have no `force_flush`.
            if not hasattr(provider, "force_flush"):
                warn_once(_NO_PROVIDER)
                return
            logger = _logs.get_logger("callspan", self._version, provider, gen_ai.SCHEMA_URL)
            event = partial(LogRecord, timestamp=call.call_end_ns(record), context=trace.set_span_in_context(span))
            attributes = self._attributes(record, conversation)
            logger.emit(event(event_name=EVENT_NAME, attributes=attributes, severity_number=SeverityNumber.DEBUG))
            if record.error is not None and record.outcome in FAILED:
                about = gen_ai.START.of(record) | call.EXCEPTION.of(record.error)
                about[gen_ai.ERROR_TYPE] = record.error.type
                logger.emit(event(event_name=_EXCEPTION, attributes=about, severity_number=SeverityNumber.WARN))

    def _attributes(self, record: CallRecord, conversation: Conversation | None) -> dict[str, AnyValue]:
        flat = self._projection.start(record) | self._projection.end(record, conversation)
        attributes: dict[str, AnyValue] = dict(flat)
        for name in _STRUCTURED:
            text = flat.get(name)
            if isinstance(text, str):
                attributes[name] = msgspec.json.decode(text)
        return attributes
