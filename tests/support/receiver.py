"""Receiver: an OTLP endpoint inside the test process, over HTTP and, where grpcio is installed, gRPC."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tests.support.waiting import HANG_S
from typing_extensions import Self

PATHS: Final[dict[Any, str]] = {
    ExportTraceServiceRequest: "/v1/traces",
    ExportLogsServiceRequest: "/v1/logs",
    ExportMetricsServiceRequest: "/v1/metrics",
}
"""Where each kind of request is sent by HTTP. The answer to one that is accepted is empty."""


class ReceivedSpan:
    """One span as it arrived, with plain Python values. Ids are hex text; no parent is None."""

    def __init__(self, span: Span, scope: str, resource: dict[str, Any]) -> None:
        self.name = span.name
        self.scope = scope
        self.resource = resource
        self.trace_id = span.trace_id.hex()
        self.span_id = span.span_id.hex()
        self.parent_id = span.parent_span_id.hex() or None
        self.attributes = plain(span.attributes)
        self.events = [(event.name, plain(event.attributes)) for event in span.events]
        self.start_ns, self.end_ns = span.start_time_unix_nano, span.end_time_unix_nano
        self.status = ("UNSET", "OK", "ERROR")[span.status.code]

    def __repr__(self) -> str:
        return f"<{self.name} by {self.scope}>"


class OtlpReceiver:
    """Listens on loopback from its construction until `close`. `max_bytes` refuses larger requests, as collectors do.

    `status` of other than 200 refuses everything, `statuses` by path; over gRPC `refusal` says how. Safe from any
    thread.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self.max_bytes = max_bytes
        self.status = 200
        self.statuses: dict[str, int] = {}
        self.refusal = ("RESOURCE_EXHAUSTED", "refused")
        """Status and details."""
        self.headers: list[dict[str, str]] = []
        """Those of every request, with lower-case names."""
        self.refused: list[int] = []
        """Sizes of the requests that were refused, decompressed."""
        self.rejects = (0, "")
        """How many items of a request that is accepted are rejected, and why."""
        self._requests: list[Any] = []
        self._news = threading.Condition()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._grpc: Any = None
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """The base address for `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def serve_grpc(self) -> str:
        """Listen for gRPC too, with its usual limit of 4 MiB a message; return `host:port`. Needs grpcio."""
        import grpc  # type: ignore[import-not-found,import-untyped,unused-ignore]

        def answer(kind: Any, body: bytes, context: Any) -> bytes:
            self.headers.append(dict(context.invocation_metadata()))
            if self.take(PATHS[kind], body) != 200:
                code, details = self.refusal
                context.abort(grpc.StatusCode[code], details)
            return self.answer(PATHS[kind])

        self._grpc = grpc.server(ThreadPoolExecutor(2))
        for kind in PATHS:
            service = kind.DESCRIPTOR.file.services_by_name.values()[0].full_name
            method = grpc.unary_unary_rpc_method_handler(partial(answer, kind))
            self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": method}),))
        port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()
        return f"127.0.0.1:{port}"

    def take(self, path: str, body: bytes) -> int:
        """Take one decompressed request; return the status of the answer."""
        kind = next((kind for kind, taken in PATHS.items() if taken == path), None)
        if kind is None:
            return 404
        parsed = kind.FromString(body)
        with self._news:
            status = self.statuses.get(path, self.status)
            if status != 200 or (self.max_bytes is not None and len(body) > self.max_bytes):
                self.refused.append(len(body))
                return status if status != 200 else 413
            self._requests.append(parsed)
            self._news.notify_all()
        return 200

    def answer(self, path: str) -> bytes:
        """Return the body of the answer to a request that is accepted."""
        number, why = self.rejects
        if path == PATHS[ExportTraceServiceRequest] and number:
            spans = ExportTraceServiceResponse()
            spans.partial_success.rejected_spans, spans.partial_success.error_message = number, why
            return spans.SerializeToString()
        if path == PATHS[ExportLogsServiceRequest] and number:
            logs = ExportLogsServiceResponse()
            logs.partial_success.rejected_log_records, logs.partial_success.error_message = number, why
            return logs.SerializeToString()
        return b""

    @property
    def requests(self) -> list[Any]:
        """Every request accepted, parsed."""
        with self._news:
            return list(self._requests)

    @property
    def spans(self) -> list[ReceivedSpan]:
        """Every span accepted so far, in the order of arrival."""
        found = items(self.requests, "spans")
        return [ReceivedSpan(span, scope.name, plain(resource.attributes)) for resource, scope, span in found]

    @property
    def logs(self) -> list[tuple[str, dict[str, Any], LogRecord]]:
        """Every log record accepted: event name, attributes, and the record itself."""
        found = items(self.requests, "logs")
        return [(record.event_name, plain(record.attributes), record) for _, _, record in found]

    @property
    def metrics(self) -> list[Metric]:
        """Every metric accepted, once for each export."""
        return [metric for _, _, metric in items(self.requests, "metrics")]

    def wait_for(self, count: int) -> list[ReceivedSpan]:
        """Return the spans as soon as there are `count`."""
        with self._news:
            is_there = self._news.wait_for(lambda: len(self.spans) >= count, HANG_S)
            assert is_there, f"{len(self.spans)} of {count} spans have arrived: {self.spans}"
            return self.spans

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        if self._grpc is not None:
            self._grpc.stop(None).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def items(requests: Iterable[Any], signal: str) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the spans, log records or metrics that requests hold, each after its resource and scope."""
    kind = "log_records" if signal == "logs" else signal
    for request in requests:
        for resource in getattr(request, f"resource_{signal}", ()):
            for scope in getattr(resource, f"scope_{signal}"):
                yield from ((resource.resource, scope.scope, one) for one in getattr(scope, kind))


def plain(attributes: Any) -> dict[str, Any]:
    """Protobuf's key-value pairs as a plain dict."""
    return {pair.key: _value(pair.value) for pair in attributes if isinstance(pair, KeyValue)}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return plain(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)


def _handler(receiver: OtlpReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            answer = receiver.answer(self.path)
            self.send_response(receiver.take(self.path, body))
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    return Handler
