"""OTLP variables: which signals OpenTelemetry's environment variables send, to where, and by which of its exporters.

Headers, certificates, compression and time limits the exporters read themselves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Final, Literal, TypeAlias

Signal: TypeAlias = Literal["traces", "metrics", "logs"]
Protocol: TypeAlias = Literal["grpc", "http/protobuf"]

SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")
_NAMES: Final[Mapping[str, Protocol | None]] = {
    "otlp": None,
    "otlp_proto_http": "http/protobuf",
    "otlp_proto_grpc": "grpc",
}
"""The names in OTEL_TRACES_EXPORTER and its siblings that mean OTLP, with the protocol they fix."""


def wanted_signals(otlp: str | bool) -> list[Signal]:
    """Return the signals to send: with a URL each, with True those that the variables name, else each.

    OTEL_*_EXPORTER=none leaves its signal out in any case.
    """
    if isinstance(otlp, str):
        return [signal for signal in SIGNALS if _exporters(signal) != ["none"]]
    anywhere = not any(map(endpoint_of, SIGNALS))
    return [
        signal
        for signal in SIGNALS
        if _is_exporter_named(signal) or (not _exporters(signal) and (anywhere or endpoint_of(signal)))
    ]


def otlp_is_named() -> bool:
    """Return whether the environment requests OTLP: by an endpoint, or by an exporter of that name."""
    return any(endpoint_of(signal) or _is_exporter_named(signal) for signal in SIGNALS)


def protocol_of(signal: Signal) -> Protocol:
    """Return the protocol of a signal; one that no exporter of OpenTelemetry for Python has becomes http/protobuf."""
    fixed = next((_NAMES[name] for name in _exporters(signal) if name in _NAMES), None)
    return fixed or ("grpc" if variable_of("PROTOCOL", signal) == "grpc" else "http/protobuf")


def endpoint_of(signal: Signal) -> str | None:
    """Return the URL that the variables send a signal to; None if they name none."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    shared = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    return own or (endpoint_at(shared, signal) if shared else None)


def endpoint_at(base: str, signal: Signal) -> str:
    """Return the URL of a signal at a receiver; `base` is as in OTEL_EXPORTER_OTLP_ENDPOINT."""
    return base if protocol_of(signal) == "grpc" else f"{base.rstrip('/')}/v1/{signal}"


def address_of(signal: Signal) -> str:
    """Return the URL that the variables send a signal to, or the exporters' default."""
    default = "http://localhost:4317" if protocol_of(signal) == "grpc" else f"http://localhost:4318/v1/{signal}"
    return endpoint_of(signal) or default


def variable_of(name: str, signal: Signal) -> str:
    """Return the value of an OTLP variable, that of the signal before that of all; "" if none is set."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", "").strip()
    return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


def make_exporter(signal: Signal, protocol: Protocol, endpoint: str | None = None) -> Any:
    """Make OpenTelemetry's exporter of a signal; `endpoint` None: that of the environment.

    Raises ImportError if it is not installed.
    """
    name = f"otlp_proto_{protocol.partition('/')[0]}"
    try:
        exporter = entry_points(group=f"opentelemetry_{signal}_exporter")[name].load()
    except (ImportError, KeyError) as error:
        raise ImportError(f'OTLP by {protocol} needs pip install "callspan[otlp]"') from error
    return exporter(endpoint=endpoint)


def _is_exporter_named(signal: Signal) -> bool:
    return any(name in _NAMES for name in _exporters(signal))


def _exporters(signal: Signal) -> list[str]:
    named = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").lower()
    return [name.strip() for name in named.split(",") if name.strip()]
