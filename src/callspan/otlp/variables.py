"""OTLP variables: the signals, receivers and protocols in OpenTelemetry's own environment variables."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from callspan.safe_urls import is_http_url

Signal: TypeAlias = Literal["traces", "metrics", "logs"]
Protocol: TypeAlias = Literal["grpc", "http/protobuf"]

SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")
SERVICE_FOR_RUN: Final = "CALLSPAN_RUN_SERVICE"
"""Set by `callspan run` for the processes under it; no setting of users."""

_EXPORTERS: Final[Mapping[str, Protocol | None]] = {
    "otlp": None,
    "otlp_proto_http": "http/protobuf",
    "otlp_proto_grpc": "grpc",
}
"""The names in OTEL_TRACES_EXPORTER and its siblings that mean OTLP, with the protocol they fix."""
_HTTP: Final[Protocol] = "http/protobuf"
_PYTHON: Final = re.compile(r"(python|pypy)[\d.]*w?(\.exe)?")
_OPTIONS_WITH_VALUE: Final = ("-c", "-W", "-X", "--check-hash-based-pycs")
_PORT: Final[Mapping[Protocol, int]] = {"grpc": 4317, "http/protobuf": 4318}


class Destination(NamedTuple):
    """The destination of one signal."""

    signal: Signal
    protocol: Protocol
    endpoint: str | None
    """What the exporter is constructed with; None: it reads its own variables."""
    address: str
    """The URL that the signal is sent to."""

    @property
    def switch(self) -> str:
        """The variable whose value `none` turns the signal off."""
        return _exporter_variable(self.signal)

    @property
    def server(self) -> tuple[str, int] | None:
        """Host and port that the exporter connects to; None if the address has none or is unusable."""
        grpc = self.protocol == "grpc"
        url = f"http://{self.address}" if grpc and "://" not in self.address else self.address
        if not is_http_url(url):
            return None
        parts = urlsplit(url)
        # gRPC's default is that of HTTPS, whether or not it encrypts.
        default = 443 if grpc or parts.scheme == "https" else 80
        return parts.hostname or "", parts.port or default


def destinations(otlp: str | bool, environment: Mapping[str, str] | None = None) -> list[Destination]:
    """Return the destination of each signal that is sent.

    `otlp` is the base URL of an OTLP/HTTP receiver, which takes every signal, or True for the variables: then a
    signal is sent that has an endpoint or is named in OTEL_*_EXPORTER, and where no endpoint is named at all, each.
    OTEL_*_EXPORTER=none leaves its signal out in any case.
    """
    source = os.environ if environment is None else environment
    if isinstance(otlp, str):
        base = otlp.rstrip("/")
        return [
            Destination(signal, _HTTP, f"{base}/v1/{signal}", f"{base}/v1/{signal}")
            for signal in SIGNALS
            if _exporters(signal, source) != ["none"]
        ]
    anywhere = not any(_endpoint(signal, source) for signal in SIGNALS)
    return [
        _destination(signal, source)
        for signal in SIGNALS
        if (any(name in _EXPORTERS for name in _exporters(signal, source)))
        or (not _exporters(signal, source) and (anywhere or _endpoint(signal, source)))
    ]


def otlp_is_named(environment: Mapping[str, str] | None = None) -> bool:
    """Return whether the environment requests OTLP: by an endpoint, or by an exporter of that name."""
    source = os.environ if environment is None else environment
    return any(
        _endpoint(signal, source) or any(name in _EXPORTERS for name in _exporters(signal, source))
        for signal in SIGNALS
    )


def unknown_protocol(signal: Signal, environment: Mapping[str, str] | None = None) -> str | None:
    """Return the unsupported protocol that is configured for a signal (`http/json`), or None."""
    named = _protocol_named(signal, os.environ if environment is None else environment)
    return None if named in ("", *_PORT) else named


def main_name(environment: Mapping[str, str] | None = None, arguments: Sequence[str] | None = None) -> str | None:
    """Return the application's name: that of `callspan run`, else its script or module; None: unknown."""
    source = os.environ if environment is None else environment
    for_run = source.get(SERVICE_FOR_RUN)
    if for_run:
        return for_run
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if arguments is None and spec is not None:
        return str(spec.name).removesuffix(".__main__")
    return name_of_script((sys.argv if arguments is None else arguments)[:1])


def service_of_command(command_line: Sequence[str]) -> str | None:
    """Return the service name of a command line's application; None if it has none.

    That is its script without the suffix, its module, or the command; of an interpreter, what it is to run.
    """
    name = name_of_script(command_line)
    if name is None or _PYTHON.fullmatch(name) is None:
        return name
    words = iter(command_line[1:])
    for word in words:
        if word == "-m":
            return next(words, None)
        if word in _OPTIONS_WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return name_of_script((word,))
    return None


def name_of_script(arguments: Sequence[str]) -> str | None:
    """Return the name of the script or command at the start of a command line; None if there is none."""
    first = arguments[0] if arguments else ""
    if not first or first.startswith("-"):
        return None
    path = Path(first).absolute()
    if path.stem == "__main__":
        path = path.parent
    return (path.stem if path.suffix in (".py", ".pyw", ".pyz") else path.name) or None


def _destination(signal: Signal, source: Mapping[str, str]) -> Destination:
    fixed = next((_EXPORTERS[name] for name in _exporters(signal, source) if name in _EXPORTERS), None)
    protocol: Protocol = fixed or ("grpc" if _protocol_named(signal, source) == "grpc" else _HTTP)
    own = source.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    base = source.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or f"http://localhost:{_PORT[protocol]}"
    shared = base if protocol == "grpc" else f"{base.rstrip('/')}/v1/{signal}"
    return Destination(signal, protocol, None, own or shared)


def _endpoint(signal: Signal, source: Mapping[str, str]) -> str:
    own = source.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    return own or source.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()


def _protocol_named(signal: Signal, source: Mapping[str, str]) -> str:
    own = source.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "").strip()
    return own or source.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip()


def _exporters(signal: Signal, source: Mapping[str, str]) -> list[str]:
    named = source.get(_exporter_variable(signal), "").lower()
    return [name.strip() for name in named.split(",") if name.strip()]


def _exporter_variable(signal: Signal) -> str:
    return f"OTEL_{signal.upper()}_EXPORTER"
