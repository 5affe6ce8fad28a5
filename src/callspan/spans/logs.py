"""Log events: a call with its content as the event of the GenAI conventions, structured instead of as JSON text."""

from __future__ import annotations

import logging
from typing import Final

import msgspec
from opentelemetry import _logs, trace
from opentelemetry._logs import Logger, LoggerProvider, LogRecord, SeverityNumber
from opentelemetry.trace import Span
from opentelemetry.util.types import AnyValue

from callspan.fail_open import fail_open, log
from callspan.record.call import CallRecord
from callspan.record.messages import Conversation
from callspan.semconv import gen_ai
from callspan.semconv.projection import Projection
from callspan.settings import Settings

EVENT_NAME: Final = "gen_ai.client.inference.operation.details"

_EMIT: Final = fail_open("emit a log event")
_STRUCTURED: Final = (
    gen_ai.INPUT_MESSAGES,
    gen_ai.OUTPUT_MESSAGES,
    gen_ai.SYSTEM_INSTRUCTIONS,
    gen_ai.TOOL_DEFINITIONS,
)


class CallLogEvents:
    """Emits one event for each finished call. Safe from any thread; never raises."""

    def __init__(self, settings: Settings, logger_provider: LoggerProvider | None, version: str) -> None:
        self._projection = Projection(msgspec.structs.replace(settings, vocabularies=("gen_ai",)))
        self._provider = logger_provider
        self._version = version
        self._logger: Logger | None = None

    def emit(self, record: CallRecord, conversation: Conversation | None, span: Span) -> None:
        """Emit the event of a call, in the context of its span; no conversation: without content."""
        with _EMIT:
            # Looked up late: an application may set the global provider after `instrument()`.
            logger = self._logger or self._first_logger()
            timing = record.timing
            logger.emit(
                LogRecord(
                    timestamp=timing.start_ns + (timing.duration_ns or 0),
                    context=trace.set_span_in_context(span),
                    severity_number=SeverityNumber.DEBUG,
                    attributes=self._attributes(record, conversation),
                    event_name=EVENT_NAME,
                )
            )

    def _first_logger(self) -> Logger:
        # The API's own providers keep nothing: what keeps something can be flushed.
        if not hasattr(self._provider or _logs.get_logger_provider(), "force_flush"):
            log(
                logging.WARNING,
                "log_events is on and there is no logger provider: set one, or give otlp= or "
                "OTEL_EXPORTER_OTLP_ENDPOINT",
            )
        url = gen_ai.SCHEMA_URL
        self._logger = _logs.get_logger("callspan", self._version, self._provider, url)
        return self._logger

    def _attributes(self, record: CallRecord, conversation: Conversation | None) -> dict[str, AnyValue]:
        named = self._projection.start(record) | self._projection.end(record, conversation)
        attributes: dict[str, AnyValue] = dict(named)
        for name in _STRUCTURED:
            text = named.get(name)
            if isinstance(text, str):
                attributes[name] = msgspec.json.decode(text)
        return attributes
