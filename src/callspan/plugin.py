"""Plugin: OpenTelemetry's entry points: an instrumentor for each SDK, and the record exporter."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined] # untyped
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from callspan import wiring
from callspan.agent.adopted import AGENT_SPANS
from callspan.receive.spans import RECORDED_APART, RECORDED_TWICE, SpanReader, SpanRecords
from callspan.runtime.fail_open import fail_open
from callspan.sdk_profiles import HTTP, PROFILES, Source
from callspan.semconv.records_from_spans import ForeignSpan
from callspan.settings_loader import enabled_sources, load, warn_once
from callspan.spans.foreign import foreign_span

_READ: Final = fail_open("record a span of another instrumentation")
_OF_DISTRO: Final = frozenset({"raise_exception_on_conflict", "skip_dep_check"})
"""Arguments that `opentelemetry-instrument` passes to each instrumentor."""
_PROVIDERS: Final = ("tracer_provider", "meter_provider", "logger_provider")
_TRACES_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_EXPORTER: Final = "callspan"
_NO_EXPORTER: Final = (
    f"{_TRACES_EXPORTER} names callspan, but nobody has set up a tracer provider, so that it gets neither spans "
    'nor records; pip install "callspan[otlp]" adds what does'
)
DEFAULT_STORE: Final = "sqlite:///callspan.db"
_USE: Final = """

    Raises:
        SettingError: From `instrument()`: an argument has an invalid value.

    Example:
        >>> callspan.{name}().instrument(content="metadata")
        >>> callspan.{name}().uninstrument()
    """
"""The end of each instrumentor's docstring."""


class _Instrumentor(BaseInstrumentor):  # type: ignore[misc] # untyped base
    """The instrumentor of one source of calls; it takes the arguments of `callspan.instrument()`."""

    _source: Source

    def __init_subclass__(cls, source: Source) -> None:
        super().__init_subclass__()
        cls._source = source
        cls.__doc__ = (cls.__doc__ or "") + _USE.format(name=cls.__name__)

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the supported versions of the SDK; none for the HTTP libraries, because any of them may be missing."""
        return () if self._source == HTTP else (PROFILES[self._source].requirement,)

    def instrument(self, **kwargs: Any) -> None:
        """Instrument; under `opentelemetry-instrument` say so if nobody has made the exporter that it names."""
        if not _OF_DISTRO.isdisjoint(kwargs) and _lacks_exporter():
            warn_once(_NO_EXPORTER)
        super().instrument(**kwargs)

    def _instrument(self, **kwargs: Any) -> None:
        kwargs.pop("skip_dep_check", None)
        by_environment = kwargs.keys() <= set(_PROVIDERS)
        handle = wiring.instrument(**kwargs, sdks=(self._source,))
        if by_environment:
            wiring.WIRING.flush_before_sigterm(handle.settings)

    def _uninstrument(self, **kwargs: Any) -> None:  # noqa: ARG002 - OpenTelemetry's signature
        wiring.WIRING.remove_source(self._source)


class OpenAIInstrumentor(_Instrumentor, source="openai"):
    """Instruments the openai SDK. `instrument()` takes the arguments of `callspan.instrument()`."""


class AnthropicInstrumentor(_Instrumentor, source="anthropic"):
    """Instruments the anthropic SDK. `instrument()` takes the arguments of `callspan.instrument()`."""


class GroqInstrumentor(_Instrumentor, source="groq"):
    """Instruments the groq SDK. `instrument()` takes the arguments of `callspan.instrument()`."""


class TogetherInstrumentor(_Instrumentor, source="together"):
    """Instruments the together SDK. `instrument()` takes the arguments of `callspan.instrument()`."""


class FireworksInstrumentor(_Instrumentor, source="fireworks"):
    """Instruments the fireworks SDK. `instrument()` takes the arguments of `callspan.instrument()`."""


class CerebrasInstrumentor(_Instrumentor, source="cerebras"):
    """Instruments the cerebras SDK. `instrument()` takes the arguments of `callspan.instrument()`."""


class GoogleGenAIInstrumentor(_Instrumentor, source="google"):
    """Instruments google-genai. `instrument()` takes the arguments of `callspan.instrument()`."""


class BedrockInstrumentor(_Instrumentor, source="bedrock"):
    """Instruments boto3 and aiobotocore. `instrument()` takes the arguments of `callspan.instrument()`."""


class HTTPInstrumentor(_Instrumentor, source="http"):
    """Instruments all other code that calls models by an HTTP library, see the setting `http`.

    `instrument()` takes the arguments of `callspan.instrument()`. Under `opentelemetry-instrument` it is off
    if `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` leaves out an SDK, unless `CALLSPAN_HTTP` is on.
    """

    def instrument(self, **kwargs: Any) -> None:
        """Instrument, unless `opentelemetry-instrument` does it and an SDK was left out."""
        if _OF_DISTRO.isdisjoint(kwargs) or HTTP in enabled_sources():
            super().instrument(**kwargs)


def _lacks_exporter() -> bool:
    """Return whether the environment names the record exporter, and no tracer provider could have got it."""
    named = {name.strip() for name in os.environ.get(_TRACES_EXPORTER, "").split(",")}
    if _EXPORTER not in named or isinstance(trace.get_tracer_provider(), TracerProvider):
        return False
    return load(warn=False).enabled


class CallRecordExporter(SpanExporter):
    """Span exporter that writes callspan's records, and records made from other GenAI spans, to stores.

    It needs no configuration, as in `OTEL_TRACES_EXPORTER=otlp,callspan`. `stores` are URLs or paths as for
    `instrument()`; by default `$CALLSPAN_STORES`, else `sqlite:///callspan.db`.

    Raises:
        SettingError: A store's URL is invalid.

    Example:
        >>> from opentelemetry.sdk.trace import TracerProvider
        >>> from opentelemetry.sdk.trace.export import BatchSpanProcessor
        >>> provider = TracerProvider()
        >>> provider.add_span_processor(BatchSpanProcessor(callspan.CallRecordExporter("calls.jsonl")))
        >>> provider.shutdown()
    """

    def __init__(self, stores: str | Path | Sequence[str | Path] | None = None) -> None:
        self._wiring = wiring.WIRING
        self._spans = SpanReader()
        self._stores = self._wiring.add_stores(stores, default=DEFAULT_STORE)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Record spans of other instrumentations; callspan's own already have a record."""
        foreign_spans: list[ForeignSpan] = []
        for span in spans:
            with _READ:
                place = None if span.context is None else AGENT_SPANS.place_of(span.context.span_id)
                foreign_spans.append(msgspec.structs.replace(foreign_span(span), adopted=place))
        with _READ:
            self._record(self._spans.read(foreign_spans))
        return SpanExportResult.SUCCESS

    def _record(self, records: SpanRecords) -> None:
        for record, _ in (*records.runs, *records.calls):
            self._wiring.write(record)
        for _ in range(records.repeated):
            self._wiring.note_unrecorded(RECORDED_TWICE)
        for _ in range(records.apart):
            self._wiring.note_unrecorded(RECORDED_APART)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the stores have every record so far; return False on timeout."""
        return self._wiring.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Deliver records for up to two seconds; the rest waits on disk for the next process."""
        with _READ:
            self._record(self._spans.close())
        self._wiring.flush(2.0)
