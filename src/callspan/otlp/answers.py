"""Answers: the number of spans or log records that a receiver rejected in a request it accepted, with its reason.

OpenTelemetry's exporters ignore it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from callspan.otlp.providers import Protocol, Signal, make_exporter
from callspan.runtime.fail_open import fail_open
from callspan.runtime.forks import late_attribute

_PROTO: Final = "opentelemetry.proto.collector"
_MESSAGES: Final[Mapping[Signal, tuple[str, str]]] = {
    "traces": (f"{_PROTO}.trace.v1.trace_service_pb2:ExportTraceServiceResponse", "rejected_spans"),
    "logs": (f"{_PROTO}.logs.v1.logs_service_pb2:ExportLogsServiceResponse", "rejected_log_records"),
}
"""The answer to a request of a signal, and its field with the number of rejected items."""
_READ: Final = fail_open("read the answer of an OTLP receiver")


class Rejection(NamedTuple):
    """The number of spans or log records in a request that the receiver did not take, and its reason."""

    number: int
    reason: str


class Answers:
    """Makes exporters of a signal, and reads the answers to their requests."""

    def __init__(self, protocol: Protocol, address: str, signal: Signal) -> None:
        self._protocol, self._address, self._signal = protocol, address, signal
        self.rejection: Rejection | None = None
        """What the last answer rejected; None if nothing."""

    def exporter(self) -> Any:
        """Return an exporter; this object reads the answers it gets. Raises ImportError if it is not installed."""
        if self._protocol == "grpc":
            return self._listening(make_exporter(self._signal, self._protocol, self._address))
        options = {} if _has_own_session(self._signal) else {"session": self._session()}
        return make_exporter(self._signal, self._protocol, self._address, **options)

    def _session(self) -> Any:
        import requests

        session = requests.Session()
        session.hooks["response"].append(lambda answer, **_: self._read_bytes(answer))
        return session

    def _read_bytes(self, answer: Any) -> None:
        with _READ:
            if answer.ok:
                message: Any = late_attribute(_MESSAGES[self._signal][0])
                self._keep(message.FromString(answer.content))

    def _keep(self, answer: Any) -> None:
        partial = answer.partial_success
        number = getattr(partial, _MESSAGES[self._signal][1])
        self.rejection = Rejection(number, partial.error_message) if number else None

    def _listening(self, exporter: Any) -> Any:
        """Read the answers of a gRPC exporter, which makes a new client after it has lost its connection."""
        make: Callable[[Any], Any] | None = getattr(exporter, "_stub", None)
        if make is not None:
            exporter._stub = lambda channel: self._wrapped(make(channel))  # noqa: SLF001 - it has no public way
            self._wrapped(getattr(exporter, "_client", None))
        return exporter

    def _wrapped(self, client: Any) -> Any:
        send = getattr(client, "Export", None)
        if send is not None:

            def export(*args: object, **keywords: object) -> object:
                answer = send(*args, **keywords)
                with _READ:
                    self._keep(answer)
                return answer

            client.Export = export
        return client


def _has_own_session(signal: Signal) -> bool:
    """Return whether the exporter has its own session, from a provider of credentials that the environment names."""
    return any(
        f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{prefix}CREDENTIAL_PROVIDER" in os.environ
        for prefix in (f"{signal.upper()}_", "")
    )
