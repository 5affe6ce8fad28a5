"""Evaluations: rewards as `gen_ai.evaluation.result`, for spans that cannot take them any more, and as log events."""

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
    """How spans of the agent are shown: content or not, `llm.meta.*`, compatibility names, byte caps."""

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
        """Return the bytes of content a new span may hold; `reserved` keeps back those of what went in and came out."""
        return ByteBudget(self.attribute_bytes, self.span_bytes - (self._reserve if reserved else 0))

    def rest(self, used: ByteBudget | None) -> ByteBudget:
        """Return the rest for what went in and came out, of a span whose other content has `used` its budget."""
        left = self.span_bytes if used is None else used.left + self._reserve
        return ByteBudget(self.attribute_bytes, left)

    @property
    def _reserve(self) -> int:
        return min(2 * self.attribute_bytes, self.span_bytes // 2)


class EvaluationLog:
    """The log pipeline that rewards go to as events. Safe from any thread; never raises."""

    def __init__(self, provider: LoggerProvider | None, version: str) -> None:
        """Take the provider; None: the global one, looked up with each event, as it may be set late."""
        self._provider = provider
        self._version = version

    def emit(self, attributes: Attributes, time_ns: int, context: Context) -> bool:
        """Emit one evaluation in the context of the span it is for; False if it would not be kept."""
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
        # The API's own providers keep nothing: what keeps something can be flushed.
        provider = self._provider or _logs.get_logger_provider()
        if not hasattr(provider, "force_flush"):
            return None
        return provider.get_logger("callspan", self._version, gen_ai.SCHEMA_URL)


class Evaluations:
    """Shows the rewards that no open span takes: as log events where there is a log, else as spans of their own."""

    def __init__(self, tracer: Tracer, options: SessionSpanOptions, log: EvaluationLog | None) -> None:
        self._tracer = tracer
        self._options = options
        self._log = log

    def also_log(self, record: EventRecord | RewardRecord, of: SpanContext) -> None:
        """Emit a reward that a span has taken as a log event too, where there is a log."""
        if self._log is not None:
            self._emit(self._log, record, set_span_in_context(NonRecordingSpan(of)), None)

    def late(self, record: EventRecord | RewardRecord, of: SpanContext | None, response_id: str | None = None) -> None:
        """Show a reward below the span it is for, or, if that is unknown, below the current one.

        As one log event or one span, whichever there is; a span that was not sampled has no others below it.
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
        # Who judges is elsewhere, perhaps days later: the judge's own trace is linked, not joined.
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
        # It is processed: what may not be shown is not there any more.
        attributes |= events.event_content(record, self._options.budget()) if isinstance(record, RewardRecord) else {}
        return log.emit(attributes, record.time_ns, context)
