"""OTLP providers: the global ones for applications that have none, for spans, metrics and log events.

OpenTelemetry's environment variables determine the signals, their endpoints and their exporters. The exporters
themselves read headers, certificates, compression and time limits.
"""

from __future__ import annotations

import atexit
import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from math import inf
from typing import Any, Final, Literal, TypeAlias

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.resources import HOST_NAME, SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from callspan.otlp.byte_bounds import ByteBoundedExporter
from callspan.otlp.span_ids import SpanIds
from callspan.runtime.background import thread
from callspan.runtime.clock import monotonic_s
from callspan.runtime.fail_open import fail_open, log
from callspan.runtime.forks import exit_left_s
from callspan.runtime.nothing import nothing
from callspan.runtime.process_identity import own_identity
from callspan.runtime.safe_urls import is_http_url, safe_name
from callspan.service import instance_id, service_name
from callspan.settings import SettingError

_SET_UP: Final = fail_open("set up the OTLP exporters")
_SHUT_DOWN: Final = fail_open("shut down an OTLP exporter")
_SHUT_DOWN_S: Final = 2.0
_GLOBAL: Final[tuple[tuple[Signal, Callable[[], object], Callable[[Any], None]], ...]] = (
    ("logs", _logs.get_logger_provider, _logs.set_logger_provider),
    ("metrics", metrics.get_meter_provider, metrics.set_meter_provider),
    ("traces", trace.get_tracer_provider, trace.set_tracer_provider),
)

Signal: TypeAlias = Literal["traces", "metrics", "logs"]
Protocol: TypeAlias = Literal["grpc", "http/protobuf"]

SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")
_NAMES: Final[Mapping[str, Protocol | None]] = {
    "otlp": None,
    "otlp_proto_http": "http/protobuf",
    "otlp_proto_grpc": "grpc",
}
"""The values of OTEL_TRACES_EXPORTER and its siblings that mean OTLP, with their protocol, if fixed."""


class _SpanProcessor(BatchSpanProcessor):
    """Batches spans. A flush fails if the receiver did not accept all of the last batch."""

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        return super().force_flush(timeout_millis) and self.span_exporter.force_flush()


def check_otlp(otlp: object) -> None:
    """Raise SettingError unless `otlp` is True, False, None or the URL of a receiver."""
    if otlp is None or isinstance(otlp, bool):
        return
    if not isinstance(otlp, str) or not is_http_url(otlp):
        argument = safe_name(otlp) if isinstance(otlp, str) else type(otlp).__name__
        raise SettingError(
            f"otlp: {argument!r} is no address; give that of an OTLP/HTTP receiver, such as http://localhost:4318, "
            "or True for the OTEL_EXPORTER_OTLP_* variables"
        )


def set_up_global(otlp: str | bool, service: str | None, *, signals: Sequence[Signal]) -> None:
    """Set the global providers of the requested signals, unless the application has set them. Never raises.

    A global provider can be set once per process: OpenTelemetry rejects one that the application sets later.
    """
    with _SET_UP:
        enabled = wanted_signals(otlp)
        made: list[Any] = []
        try:
            for signal, get_provider, set_provider in _GLOBAL:
                if signal in signals and signal in enabled and _is_placeholder(get_provider()):
                    made.append(provider := make_provider(signal, otlp, service))
                    set_provider(provider)
        except ImportError as error:
            log(logging.WARNING, "Nothing is sent: %s", error)
        if made:
            atexit.register(_shut_down, made)


def _shut_down(providers: Sequence[Any]) -> None:
    """Send what waits, at once by all providers: each of them would wait for its receiver for 10 s by itself."""
    threads = [thread(provider.shutdown, "callspan-otlp", stop=nothing) for provider in providers]
    for sending, provider in zip(threads, providers, strict=True):
        with _SHUT_DOWN:
            try:
                sending.start()
            except RuntimeError:  # the interpreter is ending: no thread can be started
                provider.shutdown()
    # What hung before must not cost a receiver its spans.
    until_s = monotonic_s() + max(_SHUT_DOWN_S, exit_left_s(inf))
    for sending in threads:
        if sending.ident is not None:
            sending.join(max(0.0, until_s - monotonic_s()))


