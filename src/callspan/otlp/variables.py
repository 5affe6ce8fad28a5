"""OTLP variables: which signals OpenTelemetry's environment variables send, and by which protocol.

Where to, and how, OpenTelemetry's exporters read themselves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

Signal: TypeAlias = Literal["traces", "metrics", "logs"]
Protocol: TypeAlias = Literal["grpc", "http/protobuf"]

SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")
_EXPORTERS: Final[Mapping[str, Protocol | None]] = {
    "otlp": None,
    "otlp_proto_http": "http/protobuf",
    "otlp_proto_grpc": "grpc",
}
"""The names in OTEL_TRACES_EXPORTER and its siblings that mean OTLP, with the protocol they fix."""
_PORTS: Final[Mapping[Protocol, int]] = {"grpc": 4317, "http/protobuf": 4318}


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
    fixed = next((_EXPORTERS[name] for name in _exporters(signal) if name in _EXPORTERS), None)
    return fixed or ("grpc" if variable_of("PROTOCOL", signal) == "grpc" else "http/protobuf")


def endpoint_of(signal: Signal) -> str | None:
    """Return the URL that the variables send a signal to; None if they name none."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    shared = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    if own or not shared:
        return own or None
    return shared if protocol_of(signal) == "grpc" else f"{shared.rstrip('/')}/v1/{signal}"


def default_endpoint(signal: Signal) -> str:
    """Return the URL that a signal is sent to where the variables name none."""
    protocol = protocol_of(signal)
    return f"http://localhost:{_PORTS[protocol]}" + ("" if protocol == "grpc" else f"/v1/{signal}")


def variable_of(name: str, signal: Signal = "traces") -> str:
    """Return the value of an OTLP variable, that of the signal before that of all; "" if none is set."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", "").strip()
    return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


def switch_of(signal: Signal) -> str:
    """Return the variable whose value `none` turns a signal off."""
    return f"OTEL_{signal.upper()}_EXPORTER"


def _is_exporter_named(signal: Signal) -> bool:
    return any(name in _EXPORTERS for name in _exporters(signal))


def _exporters(signal: Signal) -> list[str]:
    named = os.environ.get(switch_of(signal), "").lower()
    return [name.strip() for name in named.split(",") if name.strip()]
