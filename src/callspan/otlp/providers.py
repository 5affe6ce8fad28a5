"""OTLP providers: the global ones for applications that have none, for spans, metrics and log events."""

from __future__ import annotations

import atexit
import logging
import os
import platform
from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.resources import HOST_NAME, SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from callspan.fail_open import fail_open, log
from callspan.otlp.byte_bounds import ByteBoundedExporter
from callspan.otlp.variables import (
    Signal,
    make_exporter,
    protocol_of,
    variable_of,
    wanted_signals,
)
from callspan.safe_urls import is_http_url, safe_name
from callspan.service import instance_id, main_name
from callspan.settings import SettingError

_SET_UP: Final = fail_open("set up the OTLP exporters")
_LAST_S: Final = 3.0
"""Seconds that a request may take, retries included, once the process ends; for metrics, which are sums, always."""
_GLOBAL: Final[tuple[tuple[Signal, Callable[[], object], Callable[[Any], None]], ...]] = (
    ("logs", _logs.get_logger_provider, _logs.set_logger_provider),
    ("metrics", metrics.get_meter_provider, metrics.set_meter_provider),
    ("traces", trace.get_tracer_provider, trace.set_tracer_provider),
)
"""The provider created last is shut down first at exit, and spans matter most."""


class OwnExporter(ByteBoundedExporter):
    """OpenTelemetry's exporter of spans or log events, in batches limited by bytes.

    Why a batch was not accepted is logged by OpenTelemetry's exporter.
    """

    is_accepted = True
    """Whether the receiver accepted the last batch. Read by any thread."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export, and keep whether all of it was accepted."""
        self.is_accepted = False  # the exporter may raise
        result = super().export(spans)
        self.is_accepted = result is SpanExportResult.SUCCESS
        return result

    def replace(self, exporter: SpanExporter) -> None:
        """Export by another exporter from now on, and shut down the one before, also while it waits for a retry."""
        before, self._exporter = self._exporter, exporter
        before.shutdown()


class OwnSpanProcessor(BatchSpanProcessor):
    """Batches spans. A flush fails if the receiver did not accept the last batch."""

    def __init__(self, exporter: OwnExporter) -> None:
        super().__init__(exporter)
        self._own = exporter

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Flush; False if that took longer, or the spans were not accepted."""
        return super().force_flush(timeout_millis) and self._own.is_accepted


class OtlpProviders:
    """Creates providers that send by OTLP. They share a resource."""

    def __init__(self, otlp: str | bool, service: str | None = None) -> None:
        """`otlp` is the argument of `instrument()`. `service` None: that of the environment, else of the program."""
        self.exporters: dict[Signal, OwnExporter] = {}
        """Those of spans and log events, once their provider was created."""
        self._base = otlp.rstrip("/") if isinstance(otlp, str) else None
        self._wanted = wanted_signals(otlp)
        self._resource = _resource(service)

    def provider(self, signal: Signal) -> Any:  # noqa: ANN401 - of three kinds
        """Create the provider of a signal; None if the signal is disabled. Raises ImportError without an exporter."""
        if signal not in self._wanted:
            return None
        if signal == "metrics":
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

            exporter = self._exporter(signal, None if variable_of("TIMEOUT", signal) else _LAST_S)
            return MeterProvider([PeriodicExportingMetricReader(exporter)], resource=self._resource)
        own = self.exporters[signal] = OwnExporter(self._exporter(signal))
        if signal == "traces":
            tracers = TracerProvider(resource=self._resource)
            tracers.add_span_processor(OwnSpanProcessor(own))
            return tracers
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        loggers, processor = LoggerProvider(resource=self._resource), BatchLogRecordProcessor
        loggers.add_log_record_processor(processor(own))  # type: ignore[arg-type]
        return loggers

    def end(self) -> None:
        """Let requests take 3 s from now on, and wait for no retry, because the process is about to end."""
        for signal, exporter in self.exporters.items():
            exporter.replace(self._exporter(signal, _LAST_S))

    def _endpoint(self, signal: Signal) -> str | None:
        return None if self._base is None else f"{self._base}/v1/{signal}"

    def _exporter(self, signal: Signal, timeout_s: float | None = None) -> Any:  # noqa: ANN401 - of three kinds
        protocol = protocol_of(signal) if self._base is None else "http/protobuf"
        return make_exporter(signal, protocol, self._endpoint(signal), timeout_s)


def check_otlp(otlp: object) -> None:
    """Raise SettingError unless `otlp` is True, False, None or the URL of a receiver."""
    if otlp is None or isinstance(otlp, bool):
        return
    if not isinstance(otlp, str) or not is_http_url(otlp):
        given = safe_name(otlp) if isinstance(otlp, str) else type(otlp).__name__
        raise SettingError(
            f"otlp: {given!r} is no address; give that of an OTLP/HTTP receiver, such as http://localhost:4318, "
            "or True for the OTEL_EXPORTER_OTLP_* variables"
        )


def set_up_global(otlp: str | bool, service: str | None, *, wanted: Sequence[Signal]) -> None:
    """Set the global providers of the requested signals for which the application has none. Never raises.

    A global provider can be set once per process: OpenTelemetry rejects one that the application sets later.
    """
    with _SET_UP:
        providers = OtlpProviders(otlp, service)
        try:
            for signal, current, put in _GLOBAL:
                lacks = signal in wanted and _is_placeholder(current())
                if lacks and (provider := providers.provider(signal)) is not None:
                    put(provider)
        except ImportError as error:
            log(logging.WARNING, "Nothing is sent: %s", error)
        atexit.register(providers.end)


def _is_placeholder(provider: object) -> bool:
    """Return whether a global provider is OpenTelemetry's placeholder until the application sets one."""
    return type(provider).__name__.lstrip("_").startswith("Proxy")


def _resource(service: str | None) -> Resource:
    """Return OpenTelemetry's default resource with the service's name, and with host and instance id if it has none."""
    host = platform.node()
    # Without an instance id several processes of a service would overwrite each other's sums. Without a host Jaeger
    # takes each span for one of another clock, and warns where it does not fit its parent.
    ours = {
        SERVICE_INSTANCE_ID: instance_id(host or None, os.getpid()),
        SERVICE_NAME: main_name(),
        HOST_NAME: host,
    }
    found = Resource.create()
    lacking = {name: value for name, value in ours.items() if value and _lacks(found, name)}
    named = {SERVICE_NAME: service} if service else {}
    return found.merge(Resource(lacking | named))


def _lacks(resource: Resource, name: str) -> bool:
    return str(resource.attributes.get(name, "unknown_service")).startswith("unknown_service")