def make_provider(signal: Signal, otlp: str | bool, service: str | None = None) -> Any:
    """Return a provider that sends by OTLP; `otlp` and `service` are arguments of `instrument()`.

    Raises ImportError without an exporter.
    """
    exporter, resource = _exporter(signal, otlp), _resource(service)
    if signal == "metrics":
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        reader = PeriodicExportingMetricReader(exporter)
        return MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    bounded = ByteBoundedExporter(exporter)
    if signal == "traces":
        tracers = TracerProvider(resource=resource, id_generator=SpanIds(), shutdown_on_exit=False)
        tracers.add_span_processor(_SpanProcessor(bounded))
        return tracers
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    loggers, processor = LoggerProvider(resource=resource, shutdown_on_exit=False), BatchLogRecordProcessor
    loggers.add_log_record_processor(processor(bounded))  # type: ignore[arg-type]
    return loggers


def _exporter(signal: Signal, otlp: str | bool) -> Any:
    if isinstance(otlp, str):
        return make_exporter(signal, "http/protobuf", f"{otlp.rstrip('/')}/v1/{signal}")
    return make_exporter(signal, protocol_of(signal))


def _is_placeholder(provider: object) -> bool:
    """Return whether a global provider is OpenTelemetry's placeholder until the application sets one."""
    return type(provider).__name__.lstrip("_").startswith("Proxy")


def _resource(service: str | None) -> Resource:
    """Return OpenTelemetry's default resource with the service name, and host and instance id if missing."""
    host = platform.node()
    # Without an instance id, processes of a service would overwrite each other's sums. Without a host, Jaeger assumes
    # another clock for each span and warns if it does not fit into its parent.
    instance = instance_id(own_identity(), host or None, os.getpid())
    own_resource = Resource({SERVICE_INSTANCE_ID: instance, HOST_NAME: host})
    name = service_name(service)
    return own_resource.merge(Resource.create({SERVICE_NAME: name} if name else None))


def wanted_signals(otlp: str | bool) -> list[Signal]:
    """Return the signals to send: all for a URL; for True those named by the variables, or all if none is.

    OTEL_*_EXPORTER=none always excludes its signal.
    """
    if isinstance(otlp, str):
        return [signal for signal in SIGNALS if _exporters(signal) != ["none"]]
    sends_all = not any(map(endpoint_of, SIGNALS))
    return [
        signal
        for signal in SIGNALS
        if _is_exporter_named(signal) or (not _exporters(signal) and (sends_all or endpoint_of(signal)))
    ]


def otlp_is_named() -> bool:
    """Return whether the environment requests OTLP: by an endpoint, or by an exporter of that name."""
    return any(endpoint_of(signal) or _is_exporter_named(signal) for signal in SIGNALS)


def protocol_of(signal: Signal) -> Protocol:
    """Return the protocol of a signal; http/protobuf instead of a protocol that has no exporter for Python."""
    fixed = next((_NAMES[name] for name in _exporters(signal) if name in _NAMES), None)
    return fixed or ("grpc" if otlp_variable("PROTOCOL", signal) == "grpc" else "http/protobuf")


def endpoint_of(signal: Signal) -> str | None:
    """Return the URL for a signal from the variables, or None."""
    specific = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    general = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    return specific or (endpoint_at(general, signal) if general else None)


def endpoint_at(base: str, signal: Signal) -> str:
    """Return the URL of a signal at a receiver; `base` is as in OTEL_EXPORTER_OTLP_ENDPOINT."""
    return base if protocol_of(signal) == "grpc" else f"{base.rstrip('/')}/v1/{signal}"


def address_of(signal: Signal) -> str:
    """Return the URL for a signal from the variables, or the exporters' default."""
    default = "http://localhost:4317" if protocol_of(signal) == "grpc" else f"http://localhost:4318/v1/{signal}"
    return endpoint_of(signal) or default


def otlp_variable(name: str, signal: Signal) -> str:
    """Return the value of an OTLP variable for the signal, else for all signals; "" if neither is set."""
    specific = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", "").strip()
    return specific or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


def make_exporter(signal: Signal, protocol: Protocol, endpoint: str | None = None, **options: object) -> Any:
    """Return OpenTelemetry's exporter of a signal; `endpoint` None: the environment's.

    Raises ImportError if it is not installed.
    """
    name = f"otlp_proto_{protocol.partition('/')[0]}"
    try:
        exporter = entry_points(group=f"opentelemetry_{signal}_exporter")[name].load()
    except (ImportError, KeyError) as error:
        raise ImportError(f'OTLP by {protocol} needs pip install "callspan[otlp]"') from error
    return exporter(endpoint=endpoint, **options)


def _is_exporter_named(signal: Signal) -> bool:
    return any(name in _NAMES for name in _exporters(signal))


def _exporters(signal: Signal) -> list[str]:
    names = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").lower()
    return [name.strip() for name in names.split(",") if name.strip()]
