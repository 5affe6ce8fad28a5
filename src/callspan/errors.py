"""Errors: converts exceptions to the error and outcome of a record."""

from __future__ import annotations

import re
import traceback
from collections import deque
from functools import partial
from typing import Any, Final, cast

import msgspec

from callspan.process.sent_keys import remember_failure
from callspan.providers.error_kinds import FIRST_ERROR, RETRYABLE, capped, error_info, kind_of_close, known_base
from callspan.record.call import ErrorInfo, Outcome
from callspan.record.codec import encodable, json_text
from callspan.record.plain_json import plain
from callspan.runtime.fail_open import value_of

_MAX_FRAMES, _MAX_LINE = 20, 500
_CONNECTION: Final = "connection"
_CANCELLATIONS: Final = ("CancelledError", "Cancelled")
_DEADLINE: Final = re.compile(r"\b(deadline|time[ -]?out|timed[ -]?out)\b", re.IGNORECASE)
"""Words of a cancellation's message, as in anyio's `Cancelled via cancel scope ...; reason: deadline exceeded`."""


def call_error(error: BaseException | str) -> ErrorInfo:
    """Return the error of a call from the exception of the SDK or HTTP library, or from a text of the application.

    Never raises, whatever the exception's `__str__` and properties do.
    """
    if not isinstance(error, BaseException):
        return _text_error(error)
    remember_failure(error)
    request_id, body = (value_of(partial(getattr, error, name, None)) for name in ("request_id", "body"))
    info = error_info(
        status=error_status(error),
        body=body,
        exception=qualified_name(type(error)),
        base=known_base(type(error)),
        message=_message(error),
        request_id=request_id if isinstance(request_id, str) else None,
    )
    if info.kind == _CONNECTION and (close := value_of(partial(_close_of, error))) is not None:
        kind = kind_of_close(*close) or _CONNECTION
        return msgspec.structs.replace(info, kind=kind, retryable=kind in RETRYABLE, code=str(close[0]))
    return msgspec.structs.replace(info, kind="timeout", retryable=True) if is_deadline(error) else info


def _close_of(error: BaseException) -> tuple[int, str] | None:
    """Return the server's code and reason if it closed a websocket first.

    After the client has closed, the server only repeats the client's code, which is 1011 after unanswered pings.
    """
    frame: Any = getattr(error, "rcvd", None)
    return None if frame is None or getattr(error, "rcvd_then_sent", None) is False else (frame.code, frame.reason)


def is_deadline(error: BaseException) -> bool:
    """Return whether a cancellation says that it comes from a deadline of the application.

    anyio says so in the message and trio in `source`. asyncio's own timeouts say nothing: they are recognised only by
    the message that the application gives to `Task.cancel`, or by the cause.
    """
    if isinstance(error, Exception) or known_base(type(error)) not in _CANCELLATIONS:
        return False
    source, cause = (value_of(partial(getattr, error, name, None)) for name in ("source", "__cause__"))
    return source == "deadline" or isinstance(cause, TimeoutError) or bool(_DEADLINE.search(_message(error) or ""))


def error_status(error: BaseException) -> int | None:
    """Return the HTTP status of the error, stated by the exception itself or by its response."""
    response = value_of(partial(getattr, error, "response", None))
    # The last is aiohttp's. It has a cause if the answer could not be parsed: the server has not said this status.
    by_aiohttp = error if value_of(partial(getattr, error, "__cause__", None)) is None else None
    for holder, name in ((error, "status_code"), (response, "status_code"), (by_aiohttp, "status")):
        status = value_of(partial(getattr, holder, name, None))
        # A mid-stream error of the anthropic SDK has the status of the stream's start: 200.
        if isinstance(status, int) and status >= FIRST_ERROR:
            return status
    return None


def stated_error(value: object) -> BaseException | str | None:
    """Return what an application gives as an error, which may be anything: an exception, or a text.

    A message is as it was given, any other value the text of its JSON. None, False and 0 state no error: they are what
    flags and exit codes say of a success.
    """
    if value is None:
        return None
    # `isinstance` would ask the value for its class.
    if issubclass(type(value), BaseException):
        return cast("BaseException", value)
    if issubclass(type(value), str):
        return str.__str__(cast("str", value))
    stated = plain(value)
    return None if stated == 0 else json_text(stated) or ""


def application_error(value: object) -> ErrorInfo | None:
    """Return the error of a session, timestep, tool or event; None if `stated_error` has none.

    Only class, message and frames are used: other attributes of the application's exceptions may mean anything. The
    keys of a request that it names are masked.
    """
    error = None if value is None else stated_error(value)
    if error is None:
        return None
    if not isinstance(error, BaseException):
        return _text_error(error)
    remember_failure(error)
    name = qualified_name(type(error))
    kind = "unknown" if isinstance(error, Exception) else "timeout" if is_deadline(error) else "cancelled"
    message = _message(error)
    return ErrorInfo(
        kind=kind, type=name, exception=name, message=None if message is None else capped(message),
        frames=value_of(partial(_frames, error)) or None,
    )  # fmt: skip


def _text_error(message: str) -> ErrorInfo:
    return ErrorInfo(kind="unknown", type="error", message=capped(message))


def outcome_of(error: BaseException | str | None, info: ErrorInfo | None = None) -> Outcome:
    """Return the outcome for an error: `success` for None, `timeout` if `info` states it, else `error`.

    A cancellation, a closed generator, an interrupt and an exit are `cancelled`; a cancellation by a deadline is a
    `timeout`.
    """
    if error is None:
        return "success"
    if info is not None and info.kind == "timeout":
        return "timeout"
    if isinstance(error, Exception | str):
        return "error"
    return "timeout" if is_deadline(error) else "cancelled"


def qualified_name(kind: type[BaseException]) -> str:
    """Return the qualified name of a class, without the module for built-in ones."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _frames(error: BaseException) -> str:
    """Return file, line and function of the innermost frames, without source lines, which may contain content."""
    frames = deque(traceback.walk_tb(error.__traceback__), _MAX_FRAMES)
    lines = [f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}' for frame, line in frames]
    return "".join(encodable(line[:_MAX_LINE]) + "\n" for line in lines)


def _message(error: BaseException) -> str | None:
    """Return what an exception says, without the query of its request: no query is recorded, whatever is in it."""
    message = value_of(partial(str, error))
    url = value_of(partial(_url_of, error))
    if not message or not url:
        return message
    address, _, query = url.partition("?")
    name = address.rpartition("/")[2]
    return message.replace(f"{name}?{query.partition('#')[0]}", name)


def _url_of(error: BaseException) -> str | None:
    """Return the URL of the request that an exception of an HTTP library names, if it has a query."""
    request: Any = getattr(error, "request", None) or getattr(error, "request_info", None)
    url = "" if request is None else str(request.url)
    return url if "?" in url else None
