"""Answers: the number of spans that a receiver rejected in a request it accepted, with its reason.

OpenTelemetry's exporters ignore it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.sdk.trace.export import SpanExporter

from callspan.otlp.providers import Protocol, make_exporter
from callspan.runtime.fail_open import fail_open

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

_READ: Final = fail_open("read the answer of an OTLP receiver")


class Rejection(NamedTuple):
    """The number of spans in a request that the receiver did not take, and its reason."""

    spans: int
    reason: str


class Answers:
    """Makes exporters of spans, and reads the answers to their requests."""

    def __init__(self, protocol: Protocol, address: str) -> None:
        self._protocol, self._address = protocol, address
        self.rejection: Rejection | None = None
        """What the last answer rejected; None if nothing."""

    def exporter(self) -> SpanExporter:
        """Return an exporter; this object reads the answers it gets. Raises ImportError if it is not installed."""
        if self._protocol == "grpc":
            return self._listening(make_exporter("traces", self._protocol, self._address))
        options = {} if _has_own_session() else {"session": self._session()}
        exporter: SpanExporter = make_exporter("traces", self._protocol, self._address, **options)
        return exporter

    def _session(self) -> Any:
        import requests

        session = requests.Session()
        session.hooks["response"].append(lambda answer, **_: self._read_bytes(answer))
        return session

    def _read_bytes(self, answer: Any) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        with _READ:
            if answer.ok:
                self._keep(ExportTraceServiceResponse.FromString(answer.content))

    def _keep(self, answer: ExportTraceServiceResponse) -> None:
        partial = answer.partial_success
        self.rejection = Rejection(partial.rejected_spans, partial.error_message) if partial.rejected_spans else None

    def _listening(self, exporter: Any) -> SpanExporter:
        """Read the answers of a gRPC exporter, which makes a new client after it has lost its connection."""
        make: Callable[[Any], Any] | None = getattr(exporter, "_stub", None)
        if make is not None:
            exporter._stub = lambda channel: self._wrapped(make(channel))  # noqa: SLF001 - it has no public way
            self._wrapped(getattr(exporter, "_client", None))
        listening: SpanExporter = exporter
        return listening

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


def _has_own_session() -> bool:
    """Return whether the exporter has its own session, from a provider of credentials that the environment names."""
    return any(
        f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{prefix}CREDENTIAL_PROVIDER" in os.environ for prefix in ("TRACES_", "")
    )
