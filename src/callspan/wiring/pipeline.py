"""Pipeline: the objects that one `instrument()` creates from its settings and providers."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import metadata
from typing import Final, get_args

import msgspec
from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.context import get_current
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, SpanContext, TracerProvider

from callspan.agent.call_ids import remember_span
from callspan.agent.context import content_of
from callspan.agent.provider_tools import record_provider_tools
from callspan.agent.received import ReceivedTotals
from callspan.agent.registry import REGISTRY, open_level
from callspan.agent.runtime import Runtime
from callspan.agent.tree import LOOSE_CALLS, ambient
from callspan.cost import published
from callspan.delivery.recorder import Listener, Recorder
from callspan.observe.deferred_ends import DeferredEnds
from callspan.observe.earlier_answers import EarlierAnswers
from callspan.observe.factory import CallFactory
from callspan.otlp.providers import SIGNALS, Signal
from callspan.process import callbacks
from callspan.process.processed import ProcessedRecord
from callspan.process.processors import Processors, caller_processors
from callspan.process.redaction import Redactor
from callspan.record.call import CallRecord, Place
from callspan.record.events import Record
from callspan.record.messages import Conversation
from callspan.runtime.background import Worker
from callspan.runtime.fail_open import fail_open, value_of
from callspan.runtime.lock_free import LRUCache
from callspan.runtime.process_end import ForkedWorkers
from callspan.semconv.spans import ScopeSpanOptions
from callspan.service import service_name
from callspan.settings import Content, SettingError, Settings, safe_repr, strictest
from callspan.spans.call import CallSpans, context_of, tracer_of
from callspan.spans.foreign import service_in
from callspan.spans.instruments import CallMetrics
from callspan.spans.session import SessionSpans
from callspan.stores.urls import load_sinks

_METHODS: Final = {"tracer_provider": "get_tracer", "meter_provider": "get_meter", "logger_provider": "get_logger"}
_GLOBAL: Final[tuple[tuple[str, Callable[[], object]], ...]] = (
    ("tracer_provider", trace.get_tracer_provider),
    ("meter_provider", metrics.get_meter_provider),
    ("logger_provider", _logs.get_logger_provider),
)

_MAX_SEEN: Final = 16_384
_FLUSHES: Final = Worker("callspan-flush")
_WITHOUT_SPANS: Final = (NoOpTracerProvider, ProxyTracerProvider)
"""Providers of spans that show nothing; the second one stands for a provider that the application may set later."""
_LOAD_STORES: Final = fail_open("import the delivery to stores")


class Pipeline:
    """The objects built from settings and providers. Starts no thread and opens no file."""

    def __init__(self, settings: Settings, providers: Providers, deferred_ends: DeferredEnds) -> None:
        """`deferred_ends` repeats interrupted ends."""
        self.settings = settings
        self.providers = providers
        self._deferred_ends = deferred_ends
        self._version = _version()
        of_provider = service_in(providers.tracer_provider or trace.get_tracer_provider())
        self._service = service_name(settings.service, of_provider)
        self.recorder = Recorder(settings, providers.listeners, self._priced)
        self._metrics = CallMetrics(providers.meter_provider, self._version, self.recorder)
        self._workers = ForkedWorkers(providers.flush, self.recorder.flush)
        self._processors = {
            level: caller_processors(msgspec.structs.replace(settings, content=level), providers.redact, self._is_shown)
            for level in {strictest(settings.content, level) for level in get_args(Content)}
        }
        spans = {level: self._spans(level) for level in self._processors}
        self._recorded_calls: LRUCache[str, object] = LRUCache(_MAX_SEEN)
        self._received = ReceivedTotals()
        self._answers = EarlierAnswers()
        self.factories: Mapping[Content, CallFactory] = {level: self._factory(level, spans[level]) for level in spans}
        """The call factory for each content level at least as strict as the setting."""
        self.runtime = Runtime(
            write=self._write_and_measure,
            write_unmeasured=self._write_unmeasured,
            writes_starts=self.recorder.writes_starts,
            processors=self._processors_at,
            spans=self._session_spans(),
            content=settings.content,
            trace_per_timestep=settings.trace_per == "timestep",
            service=self._service,
            session_ended=self._metrics.measure_session,
            run_again=self._deferred_ends.put,
        )

    def load(self) -> None:
        """Import the code for delivery and pricing now, not during the application's calls."""
        with _LOAD_STORES:
            load_sinks(self.recorder.stores)
        if self.recorder.stores:
            published.load()

    def write(self, record: Record, level: Content = "full") -> bool:
        """Process and store a record of something that callspan did not observe; return whether it was written."""
        is_version = isinstance(record, CallRecord) and not self._recorded_calls.is_first(f"received {record.call_id}")
        is_written = self.recorder.write(self.processed(record, level), replaces=is_version)
        if is_written:
            self._received.count(record)
        return is_written

    def processed(self, record: Record, level: Content = "full") -> ProcessedRecord[Record]:
        """Process a record at the strictest level: the setting, `level`, or its session's, if it is open here."""
        session = record.place if isinstance(record, CallRecord) else record
        level = strictest(level, open_level(getattr(session, "session_id", None)))
        return self._processors_at(level).process(record)

    def _is_shown(self) -> bool:
        """Return whether a store, listener, callback, metric, log event or span would have a record now."""
        if self.recorder.writes_starts() or callbacks.REGISTERED or self.settings.log_events:
            return True
        provider = self.providers.tracer_provider or trace.get_tracer_provider()
        if not isinstance(provider, _WITHOUT_SPANS) or trace.get_current_span().is_recording():
            return True
        return bool(self._metrics.are_wanted())

    def _write_and_measure(self, record: ProcessedRecord[Record]) -> None:
        self.recorder.write(record)
        self._metrics.measure_event(record)
        if record.interrupt is not None:
            raise record.interrupt

    def _write_unmeasured(self, record: ProcessedRecord[Record]) -> None:
        self.recorder.write(record)
        if record.interrupt is not None:
            raise record.interrupt

    def _tools_ran(self, conversation: Conversation, record: CallRecord) -> None:
        record_provider_tools(self.runtime, conversation, record)

    def _priced(self, processed: ProcessedRecord[Record]) -> None:
        self._metrics.measure_cost(processed)

    def _processors_at(self, level: Content) -> Processors:
        return self._processors[strictest(self.settings.content, content_of(get_current()), level)]

    def _spans(self, level: Content) -> CallSpans:
        settings, providers = msgspec.structs.replace(self.settings, content=level), self.providers
        return CallSpans(settings, providers.tracer_provider, self._version, providers.logger_provider)

    def _session_spans(self) -> SessionSpans:
        settings, providers = self.settings, self.providers
        return SessionSpans(tracer_of(self._version, providers.tracer_provider), ScopeSpanOptions.of(settings))

    def _factory(self, level: Content, spans: CallSpans) -> CallFactory:
        settings = self.settings
        return CallFactory(
            spans=spans,
            metrics=self._metrics,
            processors=self._processors[level],
            recorder=self.recorder,
            workers=self._workers,
            ends=self._deferred_ends,
            recorded_calls=self._recorded_calls,
            answers=self._answers,
            ambient=ambient,
            loose_calls=LOOSE_CALLS,
            keep=remember_span,
            requested_in=_requested_in,
            tools_ran=self._tools_ran,
            service=self._service,
            host=platform.node() or None,
            estimates=settings.estimate_usage,
            chunk_log=settings.chunk_log,
        )


