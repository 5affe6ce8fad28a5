"""gRPC transport: sends requests of spans by OTLP/gRPC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc  # type: ignore[import-not-found,import-untyped,unused-ignore]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped,unused-ignore]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped,unused-ignore]
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from callspan.fail_open import ours
from callspan.otlp.exporter import cause_of
from callspan.otlp.transport import RefusedError, Rejection, RequestOptions, UnavailableError, rejection_of

_METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_TOO_LARGE: Final = re.compile(r"(?i)larger than|too large|exceeds (?:the )?(?:configured )?max")
_SIZE_CODES: Final = ("RESOURCE_EXHAUSTED", "OUT_OF_RANGE")
"""What servers answer to a message that is too large, and also where a retry can help."""
_COMPRESSIONS: Final = {
    "none": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}
_RECONNECT_MS: Final = 5_000
"""How long gRPC may answer by itself that a receiver is not reachable, without another look."""


class GrpcTransport:
    """Sends to `host:port`. Its threads are not copied by a fork: a child needs a transport of its own."""

    def __init__(self, server: str, options: RequestOptions) -> None:
        self._server = server
        self._options = options
        self._credentials = None if options.is_insecure else _credentials(options)
        self._headers = tuple((name.lower(), value) for name, value in options.headers.items())
        self._channel: Any = None

    def send(self, request: bytes) -> Rejection | None:
        """Send it. Raises as `Transport.send`."""
        with suppress_instrumentation():
            if self._channel is None:
                self._channel = self._connected()
            export = self._channel.unary_unary(_METHOD)
            try:
                answer = export(request, timeout=self._options.timeout_s, metadata=self._headers)
            except ours(grpc.RpcError) as error:
                raise _failure(error) from None
        try:
            return rejection_of(ExportTraceServiceResponse.FromString(answer))
        except ours(DecodeError):
            return None

    def close(self) -> None:
        """Close the connection."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _connected(self) -> Any:  # noqa: ANN401
        options = (
            ("grpc.primary_user_agent", "callspan"),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
            ("grpc.use_local_subchannel_pool", 1),
        )
        compression = _COMPRESSIONS[self._options.compression]
        if self._credentials is None:
            return grpc.insecure_channel(self._server, options, compression)
        return grpc.secure_channel(self._server, self._credentials, options, compression)


def _credentials(options: RequestOptions) -> Any:  # noqa: ANN401
    files = (options.certificate, options.client_key, options.client_certificate)
    return grpc.ssl_channel_credentials(*(None if path is None else Path(path).read_bytes() for path in files))


def _failure(error: Any) -> RefusedError | UnavailableError:  # noqa: ANN401
    code, text = error.code().name, error.details() or ""
    retry_after_s = _retry_after_s(dict(error.trailing_metadata() or ()))
    is_too_large = code in _SIZE_CODES and retry_after_s is None and _TOO_LARGE.search(text) is not None
    if code == "INVALID_ARGUMENT" or is_too_large:
        return RefusedError(f"{code}: larger than it takes" if is_too_large else code)
    cause = cause_of(text) if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") else None
    return UnavailableError(code if cause is None else f"{code}: {cause}", retry_after_s)


def _retry_after_s(metadata: dict[str, Any]) -> float | None:
    """Return the delay of the status's RetryInfo; OpenTelemetry's exporter reads it from a header of its own too."""
    for info in _retry_infos(metadata):
        delay_s: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
        return max(0.0, delay_s)
    return None


def _retry_infos(metadata: dict[str, Any]) -> Iterator[RetryInfo]:
    try:
        for detail in Status.FromString(metadata.get("grpc-status-details-bin", b"")).details:
            info = RetryInfo()
            if detail.Unpack(info):
                yield info
        if (alone := metadata.get("google.rpc.retryinfo-bin")) is not None:
            yield RetryInfo.FromString(alone)
    except ours(DecodeError):
        return
