"""Receiver: sends spans or log records with OpenTelemetry's exporter, within a time limit, and reports failures."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.util.re import parse_env_headers

from callspan.otlp.answers import Answers, Rejection
from callspan.otlp.providers import Protocol, Signal, otlp_variable, protocol_of
from callspan.process.known_keys import remember
from callspan.process.sent_keys import keys_in, without_secrets
from callspan.runtime.safe_urls import HIDDEN, error_text, is_http_url, safe_name
from callspan.settings import SettingError

_LIMIT_S: Final = 10.0
_GRACE_S: Final = 1.0
"""Extra time: the exporter ends a request at its own time limit, unless the answer drips."""
_MIN_SECRET_LENGTH: Final = 4
_MAX_LINE: Final = 300
_PERMANENT: Final = (400, 413, 422, "INVALID_ARGUMENT", "OUT_OF_RANGE")
"""Statuses caused by the items of the request; the receiver may accept others."""
_TOO_LARGE: Final = re.compile(r"larger than max|too large|exceeds max", re.IGNORECASE)
_SYSTEM_ERROR: Final = re.compile(r"\[Errno -?\d+\] ([\w ]+)")
_LOGGERS: Final = tuple(
    logging.getLogger(f"opentelemetry.exporter.otlp.proto.{name}")
    for name in ("http.trace_exporter", "http._log_exporter", "grpc.exporter")
)
"""Loggers of the exporters, which log the reason of a failure instead of returning it."""


class UnavailableError(Exception):
    """The receiver may accept the items later. The message is the reason, in one line without secrets."""


class RefusedError(Exception):
    """The receiver rejects these items. The message is the reason, in one line without secrets."""


class Receiver:
    """An OTLP receiver of one signal, for use by one thread.

    Headers, TLS files, compression and time limit come from OTEL_EXPORTER_OTLP_[SIGNAL_]*.
    """

    def __init__(self, address: str, signal: Signal = "traces", protocol: Protocol | None = None) -> None:
        """`address` is the URL of the signal; without a protocol, the variables name it. Connects to nothing.

        Raises SettingError for an invalid address, and if the exporter is not installed or rejects its variables.
        """
        protocol = protocol or protocol_of(signal)
        if not is_http_url(f"http://{address}" if protocol == "grpc" and "://" not in address else address):
            raise SettingError(f"{safe_name(address)} is not a valid address; http://localhost:4318 is one")
        self.name = safe_name(address)
        """Its URL without user, password and query."""
        user = address.rpartition("@")[0].rpartition("/")[2]
        headers = otlp_variable("HEADERS", signal)
        self._secrets = [*_secrets(headers), *filter(None, [user])]
        remember(key for value in _values(headers) for key in keys_in(value))
        try:
            self._limit_s = float(otlp_variable("TIMEOUT", signal) or _LIMIT_S)
            self._answers = Answers(protocol, address, signal)
            self._exporter = self._answers.exporter()
        except ImportError as error:
            raise SettingError(str(error)) from error
        except (ValueError, OSError) as error:
            raise SettingError(f"OTEL_EXPORTER_OTLP_*: {error_text(error)}") from error
        self._reason: logging.LogRecord | None = None
        self._thread: int | None = None
        """The thread that sends."""
        for logger in _LOGGERS:
            # Before existing filters, which drop repeated messages.
            logger.filters.insert(0, self._keep_reason)

    def send(self, items: Sequence[object]) -> Rejection | None:
        """Send items in one request, with the exporter's retries; return what the receiver rejects of them.

        Raises RefusedError, UnavailableError.
        """
        failures: list[Exception | None] = []
        self._reason = self._answers.rejection = None
        # On a thread, because a dripping answer never exceeds the exporter's own time limit.
        failure_of = partial(self._failure, self._exporter, items)
        request = threading.Thread(target=lambda: failures.append(failure_of()), daemon=True)
        request.start()
        request.join(self._limit_s + _GRACE_S)
        if not failures:
            self._exporter.shutdown()
            self._exporter = self._answers.exporter()
            raise UnavailableError(f"no complete answer within {self._limit_s:g} s")
        if failures[0] is not None:
            raise failures[0]
        rejection = self._answers.rejection
        return rejection and Rejection(rejection.number, self._line(rejection.reason) or "it does not say why")

    def close(self) -> None:
        """Close connections."""
        self._exporter.shutdown()
        for logger in _LOGGERS:
            logger.removeFilter(self._keep_reason)

    def _keep_reason(self, record: logging.LogRecord) -> bool:
        if threading.get_ident() != self._thread:
            return True  # of the application's own exporter
        if len(record.args or ()) > 1:
            self._reason = record
        return False

    def _failure(self, exporter: Any, items: Sequence[object]) -> Exception | None:
        self._thread = threading.get_ident()
        try:
            with suppress_instrumentation():
                if exporter.export(items).name == "SUCCESS":
                    return None
        except Exception as error:  # raised by the thread that waits
            return UnavailableError(self._line(str(error)))
        reason = self._reason or logging.makeLogRecord({"msg": "it does not say why"})
        text = reason.getMessage()
        codes = [getattr(argument, "name", argument) for argument in reason.args or ()]
        is_refusal = any(code in _PERMANENT for code in codes) or _TOO_LARGE.search(text) is not None
        return (RefusedError if is_refusal else UnavailableError)(self._line(text))

    def _line(self, text: str) -> str:
        """Return the message of a system error, else the text as one printable line without header values."""
        if (error := _SYSTEM_ERROR.search(text)) is not None:
            return error[1]
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        line = "".join(character if character.isprintable() else " " for character in text)
        return without_secrets(" ".join(line.split()))[:_MAX_LINE]


def _secrets(headers: str) -> Iterator[str]:
    """Yield the header values and their words: a receiver may quote `Bearer TOKEN` or only the token."""
    for value in _values(headers):
        yield from (word for word in (value, *value.split()) if len(word) >= _MIN_SECRET_LENGTH)


def _values(headers: str) -> list[str]:
    return [*parse_env_headers(headers, liberal=True).values()]
