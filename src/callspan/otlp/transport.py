"""Transport: sends one encoded request of spans to an OTLP receiver, and says whether a retry can help.

OpenTelemetry's exporters repeat a request for some seconds and then say only that it failed. Who keeps spans on disk
repeats them himself, for as long as it takes, and must know what to repeat.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from opentelemetry.util.re import parse_env_headers

from callspan.fail_open import Once, log, ours
from callspan.forks import late_attribute
from callspan.safe_urls import is_http_url, safe_name, without_passwords
from callspan.settings import SettingError

_DRIVERS: Final = {
    "otlp+http": ("callspan.otlp.http_transport:HttpTransport", 4318),
    "otlp+https": ("callspan.otlp.http_transport:HttpTransport", 443),
    "otlp+grpc": ("callspan.otlp.grpc_transport:GrpcTransport", 4317),
}
"""The class for each scheme, and the port that a URL without one means."""
_PATH: Final = "/v1/traces"
_COMPRESSIONS: Final = ("none", "gzip", "deflate")
_TIME_LIMIT_S: Final = "10"
_MOST_MESSAGE: Final = 200
_WARNED: Final = Once()


class RefusedError(Exception):
    """The receiver will never take this request. The text is short and quotes nothing of it."""


class UnavailableError(OSError):
    """The request was not taken, or no answer came; a retry may succeed. The text is short and has no URL."""

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        """Seconds that the receiver asks to wait; None if it does not say."""


class Rejection(NamedTuple):
    """A partial success: the request was taken, without some of its spans, which must not be sent again."""

    spans: int
    """How many were rejected; 0: none, the message is a warning."""
    message: str
    """The receiver's own words, without passwords, at most 200 characters."""


class Transport(Protocol):
    """Sends requests to one receiver. Used by one thread at a time; a fork needs another one."""

    def send(self, request: bytes) -> Rejection | None:
        """Send an encoded `ExportTraceServiceRequest`; return what was rejected of it, None if nothing was.

        Raises:
            RefusedError: It can never be sent.
            UnavailableError: It can be sent again.
        """

    def close(self) -> None:
        """Close connections. `send` may follow."""


class RequestOptions(NamedTuple):
    """What OpenTelemetry's environment variables say of sending spans."""

    headers: Mapping[str, str]
    timeout_s: float
    compression: str
    """One of none, gzip, deflate."""
    certificate: str | None
    """File with the certificates to trust; None: the system's."""
    client_certificate: str | None
    """File; None: no client certificate."""
    client_key: str | None
    """File; None: none, or it is in the file of the certificate."""
    is_insecure: bool
    """Whether gRPC is sent in plain text."""


def transport_of(url: str, environment: Mapping[str, str] | None = None) -> Transport:
    """Return the transport to `otlp+http://host:4318[/path]`, `otlp+https://host[/path]` or `otlp+grpc://host:4317`.

    Headers, TLS files, compression and time limit are those of OTEL_EXPORTER_OTLP_[TRACES_]*. gRPC is encrypted where
    OTEL_EXPORTER_OTLP_CERTIFICATE is set or OTEL_EXPORTER_OTLP_INSECURE is false. Connects to nothing yet.

    A time limit or compression that is not understood is warned of once, and the default taken. Raises SettingError
    for an invalid URL, a file that is not there, and where a package of the extra `otlp` is missing.
    """
    address = address_of(url)
    driver = _DRIVERS[url.strip().partition("://")[0].lower()][0]
    options = _options(os.environ if environment is None else environment)
    try:
        made: Transport = late_attribute(driver)(address, options)
    except ImportError as error:
        raise SettingError(f'{safe_name(url)} needs pip install "callspan[otlp]"') from error
    return made


def rejection_of(answer: Any) -> Rejection | None:  # noqa: ANN401
    """Return what an `ExportTraceServiceResponse` says was rejected; None: nothing."""
    rejected = answer.partial_success
    if rejected.rejected_spans <= 0 and not rejected.error_message:
        return None
    return Rejection(max(0, rejected.rejected_spans), without_passwords(rejected.error_message)[:_MOST_MESSAGE])


def address_of(url: str) -> str:
    """Return the URL, or host and port, that a receiver's URL means. Raises SettingError for an invalid one."""
    scheme, _, rest = url.strip().partition("://")
    port = _DRIVERS.get(scheme.lower(), ("", 0))[1]
    protocol = "https" if scheme.lower() == "otlp+https" else "http"
    parts = urlsplit(f"{protocol}://{rest}") if port and is_http_url(f"{protocol}://{rest}") else None
    path = "" if parts is None else parts.path.rstrip("/")
    is_grpc = scheme.lower() == "otlp+grpc"
    if parts is None or "@" in parts.netloc or parts.query or parts.fragment or (is_grpc and path):
        raise SettingError(
            f"{safe_name(url)} is no OTLP receiver; use one of: otlp+http://host:4318, otlp+https://host/path, "
            "otlp+grpc://host:4317. Credentials belong in OTEL_EXPORTER_OTLP_HEADERS"
        )
    server = parts.netloc if parts.port else f"{parts.netloc.rstrip(':')}:{port}"
    return server if is_grpc else f"{protocol}://{server}{path or _PATH}"


def _options(source: Mapping[str, str]) -> RequestOptions:
    def read(name: str) -> tuple[str, str]:
        """Return the variable that is set, and its value; "" if none is."""
        names = (f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}")
        return next(((found, text) for found in names if (text := source.get(found, "").strip())), (names[1], ""))

    def file(name: str) -> str | None:
        variable, path = read(name)
        if path and not Path(path).is_file():
            raise SettingError(f"{variable}: {path} is no file")
        return path or None

    certificate = file("CERTIFICATE")
    insecure = read("INSECURE")[1].lower()
    return RequestOptions(
        headers=parse_env_headers(read("HEADERS")[1], liberal=True),
        timeout_s=_seconds(*read("TIMEOUT")),
        compression=_compression(*read("COMPRESSION")),
        certificate=certificate,
        client_certificate=file("CLIENT_CERTIFICATE"),
        client_key=file("CLIENT_KEY"),
        is_insecure=insecure == "true" if insecure else certificate is None,
    )


def _seconds(variable: str, text: str) -> float:
    try:
        seconds = float(text or _TIME_LIMIT_S)
    except ours(ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        _warn(variable, f"is no number of seconds above 0: {_TIME_LIMIT_S} are taken")
        return float(_TIME_LIMIT_S)
    return seconds


def _compression(variable: str, text: str) -> str:
    name = text.lower() or _COMPRESSIONS[0]
    if name not in _COMPRESSIONS:
        _warn(variable, f"is none of {', '.join(_COMPRESSIONS)}: nothing is compressed")
        return _COMPRESSIONS[0]
    return name


def _warn(variable: str, why: str) -> None:
    if _WARNED.first(variable):
        log(logging.WARNING, "%s %s", variable, why)
