"""Receiver: gives finished spans to OpenTelemetry's exporter, within a time limit, and says why they were not taken."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.util.re import parse_env_headers

from callspan.otlp.variables import Protocol, endpoint_of, protocol_of, variable_of
from callspan.safe_urls import HIDDEN, error_text, is_http_url, safe_name, without_passwords
from callspan.settings import SettingError

_EXPORTERS: Final[Mapping[Protocol, str]] = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
}
_PATH: Final = "/v1/traces"
_LIMIT_S: Final = 10.0
_GRACE_S: Final = 1.0
"""The exporter itself ends a request at its time limit, unless the answer drips."""
_SHORTEST_SECRET: Final = 4
_LONGEST: Final = 300
_PERMANENT: Final = (400, 413, 422, "INVALID_ARGUMENT", "OUT_OF_RANGE")
"""Statuses that are about the spans of the request: the receiver may take others."""
_TOO_LARGE: Final = re.compile(r"larger than max|too large|exceeds max", re.IGNORECASE)
_SYSTEM_ERROR: Final = re.compile(r"\[Errno -?\d+\] ([\w ]+)")
_LOGGERS: Final = (_EXPORTERS["http/protobuf"], "opentelemetry.exporter.otlp.proto.grpc.exporter")
"""Where the exporters log why a request failed, which their result does not say."""


class Refusal(NamedTuple):
    """Why spans were not taken."""

    reason: str
    """One line, without what was sent in headers."""
    is_permanent: bool
    """Whether it is about these spans: others may be taken."""


class Receiver:
    """An OTLP receiver of spans, for use by one thread.

    Headers, TLS files, compression and time limit are those of OTEL_EXPORTER_OTLP_[TRACES_]*.
    """

    def __init__(self, url: str | None = None) -> None:
        """`url` is as in OTEL_EXPORTER_OTLP_ENDPOINT; None: that of the environment. Connects to nothing.

        Raises SettingError without a valid URL, and where the exporter is not installed or rejects its variables.
        """
        self._protocol = protocol_of("traces")
        endpoint = None if url is None else self._full(url)
        address = endpoint or endpoint_of("traces")
        if address is None:
            raise SettingError("give --otlp URL, or set OTEL_EXPORTER_OTLP_ENDPOINT")
        self.name = safe_name(address)
        """Its URL without user, password and query."""
        self._limit_s = _seconds(variable_of("TIMEOUT"))
        self._secrets = [*_secrets(variable_of("HEADERS"))]
        self._logged: list[logging.LogRecord] = []
        self._exporter = self._made(endpoint)
        for name in _LOGGERS:
            # Before the filters that are there, which drop repeated messages.
            logging.getLogger(name).filters.insert(0, self._collect)
        self._running: threading.Thread | None = None

    def send(self, spans: Sequence[ReadableSpan]) -> Refusal | None:
        """Send spans in one request, with the exporter's retries; None: the receiver took them."""
        answers: list[Refusal | None] = []
        if self._running is None or not self._running.is_alive():
            # On a thread: a receiver whose answer drips never exceeds the exporter's own time limit.
            self._running = threading.Thread(target=self._export, args=(spans, answers), daemon=True)
            self._running.start()
        self._running.join(self._limit_s + _GRACE_S)
        if not answers:
            return Refusal(f"no complete answer within {self._limit_s:g} s", is_permanent=False)
        return answers[0]

    def close(self) -> None:
        """Close connections."""
        self._exporter.shutdown()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._collect)

    def _collect(self, record: logging.LogRecord) -> bool:
        self._logged.append(record)
        return False

    def _full(self, url: str) -> str:
        if not is_http_url(url) or "@" in url or "?" in url:
            raise SettingError(
                f"--otlp: {safe_name(url)} is no OTLP receiver; give a URL as in OTEL_EXPORTER_OTLP_ENDPOINT, such as "
                "http://localhost:4318. Credentials belong in OTEL_EXPORTER_OTLP_HEADERS"
            )
        base = url.rstrip("/")
        return base if self._protocol == "grpc" or base.endswith(_PATH) else f"{base}{_PATH}"

    def _made(self, endpoint: str | None) -> SpanExporter:
        try:
            made: SpanExporter = import_module(_EXPORTERS[self._protocol]).OTLPSpanExporter(endpoint=endpoint)
        except ImportError as error:
            raise SettingError(f'OTLP by {self._protocol} needs pip install "callspan[otlp]"') from error
        except (ValueError, OSError) as error:
            raise SettingError(f"OTEL_EXPORTER_OTLP_*: {error_text(error)}") from error
        return made

    def _export(self, spans: Sequence[ReadableSpan], answers: list[Refusal | None]) -> None:
        self._logged.clear()
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - said by the thread that waits
            answers.append(Refusal(self._line(str(error)), is_permanent=False))
            return
        answers.append(None if result is SpanExportResult.SUCCESS else self._refusal())

    def _refusal(self) -> Refusal:
        """Return what the exporter logged last, if it has a cause in it."""
        record = next((one for one in reversed(self._logged) if len(one.args or ()) > 1), None)
        if record is None or not isinstance(record.args, tuple):
            return Refusal("it does not say why", is_permanent=False)
        text = record.getMessage()
        is_permanent = any(getattr(one, "name", one) in _PERMANENT for one in record.args)
        return Refusal(self._line(text), is_permanent or _TOO_LARGE.search(text) is not None)

    def _line(self, text: str) -> str:
        """Return an error of the system, else the text as one line of printable characters without what headers had."""
        if (error := _SYSTEM_ERROR.search(text)) is not None:
            return error[1]
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
        return without_passwords(line)[:_LONGEST]


def _secrets(headers: str) -> Iterator[str]:
    """Yield the values of headers, and their words: a receiver may quote `Bearer TOKEN` or the token alone."""
    for value in parse_env_headers(headers, liberal=True).values():
        yield from (one for one in (value, *value.split()) if len(one) >= _SHORTEST_SECRET)


def _seconds(text: str) -> float:
    try:
        return float(text or _LIMIT_S)
    except ValueError:
        return _LIMIT_S
