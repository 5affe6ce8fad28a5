"""requests: observes what its sessions send, with redirects, and how their answers are read.

`Session.send` sends each request, also that of `requests.post`. The adapter repeats it as its `Retry` says, by urllib3,
each time as an attempt. An answer is read by `iter_content`, which all methods and properties of a response use, or by
its `raw` body, which may outlive it. Another iterator may go on where one was left, so only the body's end is one.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any, Final

import msgspec

from callspan import private_names as names
from callspan.agent.call_ids import remember_result
from callspan.intercept.hooks import HookSteps
from callspan.intercept.http_libraries import wire_calls
from callspan.intercept.http_libraries.exchanges import Answer, BodyCopy, Headers, SentRequest, is_compressed, url_of
from callspan.intercept.http_libraries.urllib3_bodies import RAW_BODIES, is_observed
from callspan.intercept.http_libraries.wire_calls import WireCall, WireObserver
from callspan.intercept.iteration import Take, Watch, watched
from callspan.intercept.open_call import OpenCall
from callspan.intercept.responses import CURRENT_CALL
from callspan.observe.call import failure
from callspan.providers import wires
from callspan.providers.error_kinds import FIRST_ERROR, error_info
from callspan.providers.rate_limits import relevant_text_headers
from callspan.record.call import ErrorInfo, Outcome, StreamEnd
from callspan.runtime.fail_open import fail_open, value_of

_SEND: Final = fail_open("observe a request of requests")
_ATTEMPT: Final = fail_open("observe an attempt of requests")
_READ: Final = fail_open("observe an answer of requests")
_FIRST_REDIRECT: Final = 300
_TIMEOUT: Final = "timeout"
_READ_TIMEOUT: Final = "ReadTimeoutError"


class RequestsCall(WireCall):
    """A call while `Session.send` runs."""

    __slots__ = ("body",)
    body: object
    """What each attempt sends, by which others' requests are told from it."""

    def answered(self, response: Any) -> None:
        """End a call whose answer was read, or observe the answer while it is read."""
        remember_result(response, self.call.id_cell)
        content: bytes | None = None
        if getattr(response, names.CONSUMED.name, False) is True:
            content = value_of(lambda: response.content) or b""
        sent = response.request if response.history else None
        is_cached = getattr(response, "from_cache", None) is True  # as CacheControl says
        super().answered(
            Answer(
                response, response.status_code, Headers(response.headers), content,
                None if sent is None else SentRequest(str(sent.method), str(sent.url), sent.headers),
                {"from_cache": True} if is_cached else None,
            )
        )  # fmt: skip

    def observe(self, response: Any) -> None:
        """Observe an open answer while it is read."""
        observer = _Observer(self, response.response, response.status_code, is_open=False)
        raw = response.response.raw
        RAW_BODIES.put(raw, _Reader(observer, response.headers, raw), observer.lost)
        observer.release()

    def failure(self, error: BaseException) -> tuple[StreamEnd | None, Outcome, ErrorInfo]:
        """Record the failure of the last attempt, unless its status is one; return how the call ends."""
        how, outcome, info = _failure(error, in_stream=False)
        status = self.call.attempts.last_status or 0
        if status < FIRST_ERROR:
            self.call.attempts.failed(error)
        if status >= FIRST_ERROR and info.kind == "unknown":  # the last one of too many
            info = error_info(status=status, body=None, exception=info.exception, message=info.message)
        return how, outcome, info


def _failure(error: BaseException, *, in_stream: bool = True) -> tuple[StreamEnd | None, Outcome, ErrorInfo]:
    """Return the arguments of `Call.end` for an exception: a time-out of urllib3 becomes a `ConnectionError`."""
    how, outcome, info = failure(error, in_stream=in_stream)
    cause = error.args[0] if isinstance(error, Exception) and error.args else None
    causes = type(getattr(cause, "reason", cause)).__mro__
    if any(kind.__name__ == _READ_TIMEOUT for kind in causes):
        return how, _TIMEOUT, msgspec.structs.replace(info, kind=_TIMEOUT, retryable=True)
    return how, outcome, info


class _Observer(WireObserver):
    """Observes an open answer."""

    __slots__ = ()

    def failed(self, error: BaseException) -> None:
        """Report the exception of the reader."""
        self._end(partial(self.call.end, *_failure(error)))


