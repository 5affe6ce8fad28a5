"""Exporting: what OpenTelemetry's OTLP exporters log of a failure, and an exporter that reports each outage once."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from callspan.fail_open import fail_open
from callspan.otlp.byte_bounds import MAX_BATCH_BYTES, export_parts
from callspan.otlp.variables import Signal, switch_of
from callspan.safe_urls import safe_name

_LOGGER: Final = logging.getLogger("callspan")
_EXPORT: Final = fail_open("send telemetry by OTLP")
_PACKAGE: Final = "opentelemetry.exporter.otlp"
_LOGGERS: Final = (
    f"{_PACKAGE}.common.http",
    f"{_PACKAGE}.proto.http._common",
    f"{_PACKAGE}.proto.grpc.exporter",
    *(
        f"{_PACKAGE}.proto.{protocol}.{module}"
        for protocol in ("http", "grpc")
        for module in ("trace_exporter", "metric_exporter", "_log_exporter")
    ),
)
"""Where the exporters log why a request failed, which their result does not say."""
_WHAT: Final = {"traces": "spans", "metrics": "metrics", "logs": "log events"}
_NO_SUCH_SIGNAL: Final = frozenset({"404", "405", "501", "UNIMPLEMENTED"})
_PHRASES: Final = {status.phrase: str(status.value) for status in HTTPStatus}
_NAMES: Final = {str(status.value): f"{status.value} {status.phrase}" for status in HTTPStatus}
TOO_LARGE: Final = "the message is larger than it takes"
_CAUSES: Final = (
    (re.compile(r"larger than max|too large", re.IGNORECASE), TOO_LARGE),
    (re.compile(r"refused", re.IGNORECASE), "connection refused"),
    (re.compile(r"timed out|DEADLINE_EXCEEDED|Deadline Exceeded", re.IGNORECASE), "no answer in time"),
    (re.compile(r"resolution|getaddrinfo|not known|resolve", re.IGNORECASE), "unknown host"),
    (re.compile(r"reset by peer|aborted|Disconnected|Socket closed|UNAVAILABLE", re.IGNORECASE), "connection lost"),
    (re.compile(r"certificate|SSL|handshake", re.IGNORECASE), "TLS failed"),
)
_thread: Final = threading.local()
"""`.collect` takes the log messages of the export that this thread does for callspan."""


class Failure(NamedTuple):
    """Why an export failed."""

    cause: str | None
    """In words of callspan's own, which quote nothing that was sent; None: unknown."""
    status: str | None
    """The HTTP status or the name of the gRPC status; None without a response."""
    words: str
    """The receiver's own words, without a response those of the exporter."""


@contextmanager
def logged(also: Callable[[logging.LogRecord], object] | None = None) -> Iterator[list[logging.LogRecord]]:
    """Collect what the exporters log on this thread in the block, in place of its being shown; `also` sees each."""
    records: list[logging.LogRecord] = []

    def collect(record: logging.LogRecord) -> None:
        records.append(record)
        if also is not None:
            also(record)

    for name in _LOGGERS:
        filters = logging.getLogger(name).filters
        if _passes not in filters:
            filters.insert(0, _passes)  # before their own, which drop repeated messages
    before, _thread.collect = getattr(_thread, "collect", None), collect
    try:
        yield records
    finally:
        _thread.collect = before


def failure_of(records: Sequence[logging.LogRecord], error: BaseException | None = None) -> Failure:
    """Return why an export failed, by what was logged and the exception that it raised."""
    status, words = _response(records)
    texts = [str(one) for record in records for one in _arguments(record) if isinstance(one, str | BaseException)]
    texts += [] if error is None else [str(error)]
    named = next((cause for pattern, cause in _CAUSES for text in texts if pattern.search(text)), None)
    if status is not None and named != TOO_LARGE and not (named and status == "UNAVAILABLE"):
        named = named_status(status)
    if status is None:
        words = str(error) if error is not None else records[-1].getMessage() if records else ""
    return Failure(named, status, words)


def _response(records: Sequence[logging.LogRecord]) -> tuple[str | None, str]:
    """Return the last status that was logged, and the receiver's words with it."""
    for record in reversed(records):
        arguments = _arguments(record)
        for one in arguments:
            if (status := _status(one)) is not None:
                words = [text for text in arguments if isinstance(text, str)]
                return status, "" if isinstance(one, str) or not words else words[-1]
    return None, ""


def named_status(status: str) -> str:
    """Return an HTTP status with its phrase, any other as it is."""
    return _NAMES.get(status, status)


