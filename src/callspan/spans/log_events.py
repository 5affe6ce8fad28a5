"""Log events: calls and evaluations as log events of the GenAI conventions.

The event of a call has its content as structured values, not as JSON text.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec
from opentelemetry import _logs, trace
from opentelemetry._logs import Logger, LoggerProvider, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import Span
from opentelemetry.util.types import AnyValue

from callspan.fail_open import fail_open, log
from callspan.record.call import FAILED, CallRecord
from callspan.record.messages import Conversation
from callspan.semconv import call, gen_ai
from callspan.semconv.call import Projection
from callspan.semconv.content_attributes import Attributes
from callspan.settings import Settings

EVENT_NAME: Final = "gen_ai.client.inference.operation.details"
EXCEPTION_EVENT_NAME: Final = "gen_ai.client.operation.exception"
_EMIT: Final = fail_open("emit a log event")
_EMIT_REWARD: Final = fail_open("emit a reward as a log event")
_STRUCTURED: Final = (
    gen_ai.INPUT_MESSAGES,
    gen_ai.OUTPUT_MESSAGES,
    gen_ai.SYSTEM_INSTRUCTIONS,
    gen_ai.TOOL_DEFINITIONS,
)


class CallLogEvents:
    """Emits one event for each finished call, and a second one if it failed. Thread-safe; never raises."""

    def __init__(self, settings: Settings, logger_provider: LoggerProvider | None, version: str) -> None:
        self._projection = Projection(msgspec.structs.replace(settings, vocabularies=("gen_ai",)))
        self._provider = logger_provider
        self._version = version
        self._logger: Logger | None = None

    def emit(self, record: CallRecord, conversation: Conversation | None, span: Span) -> None:
        """Emit the events of a call in the context of its span; content only if `conversation` is given."""
        with _EMIT:
            self._emit(EVENT_NAME, SeverityNumber.DEBUG, record, self._attributes(record, conversation), span)
            if record.error is not None and record.outcome in FAILED:
                error = {gen_ai.ERROR_TYPE: record.error.type, **call.EXCEPTION.of(record.error)}
                about: dict[str, AnyValue] = {**gen_ai.START.of(record), **error}
                self._emit(EXCEPTION_EVENT_NAME, SeverityNumber.WARN, record, about, span)

    def _emit(
        self, name: str, severity: SeverityNumber, record: CallRecord, attributes: dict[str, AnyValue], span: Span
    ) -> None:
        # Looked up late, because an application may set the global provider after `instrument()`.
        logger = self._logger or self._first_logger()
        logger.emit(
            LogRecord(
                timestamp=record.timing.start_ns + (record.timing.duration_ns or 0),
                context=trace.set_span_in_context(span),
                severity_number=severity,
                attributes=attributes,
                event_name=name,
            )
        )

    def _first_logger(self) -> Logger:
        # The API's no-op providers have no `force_flush`.
        if not hasattr(self._provider or _logs.get_logger_provider(), "force_flush"):
            log(
                logging.WARNING,
                "log_events is on, but no logger provider is set: set one, or configure otlp= or "
                "OTEL_EXPORTER_OTLP_ENDPOINT",
            )
        self._logger = _logs.get_logger("callspan", self._version, self._provider, gen_ai.SCHEMA_URL)
        return self._logger

    def _attributes(self, record: CallRecord, conversation: Conversation | None) -> dict[str, AnyValue]:
        named = self._projection.start(record) | self._projection.end(record, conversation)
        attributes: dict[str, AnyValue] = dict(named)
        for name in _STRUCTURED:
            text = named.get(name)
            if isinstance(text, str):
                attributes[name] = msgspec.json.decode(text)
        return attributes


class EvaluationLog:
    """Emits rewards as log events. Thread-safe; never raises."""

    def __init__(self, provider: LoggerProvider | None, version: str) -> None:
        """Without `provider` the global one is looked up for each event, because it may be set later."""
        self._provider = provider
        self._version = version

    def emit(self, attributes: Attributes, time_ns: int, context: Context) -> bool:
        """Emit one evaluation in the context of its target span; False if the provider would drop it."""
        with _EMIT_REWARD:
            logger = self._logger()
            if logger is not None:
                logger.emit(
                    LogRecord(
                        timestamp=time_ns,
                        context=context,
                        attributes=dict(attributes),
                        event_name=gen_ai.EVALUATION_EVENT,
                    )
                )
                return True
        return False

    def _logger(self) -> Logger | None:
        # The API's no-op providers have no `force_flush`.
        provider = self._provider or _logs.get_logger_provider()
        if not hasattr(provider, "force_flush"):
            return None
        return provider.get_logger("callspan", self._version, gen_ai.SCHEMA_URL)