class _Reader:
    """Copies the body of an answer while it is read."""

    __slots__ = ("_copy", "_is_compressed", "_is_raw", "_is_unseen", "observer", "reads_raw")

    def __init__(self, observer: _Observer, headers: Headers, raw: object) -> None:
        self.observer, self._copy = observer, BodyCopy(observer, headers)
        self.reads_raw = is_observed(raw)
        """Whether the reads of the body are seen, not only those of the response."""
        self._is_unseen = self.reads_raw and getattr(raw, "chunked", False) is True
        """Whether no read of a body was reported that always reports one, but where urllib3 lacks what is hooked."""
        self._is_compressed = is_compressed(headers)
        self._is_raw = False
        """Whether the application reads it as it was sent."""

    @property
    def is_passive(self) -> bool:
        """Whether nothing more is to be read."""
        return self.observer.call.ended

    def begin(self, *, is_decoded: bool) -> None:
        """Report that reading begins."""
        self._is_raw, self._is_unseen = not is_decoded, False

    def add(self, piece: bytes, *, is_last: bool = False) -> None:
        """Add what was read."""
        self._copy.add(piece, is_compressed=self._is_raw and self._is_compressed)
        if is_last:
            self._copy.completed()

    def completed(self) -> None:
        """Report that the response was read."""
        if self._is_unseen:
            self.observer.call.mark_unread()
            self.observer.raw_ended()
        else:
            self._copy.completed()

    def failed(self, error: BaseException) -> None:
        """Report an exception of the body; what the response makes of it is reported when it raises that."""
        if not self.observer.is_reading():
            self.observer.failed(error)


class _Content(Watch):
    """The content of a response. That it was left is no end: another iterator may go on."""

    step = _READ
    __slots__ = ("_reader",)

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def begun(self) -> Take | None:
        return None if self._reader.reads_raw else self._take

    def _take(self, piece: str | bytes) -> None:
        response: Any = self._reader.observer.response()
        encoding = getattr(response, "encoding", None) or "utf-8"
        self._reader.add(piece if isinstance(piece, bytes) else piece.encode(encoding, "surrogateescape"))

    def completed(self) -> None:
        self._reader.completed()

    def failed(self, error: BaseException) -> None:
        self._reader.observer.failed(error)


def _opened(_args: object, request: Any, _kwargs: object) -> RequestsCall | None:
    """Start the call of a request; return None if it is none, or is sent within a call."""
    if request.method != "POST":
        return None
    url = url_of(request.url)
    if not wires.are_of(url.sent_path, url.host):
        return None
    body = getattr(request, "body", None)
    opened = wire_calls.opened(SentRequest(request.method, request.url, request.headers, body), RequestsCall)
    if not isinstance(opened, RequestsCall):
        return None
    opened.body = body
    return opened


def _attempted(_args: object, _: object, kwargs: dict[str, Any]) -> RequestsCall | None:
    """Record the start of an attempt; return None for requests of others, also below a call."""
    opened = CURRENT_CALL.get()
    if type(opened) is not RequestsCall or not opened.is_sending or kwargs.get("body") is not opened.body:
        return None
    attempts = opened.call.attempts
    if attempts.is_over:
        attempts.started(request=attempts.request)
    return opened


def _received(opened: RequestsCall, answer: Any) -> None:
    """Record the end of an attempt. A redirect is none."""
    if not _FIRST_REDIRECT <= answer.status < FIRST_ERROR:
        opened.call.attempts.headers_received(answer.status, relevant_text_headers(answer.headers))


def _attempt_failed(opened: RequestsCall, error: BaseException) -> None:
    opened.call.attempts.failed(error)


def _reader_of(args: tuple[Any, ...], _: object, __: object) -> _Reader | None:
    reader = RAW_BODIES.get(args[0].raw)
    return reader if isinstance(reader, _Reader) and not reader.is_passive else None


def _watched_content(reader: _Reader, pieces: Any) -> Any:
    content = watched(pieces, _Content(reader))
    if content is not pieces:
        reader.observer.reader = weakref.ref(content)
    return content


SEND: Final = HookSteps(
    step=_SEND, before=_opened, enter=OpenCall.enter, on_return=RequestsCall.answered, on_error=RequestsCall.fail,
    on_failure=OpenCall.abandon,
)  # fmt: skip
"""Observes requests that are calls, around `Session.send`."""
ATTEMPT: Final = HookSteps(step=_ATTEMPT, before=_attempted, on_return=_received, on_error=_attempt_failed)
"""Observes the attempts of such a call, around `HTTPConnectionPool._make_request` of urllib3."""
ITERATE: Final = HookSteps(step=_READ, before=_reader_of, on_return=_watched_content)
"""Observes the content of an open answer, around `Response.iter_content`."""