def _requested_in(call_id: str) -> tuple[Place, SpanContext | None]:
    """Return the place of a call's request and the context of its span, as far as this process knows them."""
    ref = REGISTRY.call_spans.get(call_id)
    if ref is None or ref.trace_id is None or ref.span_id is None:
        return Place() if ref is None else ref.place, None
    return ref.place, context_of(ref.trace_id, ref.span_id, sampled=ref.sampled)


@cache
def _version() -> str:
    return value_of(lambda: metadata.version("callspan")) or "unknown"


class Providers(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `instrument()` other than settings. A provider of None is the global one, looked up on use."""

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    logger_provider: LoggerProvider | None = None
    redact: Redactor | None = None
    listeners: tuple[Listener, ...] = ()

    def without_provider(self, *, log_events: bool) -> list[Signal]:
        """Return the signals that use a global provider, log events only if enabled."""
        providers = {"traces": self.tracer_provider, "metrics": self.meter_provider, "logs": self.logger_provider}
        return [signal for signal in SIGNALS if providers[signal] is None and (signal != "logs" or log_events)]

    def flush(self, timeout_s: float) -> bool:
        """Flush the providers; return False on timeout, or if the receiver of `otlp` did not accept the spans."""
        flushed: list[bool] = []
        # On another thread, because OpenTelemetry's exporters do not respect the time limit of a flush.
        _FLUSHES.put(lambda: flushed.append(self._flush(timeout_s)))
        return _FLUSHES.drain(timeout_s) and flushed == [True]

    def _flush(self, timeout_s: float) -> bool:
        providers = (getattr(self, name) or global_provider() for name, global_provider in _GLOBAL)
        flushes = (flush for provider in providers if (flush := getattr(provider, "force_flush", None)) is not None)
        answers = [value_of(partial(flush, int(timeout_s * 1000))) for flush in flushes]
        return all(answers)


def given_providers(base: Providers, arguments: Mapping[str, object]) -> Providers:
    """Return the providers in `base` updated by the arguments; None means not given, False removes the redactor.

    Raises SettingError for a redactor that is not callable, and for an invalid provider.
    """
    updates = {name: value for name, value in arguments.items() if value is not None}
    redact = updates.get("redact")
    if redact is False:
        updates["redact"] = None
    elif redact is not None and not callable(redact):
        raise SettingError(f"redact={safe_repr(redact)}: use a function from record to record, or False for none")
    for name, method in _METHODS.items():
        if name in updates and not callable(getattr(updates[name], method, None)):
            raise SettingError(
                f"{name}={safe_repr(updates[name])}: use a provider of OpenTelemetry, which has {method}()"
            )
    return msgspec.structs.replace(base, **updates)


def changed_providers(old: Providers, new: Providers) -> list[str]:
    """Return the differences, each with the names of the old and the new object."""
    # Not by identity: each access of a method is another object.
    names = [name for name in (*_METHODS, "redact") if getattr(old, name) != getattr(new, name)]
    return [f"{name} {_name(getattr(old, name))} -> {_name(getattr(new, name))}" for name in names]


def _name(value: object) -> str:
    if value is None:
        return "none"
    name = getattr(value, "__qualname__", None)
    return f"{name if isinstance(name, str) else type(value).__name__} at {id(value):#x}"
