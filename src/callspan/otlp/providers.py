"""OTLP providers: the global ones for applications that have none, for spans, metrics and log events."""

from __future__ import annotations

import atexit
import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.resources import HOST_NAME, SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from callspan.fail_open import fail_open, log
from callspan.otlp.byte_bounds import ByteBoundedExporter
from callspan.otlp.variables import Signal, default_endpoint, endpoint_of, protocol_of, variable_of, wanted_signals
from callspan.safe_urls import is_http_url, safe_name
from callspan.service import instance_id, service_name
from callspan.settings import SettingError

_SET_UP: Final = fail_open("set up the OTLP exporters")
_LAST_S: Final = 3.0
"""Seconds that a request may take, retries included, once the process ends; for metrics, which are sums, always."""
_CLASSES: Final[Mapping[Signal, tuple[str, str]]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}
_GLOBAL: Final[tuple[tuple[Signal, Callable[[], object], Callable[[Any], None]], ...]] = (
    ("logs", _logs.get_logger_provider, _logs.set_logger_provider),
    ("metrics", metrics.get_meter_provider, metrics.set_meter_provider),
    ("traces", trace.get_tracer_provider, trace.set_tracer_provider),
)
"""The provider created last is shut down first at exit, and spans matter most."""
_in_force: Final[list[OtlpProviders]] = []
"""The objects that created the global providers."""


class OwnExporter(ByteBoundedExporter):
    """OpenTelemetry's exporter of spans or log events, in batches limited by bytes. Its attributes are for any thread.

    Why a batch was not accepted is logged by OpenTelemetry's exporter.
    """

    def __init__(self, make: Callable[[float | None], SpanExporter]) -> None:
        """`make` makes the exporter; its argument is the time limit of a request in seconds, None: the default."""
        super().__init__(make(None))
        self._make = make
        self.lost = 0
        """Number of spans or log events that the receiver did not accept."""
        self.is_accepted = True
        """Whether the receiver accepted the last batch."""

    def end(self) -> None:
        """Let requests take 3 s from now on, and wait for no retry, because the process is about to end."""
        before, self._exporter = self._exporter, self._make(_LAST_S)
        before.shutdown()

    def _export_part(self, part: Sequence[ReadableSpan]) -> SpanExportResult:
        self.is_accepted = False
        self.lost += len(part)
        result = super()._export_part(part)
        if result.name == SpanExportResult.SUCCESS.name:
            self.is_accepted = True
            self.lost -= len(part)
        return result


class OtlpProviders:
    """Creates providers that send by OTLP. They share a resource."""

    def __init__(self, otlp: str | bool, service: str | None = None) -> None:
        """`otlp` is the argument of `instrument()`; `service` the service name if the environment has none."""
        self.exporters: dict[Signal, OwnExporter] = {}
        """Those of spans and log events, once their provider was created."""
        self._base = otlp.rstrip("/") if isinstance(otlp, str) else None
        self._wanted = wanted_signals(otlp)
        self._resource = _resource_of(service)

    def provider(self, signal: Signal) -> Any:  # noqa: ANN401 - of three kinds
        """Create the provider of a signal; None if the signal is disabled. Raises ImportError without an exporter."""
        if signal not in self._wanted:
            return None
        if signal == "metrics":
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

            exporter = self._exporter(signal, None if variable_of("TIMEOUT", signal) else _LAST_S)
            return MeterProvider([PeriodicExportingMetricReader(exporter)], resource=self._resource)
        own = self.exporters[signal] = OwnExporter(lambda timeout_s: self._exporter(signal, timeout_s))
        if signal == "traces":
            tracers = TracerProvider(resource=self._resource)
            tracers.add_span_processor(BatchSpanProcessor(own))
            return tracers
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        loggers, processor = LoggerProvider(resource=self._resource), BatchLogRecordProcessor
        loggers.add_log_record_processor(processor(own))  # type: ignore[arg-type]
        return loggers

    def address(self, signal: Signal) -> str:
        """Return the URL that a signal is sent to, without a password."""
        return safe_name(self._endpoint(signal) or endpoint_of(signal) or default_endpoint(signal))

    def end(self) -> None:
        """Limit all requests from now on, because the process is about to end."""
        for exporter in self.exporters.values():
            exporter.end()

    def _endpoint(self, signal: Signal) -> str | None:
        return None if self._base is None else f"{self._base}/v1/{signal}"

    def _exporter(self, signal: Signal, timeout_s: float | None) -> Any:  # noqa: ANN401 - of three kinds
        endpoint = self._endpoint(signal)
        protocol = "http/protobuf" if endpoint is not None else protocol_of(signal)
        module, name = _CLASSES[signal]
        try:
            package = import_module(f"opentelemetry.exporter.otlp.proto.{protocol.partition('/')[0]}.{module}")
        except ImportError as error:
            raise ImportError(f'Nothing is sent by OTLP: {protocol} needs pip install "callspan[otlp]"') from error
        return getattr(package, name)(endpoint=endpoint, timeout=timeout_s)


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
        for signal, current, put in _GLOBAL:
            if signal in wanted and is_placeholder(current()):
                try:
                    provider = providers.provider(signal)
                except ImportError as error:
                    log(logging.WARNING, "%s", error)
                    break
                if provider is not None:
                    put(provider)
        if providers.exporters:
            _in_force.append(providers)
            atexit.register(providers.end)


def is_placeholder(provider: object) -> bool:
    """Return whether a global provider is OpenTelemetry's placeholder until the application sets one."""
    return type(provider).__name__.lstrip("_").startswith("Proxy")


def spans_are_accepted() -> bool:
    """Return whether the receiver accepted the last batch of spans of the provider created here; True without one."""
    exporters = (providers.exporters.get("traces") for providers in _in_force)
    return all(exporter is None or exporter.is_accepted for exporter in exporters)


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
