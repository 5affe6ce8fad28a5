"""OTLP exporter: OpenTelemetry's exporter with batches limited by bytes and one log message per outage.

OpenTelemetry's exporters log a line for each retry and each lost batch, and retry for longer than an ending process
can wait. The messages they log during callspan's exports are intercepted here.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from callspan.fail_open import fail_open
from callspan.otlp.byte_bounds import MAX_BATCH_BYTES, export_parts
from callspan.otlp.variables import Destination
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
_WHAT: Final = {"traces": "spans", "metrics": "metrics", "logs": "log events"}
_NO_SUCH_SIGNAL: Final = frozenset({"404", "405", "501", "UNIMPLEMENTED"})
_PHRASES: Final = {status.phrase: status.value for status in HTTPStatus}
_CAUSES: Final = (
    (re.compile(r"larger than max|too large", re.IGNORECASE), "larger than it takes"),
    (re.compile(r"refused", re.IGNORECASE), "connection refused"),
    (re.compile(r"timed out|DEADLINE_EXCEEDED|Deadline Exceeded", re.IGNORECASE), "no answer in time"),
    (re.compile(r"resolution|getaddrinfo|not known|resolve", re.IGNORECASE), "unknown host"),
    (re.compile(r"reset by peer|aborted|Disconnected|Socket closed|UNAVAILABLE", re.IGNORECASE), "connection lost"),
    (re.compile(r"certificate|SSL|handshake", re.IGNORECASE), "TLS failed"),
)
_TOO_LARGE: Final = _CAUSES[0][1]
_OTHER_PROTOCOL: Final = {
    ("http/protobuf", 4317): "4317 is the port of gRPC: use 4318, or OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
    ("grpc", 4318): "4318 is the port of HTTP: use 4317, or OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
}
_working: Final = threading.local()
"""`.attempt` is callspan's export in progress on this thread, if any."""


class Patience:
    """The retry limit shared by the exporters of one setup. The default is OpenTelemetry's."""

    def __init__(self) -> None:
        self._until_s = math.inf
        self._final = False
        self._gone: set[str] = set()
        self.reported: set[str] = set()
        """Hosts whose outage was reported, once for all signals."""

    @contextmanager
    def limited(self, timeout_s: float) -> Iterator[None]:
        """Context manager: no retry may begin that would end later than `timeout_s` from now."""
        before, self._until_s = self._until_s, min(self._until_s, time.monotonic() + timeout_s)
        self._gone.clear()
        try:
            yield
        finally:
            if not self._final:
                self._until_s = before

    def end(self, timeout_s: float) -> None:
        """Limit all retries from now on, because the process is about to end."""
        if not self._final:
            self._final = True
            self._until_s = time.monotonic() + timeout_s
            self._gone.clear()

    def allows(self, wait_s: float) -> bool:
        """Return whether there is time to wait and try again."""
        return time.monotonic() + wait_s <= self._until_s

    def give_up(self, host: str) -> None:
        """Remember an unreachable host while time is limited, so that the next signal does not wait for it again."""
        if self._until_s < math.inf:
            self._gone.add(host)

    def has_given_up(self, host: str) -> bool:
        """Return whether a host was unreachable under the current time limit."""
        return self._until_s < math.inf and host in self._gone


