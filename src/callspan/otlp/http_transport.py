"""HTTP transport: sends requests of spans by OTLP/HTTP, as protobuf."""

from __future__ import annotations

import gzip
import math
import time
import zlib
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import requests  # type: ignore[import-untyped,unused-ignore]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from callspan.fail_open import ours
from callspan.otlp.exporter import cause_of
from callspan.otlp.transport import RefusedError, Rejection, RequestOptions, UnavailableError, rejection_of

_REFUSED: Final = frozenset({
    HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY
})  # fmt: skip
"""Statuses that concern this one request. Any other may come from a setting, which can be corrected."""
_MOST_ANSWER: Final = 64 << 10
_PROTOBUF: Final = "application/x-protobuf"
_PACKED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "none": bytes,
    "gzip": partial(gzip.compress, compresslevel=6, mtime=0),
    "deflate": zlib.compress,
}


class HttpTransport:
    """Sends to a URL. Follows no redirect: the headers belong to the receiver that was named."""

    def __init__(self, url: str, options: RequestOptions) -> None:
        self._session = requests.Session()
        self._pack = _PACKED[options.compression]
        self._timeout_s = options.timeout_s
        headers = {"user-agent": "callspan", "content-type": _PROTOBUF} | dict(options.headers)
        if options.compression != "none":
            headers["content-encoding"] = options.compression
        client, key = options.client_certificate, options.client_key
        self._post = partial(
            self._session.post, url, headers=headers, timeout=self._timeout_s, stream=True, allow_redirects=False,
            verify=options.certificate or True, cert=(client, key) if client and key else client,
        )  # fmt: skip

    def send(self, request: bytes) -> Rejection | None:
        """Send it. Raises as `Transport.send`."""
        until_s = time.monotonic() + self._timeout_s
        try:
            with suppress_instrumentation(), self._post(data=self._pack(request)) as response:
                body = _body(response, until_s)
        except ours(requests.RequestException) as error:
            raise UnavailableError(_cause(error)) from None
        except ours(ValueError):
            # Of the headers: their text may not be quoted. A setting can be mended.
            raise UnavailableError("a header of OTEL_EXPORTER_OTLP_HEADERS cannot be sent") from None
        if response.ok and not response.is_redirect:
            return _rejection(response.headers.get("content-type", ""), body)
        status = f"{response.status_code} {_phrase(response.status_code)}".strip()
        if response.status_code in _REFUSED:
            raise RefusedError(status)
        raise UnavailableError(status, _retry_after_s(response.headers.get("retry-after")))

    def close(self) -> None:
        """Close connections."""
        self._session.close()


def _body(response: Any, until_s: float) -> bytes:  # noqa: ANN401
    """Return the body; b"" for one that is larger than any answer, or takes too long."""
    body = b""
    for part in response.iter_content(4096):
        body += part
        if len(body) > _MOST_ANSWER or time.monotonic() > until_s:
            return b""
    return body


def _rejection(content_type: str, body: bytes) -> Rejection | None:
    if not content_type.startswith(_PROTOBUF):
        return None
    try:
        return rejection_of(ExportTraceServiceResponse.FromString(body))
    except ours(DecodeError):
        return None


def _cause(error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS failed"
    return cause_of(str(error)) or "connection lost"


def _phrase(status: int) -> str:
    return next((known.phrase for known in HTTPStatus if known == status), "")


def _retry_after_s(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ours(ValueError):
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except ours(ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
