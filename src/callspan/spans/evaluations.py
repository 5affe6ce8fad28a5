"""Evaluations: exports rewards as `gen_ai.evaluation.result` after their span has ended, and as log events."""

from __future__ import annotations

from typing import Final

from opentelemetry import _logs
from opentelemetry._logs import Logger, LoggerProvider, LogRecord
from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from callspan.fail_open import fail_open
from callspan.record.events import EventRecord, RewardRecord
from callspan.semconv import events, gen_ai
from callspan.semconv.budgets import Attributes, ByteBudget

_EMIT: Final = fail_open("emit a reward as a log event")


_KIB: Final = 1024


class SessionSpanOptions:
    """Options of session spans: content or not, `llm.meta.*`, compatibility names, byte limits."""

    __slots__ = ("attribute_bytes", "compatibility", "content", "llm", "span_bytes")

    def __init__(
        self,
        *,
        content: bool = True,
        compatibility: bool = True,
        llm: bool = True,
        attribute_bytes: int = 32 * _KIB,
        span_bytes: int = 128 * _KIB,
    ) -> None:
        self.content = content
        self.compatibility = compatibility
        self.llm = llm
        self.attribute_bytes = attribute_bytes
        self.span_bytes = span_bytes

    def budget(self, *, reserved: bool = False) -> ByteBudget:
        """Return the byte budget of a new span's content; `reserved` excludes the share of its input and output."""
        return ByteBudget(self.attribute_bytes, self.span_bytes - (self._reserve if reserved else 0))

    def rest(self, used: ByteBudget | None) -> ByteBudget:
        """Return the budget left for input and output, after `used` by the span's other content."""
        left = self.span_bytes if used is None else used.left + self._reserve
        return ByteBudget(self.attribute_bytes, left)

    @property
    def _reserve(self) -> int:
        return min(2 * self.attribute_bytes, self.span_bytes // 2)


class EvaluationLog:
    """Emits rewards as log events. Safe from any thread; never raises."""

    def __init__(self, provider: LoggerProvider | None, version: str) -> None:
        """`provider` None: the global one, looked up for each event, because it may be set later."""
        self._provider = provider
        self._version = version

    def emit(self, attributes: Attributes, time_ns: int, context: Context) -> bool:
        """Emit one evaluation in the context of its target span; False if the provider would drop it."""
        with _EMIT:
            logger = self._logger()
            if logger is not None:
                logger.emit(
                    LogRecord(
                        timestamp=time_ns,
                        context=context,
                        attributes=dict(attributes),
                        event_name=events.EVALUATION_EVENT,
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


class Evaluations:
    """Exports rewards that have no open span: as log events if there is a log, else as separate spans."""

    def __init__(self, tracer: Tracer, options: SessionSpanOptions, log: EvaluationLog | None) -> None:
        self._tracer = tracer
        self._options = options
        self._log = log

    def also_log(self, record: EventRecord | RewardRecord, of: SpanContext) -> None:
        """Also emit a reward that is on a span as a log event, if there is a log."""
        if self._log is not None:
            self._emit(self._log, record, set_span_in_context(NonRecordingSpan(of)), None)

    def late(self, record: EventRecord | RewardRecord, of: SpanContext | None, response_id: str | None = None) -> None:
        """Export a reward as a child of its target span or, if that is unknown, of the current span.

        Emits one log event or one span; an unsampled span gets no children.
        """
        context = get_current() if of is None else set_span_in_context(NonRecordingSpan(of))
        if self._log is not None and self._emit(self._log, record, context, response_id):
            return
        if of is None or of.trace_flags.sampled:
            attributes = events.late_evaluation(record, response_id)
            if attributes is not None:
                self._span(record, attributes, context)

    def _span(self, record: EventRecord | RewardRecord, attributes: Attributes, context: Context) -> None:
        options = self._options
        if options.content and isinstance(record, RewardRecord):
            attributes |= events.event_content(record, options.budget())
        # The evaluator may run elsewhere, days later: its own trace is linked, not joined.
        judge, judged = get_current_span().get_span_context(), get_current_span(context).get_span_context()
        span = self._tracer.start_span(
            events.evaluation_span_name(record),
            context,
            SpanKind.INTERNAL,
            {**attributes, **events.EVALUATOR} if options.compatibility else attributes,
            links=[Link(judge)] if judge.is_valid and judge != judged else None,
            start_time=record.time_ns,
        )
        span.add_event(events.EVALUATION_EVENT, attributes, record.time_ns)
        span.end(record.time_ns)

    def _emit(
        self, log: EvaluationLog, record: EventRecord | RewardRecord, context: Context, response_id: str | None
    ) -> bool:
        attributes = events.late_evaluation(record, response_id)
        if attributes is None:
            return False
        # The record is processed: it has only what may be exported.
        attributes |= events.event_content(record, self._options.budget()) if isinstance(record, RewardRecord) else {}
        return log.emit(attributes, record.time_ns, context)