class OtlpExporter:
    """Exports one signal; attributes that an SDK's processor or reader needs are those of the wrapped exporter.

    Called by one thread at a time, as all exporters; its attributes may be read from any thread.
    """

    def __init__(self, exporter: Any, destination: Destination, patience: Patience, failure: object) -> None:  # noqa: ANN401
        """`failure` is the signal's result value for a failed export."""
        self._exporter = exporter
        self._destination = destination
        self._patience = patience
        self._failure = failure
        self._host = urlsplit(destination.address).netloc or destination.address
        self._closed = False
        self._reported_kinds: set[str] = set()
        self.taken = 0
        """Number of batches the receiver accepted."""
        self.lost = 0
        """Number of spans or log events it did not accept; for metrics, of exports."""
        self.trouble: str | None = None
        """Why the last batch was not accepted; None if it was."""
        self.outage = False
        """Whether the last batch was not accepted although the receiver is not known to lack the signal."""
        listen()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the temporality and aggregation of metrics
        return getattr(self._exporter, name)

    @property
    def address(self) -> str:
        """The URL of the receiver, without a password."""
        return safe_name(self._destination.address)

    def export(self, batch: Any, **options: Any) -> Any:  # noqa: ANN401 - of three kinds
        """Export spans, log records or metrics; return the wrapped exporter's result."""
        if not isinstance(batch, Sequence):
            return self._export(batch, 1, options)
        return export_parts(lambda part: self._export(part, len(part), options), batch, MAX_BATCH_BYTES)

    def shutdown(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - the signals differ
        """Shut down the wrapped exporter."""
        if not self._closed:
            self._closed = True
            self._exporter.shutdown(*arguments, **options)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Flush the wrapped exporter."""
        return bool(self._exporter.force_flush(timeout_millis))

    def _export(self, batch: Any, count: int, options: dict[str, Any]) -> Any:  # noqa: ANN401
        if self._patience.has_given_up(self._host):
            self.lost += count
            self.outage, self.trouble = True, self.trouble or "no response"
            return self._failure
        attempt = _Attempt(self._patience)
        result = self._failure
        before, _working.attempt = getattr(_working, "attempt", None), attempt
        try:
            with _EXPORT:
                result = self._exported(batch, attempt, options)
        except _NoMoreRetries:
            result = self._failure
        finally:
            _working.attempt = before
        if getattr(result, "name", None) == "SUCCESS":
            self._was_taken()
        else:
            self._was_not_taken(attempt, count)
        return result

    def _exported(self, batch: Any, attempt: _Attempt, options: dict[str, Any]) -> Any:  # noqa: ANN401
        try:
            return self._exporter.export(batch, **options)
        except OSError as error:
            attempt.read(error)
            return self._failure

    def _was_taken(self) -> None:
        if self.outage and self._reported_kinds:
            self._say_again()
        self.taken += 1
        self.trouble, self.outage = None, False

    def _say_again(self) -> None:
        what = _WHAT[self._destination.signal]
        lost = "" if what == "metrics" else f"; {self.lost} were lost"
        _LOGGER.warning("%s takes %s again%s", self.address, what, lost)
        self._reported_kinds.clear()
        self._patience.reported.discard(self._host)

    def _was_not_taken(self, attempt: _Attempt, count: int) -> None:
        self.lost += count
        self.trouble = attempt.cause
        if attempt.unreachable:
            self._patience.give_up(self._host)
        if attempt.status in _NO_SUCH_SIGNAL:
            self._warn("no such signal", self._no_such_signal())
        elif attempt.cause == _TOO_LARGE:
            what = _WHAT[self._destination.signal]
            many = f"{count} {what}" if count > 1 else f"one of the {what}"
            self._warn("size", f"{self.address} did not take {many}: the message is larger than it takes")
        else:
            self.outage = True
            reported = self._patience.reported
            if not (attempt.unreachable and self._host in reported):
                reported.add(self._host)
                self._warn("outage", self._not_sent(attempt))

    def _warn(self, kind: str, sentence: str) -> None:
        if kind not in self._reported_kinds:
            self._reported_kinds.add(kind)
            _LOGGER.warning("%s", sentence)

    def _no_such_signal(self) -> str:
        what, switch = _WHAT[self._destination.signal], self._destination.switch
        return f"{self.address} takes no {what} ({self.trouble}): they are not sent. {switch}=none turns them off"

    def _not_sent(self, attempt: _Attempt) -> str:
        address = urlsplit(self.address)
        hint = _OTHER_PROTOCOL.get((self._destination.protocol, address.port or 0))
        if attempt.unreachable:
            place = f"{address.scheme}://{address.netloc}" if address.netloc else self.address
            sentence = f"Could not reach {place} ({self.trouble}): telemetry is dropped until it answers"
        else:
            what = _WHAT[self._destination.signal]
            sentence = f"{self.address} did not take {what} ({self.trouble}): they are dropped until it does"
        return sentence if hint is None else f"{sentence}. {hint}"


class _NoMoreRetries(BaseException):
    """Ends an export that was about to retry. Not an `Exception`, so that no handler in between catches it."""


class _Attempt:
    """The messages an exporter logs during one export."""

    __slots__ = ("_patience", "_word", "status", "unreachable")

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._word: str | None = None
        self.status: str | None = None
        """The HTTP status or the name of the gRPC status; None without a response."""
        self.unreachable = False

    @property
    def cause(self) -> str:
        """Return why it failed, without the receiver's text, which may quote what was sent."""
        if self._word is not None:
            return self._word
        if self.status is None:
            return "unknown error"
        phrase = next((phrase for phrase, value in _PHRASES.items() if str(value) == self.status), None)
        return self.status if phrase is None else f"{self.status} {phrase}"

    def note(self, record: logging.LogRecord) -> None:
        """Read one log record. Raises _NoMoreRetries if it announces a retry that is useless or too late."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        for argument in arguments:
            self.read(argument)
        waits_s = next((argument for argument in arguments if isinstance(argument, float)), None)
        retries = waits_s is not None and "retrying" in str(record.msg)
        if retries and (self._word == _TOO_LARGE or not self._patience.allows(waits_s or 0.0)):
            raise _NoMoreRetries

    def read(self, argument: object) -> None:
        """Extract the cause from an argument of a log record, or from an exception."""
        if type(argument).__name__ == "StatusCode":
            self.status = str(getattr(argument, "name", argument))
            self._read_text(self.status)
        elif isinstance(argument, int) and argument >= HTTPStatus.BAD_REQUEST:
            self.status = str(int(argument))
        elif isinstance(argument, str) and argument in _PHRASES:
            self.status = str(_PHRASES[argument])
        elif isinstance(argument, str | BaseException):
            self._read_text(str(argument))

    def _read_text(self, text: str) -> None:
        found = cause_of(text)
        if found is not None and (self._word is None or self._word == "connection lost"):
            self._word = found
            self.unreachable = found != _TOO_LARGE


def cause_of(text: str) -> str | None:
    """Return the cause of a failure that the text of an exception or log message names; None for an unknown one."""
    return next((cause for pattern, cause in _CAUSES if pattern.search(text)), None)


class _Listener(logging.Filter):
    """Logging filter that intercepts messages during callspan's exports and passes all others."""

    def filter(self, record: logging.LogRecord) -> bool:
        attempt: _Attempt | None = getattr(_working, "attempt", None)
        if attempt is None:
            return True
        attempt.note(record)
        return False


_LISTENER: Final = _Listener()


def listen() -> None:
    """Install the filter on the loggers of OpenTelemetry's OTLP exporters. May be called repeatedly."""
    for name in _LOGGERS:
        filters = logging.getLogger(name).filters
        if _LISTENER not in filters:
            filters.insert(0, _LISTENER)  # before their own filters, which drop repeated messages
