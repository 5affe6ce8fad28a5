"""OTLP providers: the global ones for applications that have none, for spans, metrics and log events."""

from __future__ import annotations

import atexit
import logging
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any, Final, TypeVar

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.resources import HOST_NAME, SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from callspan.fail_open import fail_open, log
from callspan.otlp.exporting import OwnExporter
from callspan.otlp.variables import Signal, default_endpoint, endpoint_of, protocol_of, wanted_signals
from callspan.safe_urls import is_http_url, safe_name
from callspan.service import instance_id, service_name
from callspan.settings import SettingError

_SET_UP: Final = fail_open("set up the OTLP exporters")
_Provider = TypeVar("_Provider")
_LAST_S: Final = 3.0
"""Seconds that a process may retry at exit."""
_CLASSES: Final = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}
_in_force: Final[list[OtlpProviders]] = []
"""The objects that created the global providers."""


class OtlpProviders:
    """Creates providers that send by OTLP, each on first use. They share a resource."""

    def __init__(self, otlp: str | bool, service: str | None = None) -> None:
        """`otlp` is the argument of `instrument()`; `service` the service name if the environment has none."""
        self.exporters: dict[Signal, OwnExporter] = {}
        """The exporters by signal, created on first use."""
        self.made: list[tuple[object, OwnExporter]] = []
        """Each provider with its exporter."""
        self._base = otlp.rstrip("/") if isinstance(otlp, str) else None
        self._wanted = wanted_signals(otlp)
        self._resource = _resource_of(service)

    def tracer_provider(self) -> TracerProvider | None:
        """Return a provider for spans, None if they are disabled. Raises ImportError without an exporter."""
        exporter = self._exporter("traces", SpanExportResult.FAILURE)
        if exporter is None:
            return None
        provider = TracerProvider(resource=self._resource)
        processor: Any = BatchSpanProcessor
        provider.add_span_processor(processor(exporter))
        return self._made(provider, exporter)

    def meter_provider(self) -> metrics.MeterProvider | None:
        """Return a provider for metrics, None if they are disabled. Raises ImportError without an exporter."""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader

        exporter = self._exporter("metrics", MetricExportResult.FAILURE)
        if exporter is None:
            return None
        reader: Any = PeriodicExportingMetricReader
        return self._made(MeterProvider([reader(exporter)], resource=self._resource), exporter)

    def logger_provider(self) -> _logs.LoggerProvider | None:
        """Return a provider for log events, None if they are disabled. Raises ImportError without an exporter."""
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs import export as logs_export

        result = getattr(logs_export, "LogRecordExportResult", None) or logs_export.LogExportResult
        exporter = self._exporter("logs", result.FAILURE)
        if exporter is None:
            return None
        provider = LoggerProvider(resource=self._resource)
        processor: Any = logs_export.BatchLogRecordProcessor
        provider.add_log_record_processor(processor(exporter))
        return self._made(provider, exporter)

    def end(self, timeout_s: float = _LAST_S) -> None:
        """Limit all retries from now on, because the process is about to end."""
        for exporter in self.exporters.values():
            exporter.end(timeout_s)

    def _exporter(self, signal: Signal, failure: object) -> OwnExporter | None:
        if signal not in self._wanted:
            return None
        endpoint = None if self._base is None else f"{self._base}/v1/{signal}"
        protocol = "http/protobuf" if endpoint is not None else protocol_of(signal)
        address = endpoint or endpoint_of(signal) or default_endpoint(signal)
        module, name = _CLASSES[signal]
        try:
            package = import_module(f"opentelemetry.exporter.otlp.proto.{protocol.partition('/')[0]}.{module}")
        except ImportError as error:
            raise ImportError(f'Nothing is sent by OTLP: {protocol} needs pip install "callspan[otlp]"') from error
        made = OwnExporter(getattr(package, name)(endpoint=endpoint), signal, address, failure)
        self.exporters[signal] = made
        return made

    def _made(self, provider: _Provider, exporter: OwnExporter) -> _Provider:
        self.made.append((provider, exporter))
        return provider


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


def set_up_global(otlp: str | bool, *, wanted: Sequence[Signal]) -> None:
    """Set the global providers of the requested signals for which the application has none. Never raises.

    A global provider can be set once per process: OpenTelemetry rejects one that the application sets later.
    """
    with _SET_UP:
        providers = OtlpProviders(otlp)
        missing: set[str] = set()
        # The provider created last is shut down first at exit, and spans matter most.
        for signal, current, make, put in (
            ("logs", _logs.get_logger_provider, providers.logger_provider, _logs.set_logger_provider),
            ("metrics", metrics.get_meter_provider, providers.meter_provider, metrics.set_meter_provider),
            ("traces", trace.get_tracer_provider, providers.tracer_provider, trace.set_tracer_provider),
        ):
            if signal in wanted and is_placeholder(current()):
                _put(make, put, missing)
        for sentence in missing:
            log(logging.WARNING, "%s", sentence)
        if providers.exporters:
            _in_force.append(providers)
            atexit.register(providers.end)


def is_placeholder(provider: object) -> bool:
    """Return whether a global provider is OpenTelemetry's placeholder until the application sets one."""
    return type(provider).__name__.lstrip("_").startswith("Proxy")


@contextmanager
def limited_retries(timeout_s: float) -> Iterator[None]:
    """Limit the retries of the global providers created here in the block."""
    with ExitStack() as stack:
        for providers in _in_force:
            for exporter in providers.exporters.values():
                stack.enter_context(exporter.limited(timeout_s))
        yield


def last_exports(timeout_s: float = _LAST_S) -> None:
    """Limit the retries of the global providers created here, because the process is about to end."""
    for providers in _in_force:
        providers.end(timeout_s)


def delivers(provider: object) -> bool:
    """Return whether the receiver accepted the last batch of a provider; True for providers not created here.

    Also True if the receiver does not support the signal: a warning was logged, and a retry would not help.
    """
    ours = (exporter for providers in _in_force for made, exporter in providers.made if made is provider)
    return not any(exporter.outage for exporter in ours)


def _put(make: Callable[[], Any], put: Callable[[Any], None], missing: set[str]) -> None:
    try:
        provider = make()
    except ImportError as error:
        missing.add(str(error))
        return
    if provider is not None:
        put(provider)


def _resource_of(service: str | None) -> Resource:
    """Return OpenTelemetry's default resource with host, instance id and, if it has none, a service name."""
    found = Resource.create()
    added: dict[str, str] = {}
    if SERVICE_INSTANCE_ID not in found.attributes:
        # Without an instance id several processes of a service would overwrite each other's sums.
        added[SERVICE_INSTANCE_ID] = instance_id(platform.node() or None, os.getpid())
    if str(found.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        name = service or service_name(None)
        added |= {SERVICE_NAME: name} if name else {}
    if HOST_NAME not in found.attributes and (host := platform.node()):
        # Without a host Jaeger takes each span for one of another clock, and warns where it does not fit its parent.
        added[HOST_NAME] = host
    return found.merge(Resource(added))