def _arguments(record: logging.LogRecord) -> tuple[object, ...]:
    return record.args if isinstance(record.args, tuple) else ()


def _passes(record: logging.LogRecord) -> bool:
    collect = getattr(_thread, "collect", None)
    if collect is None:
        return True
    collect(record)
    return False


def _status(value: object) -> str | None:
    if type(value).__name__ == "StatusCode":
        return str(getattr(value, "name", value))
    if isinstance(value, int) and value >= HTTPStatus.MULTIPLE_CHOICES:
        return str(int(value))
    return _PHRASES.get(value) if isinstance(value, str) else None


class _NoRetry(BaseException):
    """Ends an export that was about to wait. Not an `Exception`, so that no handler in between catches it."""


class OwnExporter:
    """OpenTelemetry's exporter of one signal, in batches limited by bytes; each outage is one warning.

    Attributes that an SDK's processor or reader needs are those of the exporter. Its own may be read from any thread.
    """

    def __init__(self, exporter: Any, signal: Signal, address: str, failure: object) -> None:  # noqa: ANN401
        """`failure` is the signal's result of a failed export."""
        self._exporter = exporter
        self._signal = signal
        self._failure = failure
        self._end_s = self._flush_end_s = math.inf
        self._has_warned = self._closed = False
        self.address = safe_name(address)
        """The URL of the receiver, without a password."""
        self.lost = 0
        """Number of spans or log events it did not accept; for metrics, of exports."""
        self.trouble: str | None = None
        """Why the last batch was not accepted; None if it was."""
        self.outage = False
        """Whether the last batch was not accepted although the receiver is not known to lack the signal."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the temporality and aggregation of metrics
        return getattr(self._exporter, name)

    def export(self, batch: Any, **options: Any) -> Any:  # noqa: ANN401 - of three kinds
        """Export spans, log records or metrics; return the exporter's result."""
        if not isinstance(batch, Sequence):
            return self._export(batch, 1, options)
        return export_parts(lambda part: self._export(part, len(part), options), batch, MAX_BATCH_BYTES)

    def end(self, timeout_s: float) -> None:
        """Wait for no retry that would come later, because the process is about to end."""
        self._end_s = min(self._end_s, time.monotonic() + timeout_s)

    @contextmanager
    def limited(self, timeout_s: float) -> Iterator[None]:
        """Wait in the block for no retry that would come later than the time."""
        self._flush_end_s = time.monotonic() + timeout_s
        try:
            yield
        finally:
            self._flush_end_s = math.inf

    def shutdown(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - the signals differ
        """Shut the exporter down."""
        if not self._closed:
            self._closed = True
            self._exporter.shutdown(*arguments, **options)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Flush the exporter."""
        return bool(self._exporter.force_flush(timeout_millis))

    def _export(self, batch: Any, count: int, options: dict[str, Any]) -> Any:  # noqa: ANN401
        result, error = self._failure, None
        with _EXPORT, logged(self._stop_late_retry) as records:
            try:
                result = self._exporter.export(batch, **options)
            except (OSError, _NoRetry) as raised:
                error = raised if isinstance(raised, OSError) else None
        if getattr(result, "name", None) == "SUCCESS":
            self._was_taken()
        else:
            self._was_not_taken(failure_of(records, error), count)
        return result

    def _stop_late_retry(self, record: logging.LogRecord) -> None:
        waits = [one for one in _arguments(record) if isinstance(one, float)]
        if waits and time.monotonic() + waits[0] > min(self._end_s, self._flush_end_s):
            raise _NoRetry

    def _was_taken(self) -> None:
        if self.outage and self._has_warned:
            lost = "" if self._signal == "metrics" else f"; {self.lost} were lost"
            _LOGGER.warning("%s takes %s again%s", self.address, _WHAT[self._signal], lost)
            self._has_warned = False
        self.trouble, self.outage = None, False

    def _was_not_taken(self, failure: Failure, count: int) -> None:
        self.lost += count
        self.trouble = failure.cause or "unknown error"
        lacks_signal = failure.status in _NO_SUCH_SIGNAL
        self.outage = not lacks_signal and failure.cause != TOO_LARGE
        if self._has_warned:
            return
        self._has_warned = True
        what = _WHAT[self._signal]
        if lacks_signal:
            then = f"they are not sent. {switch_of(self._signal)}=none turns them off"
        else:
            then = "they are dropped until it does"
        _LOGGER.warning("%s does not take %s (%s): %s", self.address, what, self.trouble, then)
