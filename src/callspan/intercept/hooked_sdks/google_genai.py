"""google-genai: observes the requests of its client, below its loops and above its four HTTP libraries.

`BaseApiClient._request` sends each request of `models`, `chats`, `caches` and the rest, with its retries. Its result
parses the chunks of a stream in `segments` or `async_segments`, whatever library reads the bytes. Nothing is sent
before a stream is iterated. The SDK then makes an object of each answer and chunk, in the same context and before
anything else.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from functools import lru_cache, partial, update_wrapper
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from opentelemetry import context as otel_context

from callspan.agent.call_ids import remember_result
from callspan.errors import outcome_of, qualified_name
from callspan.intercept.foreign_objects import StateByObject
from callspan.intercept.hooks import HOOK_CONTEXT, NOTHING_READ, Function, HookSteps, Reads
from callspan.intercept.iteration import Take, Watch, watched
from callspan.intercept.open_call import OpenCall
from callspan.intercept.responses import CURRENT_CALL, parsing_error, send_trace
from callspan.intercept.sdk_versions import sdk_of
from callspan.observe.call import Call
from callspan.observe.factory import CallInfo
from callspan.observe.later import BatchResults
from callspan.providers import registry, wires
from callspan.providers.batches import inline_results
from callspan.providers.error_kinds import error_in, error_info, known_base
from callspan.providers.hosts import port_of
from callspan.providers.rate_limits import relevant_text_headers
from callspan.providers.wire_json import integer
from callspan.record.call import ErrorInfo
from callspan.record.codec import encode_json
from callspan.record.ids import CallIdCell
from callspan.runtime.fail_open import fail_open
from callspan.sdk_profiles import PROFILES

_OPEN: Final = fail_open("observe a request of google-genai")
_BODY: Final = fail_open("read the body of a request of google-genai")
_ATTEMPT: Final = fail_open("observe an attempt of google-genai")
_STREAM: Final = fail_open("observe a stream of google-genai")
_OBJECT: Final = fail_open("note the call of an answer of google-genai")
_RESULTS: Final = fail_open("read the results of a batch of google-genai")
_FILE: Final = re.compile("files/([^/:?]+):download")
_PROFILE: Final = PROFILES["google"]
VERTEX: Final = "gcp.vertex_ai"
_ERRORS: Final = "google.genai.errors"
_STREAM_AT: Final = 3
"""Position of `stream` in the arguments of `_request`, after the client, the request and its options."""
_OK: Final = 200
_MAX_URLS: Final = 128
_OF_SOCKETS: Final = "Live"
"""What the names of the classes begin with that are made of no answer to a request."""
_ANSWERED: Final[ContextVar[CallIdCell | None]] = ContextVar("callspan_google_answered", default=None)
"""The call of the answer or chunk that the SDK makes an object of next."""


class _Address(NamedTuple):
    """What is read from the URL of a request."""

    path: str
    host: str | None
    port: int | None


ANSWERS: Final[StateByObject[Call]] = StateByObject()
"""The calls of answers that are read in segments."""


class GoogleCall(OpenCall):
    """A call while `_request` runs."""

    __slots__ = ()
    is_sent_by_http_library = False

    def answered(self, answer: Any) -> None:
        """End a plain call, or observe the segments of a stream."""
        self.leave()
        call, body = self.call, answer.response_stream
        if call.streaming and not isinstance(body, list):
            return
        content = body[0] if isinstance(body, list) and body else None
        decoded = registry.decoded(content) if isinstance(content, str) else None
        if not content or isinstance(decoded, dict):  # the SDK raises for any other content
            _ANSWERED.set(call.id_cell)
        if isinstance(call, BatchResults):
            _read_batch(call, decoded)
            return
        call.set_streaming(False)
        call.take_body(decoded)
        error = None if decoded is not None or not isinstance(content, str) else parsing_error(content.encode())
        call.end(how=None, error=error)

    def fail(self, error: BaseException) -> None:
        """End the call with the exception that `_request` raises, or with an interrupt. May be repeated."""
        self.leave()
        with _OPEN:
            info = _error(error)
            if info is None:
                self.call.fail(error, in_stream=False)
            else:
                self.call.end(None, outcome_of(error, info), info)


def _read_batch(results: BatchResults, content: object) -> None:
    """Record the results that a batch states itself."""
    for line in inline_results(content):
        results.byte_reader.add(line + b"\n")
    results.end()


def _downloading(args: tuple[Any, ...], path: object, kwargs: dict[str, Any]) -> BatchResults | None:
    """Start to read a file; return None for one that goes to a place of the application."""
    factory, match = HOOK_CONTEXT.factory(), _FILE.search(path) if isinstance(path, str) else None
    if factory is None or match is None or kwargs.get("destination") is not None:
        return None
    base = getattr(getattr(args[0], "_http_options", None), "base_url", None)
    info = _info(args[0], _address(base if isinstance(base, str) else ""), None, stream=False)
    return BatchResults(factory, info, otel_context.get_current(), owner=match[1])


def _downloaded(results: BatchResults, content: object) -> None:
    """Record the results in a file; other files do not begin with an object."""
    if isinstance(content, bytes) and content.startswith(b"{"):
        results.byte_reader.add(content)
    results.end()


def _streaming_call(args: tuple[Any, ...], _: object, __: object) -> Call | None:
    call = ANSWERS.get(args[0])
    return None if call is None or call.ended else call


def _with_segments(call: Call, segments: Any) -> Any:
    """Return an iterator over the same segments that reports each, and their end."""
    return watched(segments, _Segments(call))


def _error(error: BaseException) -> ErrorInfo | None:
    """Return the error of an answer with an error status; None if an exception states no status."""
    status = _status(error)
    if status is None:
        return None
    kind, message = type(error), getattr(error, "message", None)
    return error_info(
        status=status, body=getattr(error, "details", None), exception=qualified_name(kind), base=known_base(kind),
        message=message if isinstance(message, str) else None,
    )  # fmt: skip


def _status(error: BaseException) -> int | None:
    """Return the status of an error of the SDK; in errors of its HTTP libraries it may mean something else."""
    if not any(base.__module__ == _ERRORS for base in type(error).__mro__):
        return None
    code = getattr(error, "code", None)
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _opened(args: tuple[Any, ...], request: Any, kwargs: dict[str, Any]) -> GoogleCall | None:
    """Start a call; return None for a request that is no call, or must not be observed."""
    context = otel_context.get_current()
    factory = HOOK_CONTEXT.factory()
    if _ANSWERED.get() is not None:  # a set allocates, a look does not
        _ANSWERED.set(None)
    if factory is None:
        return None
    url = _address(request.url)
    if (batch := wires.batch_in(request.method, url.path)) is not None:
        info = _info(args[0], url, None, stream=False)
        return GoogleCall(BatchResults(factory, info, context, owner=batch), context, inject=HOOK_CONTEXT.propagate)
    wire = wires.find(request.method, url.path)
    endpoint = None if wire is None else registry.by_api(wire.api)
    if wire is None or endpoint is None:
        _count(request.method, url.path)
        return None
    if not HOOK_CONTEXT.warned_about_other_tracers:
        HOOK_CONTEXT.warn_about_other_tracers()
    stream = kwargs["stream"] if "stream" in kwargs else len(args) > _STREAM_AT and args[_STREAM_AT]
    call = Call(factory, endpoint, _info(args[0], url, wire.model, stream=bool(stream)), alone=not context)
    with _BODY:  # whatever it raises, the request has its call
        call.sent(None, request.data if isinstance(request.data, dict) else registry.decoded(request.data or b""))
    return GoogleCall(call, context, inject=HOOK_CONTEXT.propagate)


@lru_cache(maxsize=_MAX_URLS)
def _address(url: str) -> _Address:
    """Return where a request goes. Cached, because nearly all requests of a process go to the same models."""
    split = urlsplit(url)
    return _Address(split.path, split.hostname, port_of(split.scheme, split.port))


def _info(client: object, url: _Address, model: str | None, *, stream: bool) -> CallInfo:
    return CallInfo(
        provider=VERTEX if getattr(client, "vertexai", False) else _PROFILE.provider,
        sdk=sdk_of(_PROFILE.distribution), server_address=url.host, server_port=url.port, model=model, stream=stream,
    )  # fmt: skip


def _count(method: str, path: str) -> None:
    """Count a request that costs money and leaves no record, unless the hook of its HTTP library does."""
    request = None if HOOK_CONTEXT.http_calls else wires.unrecorded(method, path)
    if request is not None:
        HOOK_CONTEXT.unrecorded(f"POST {request.name}")


def _attempted(_args: object, request: Any, _kwargs: object) -> GoogleCall | None:
    """Record the start of an attempt; return None outside of a call."""
    opened = CURRENT_CALL.get()
    if not isinstance(opened, GoogleCall):
        return None
    opened.call.attempts.started(request=request)
    if opened.inject:
        request.headers = dict(request.headers)  # they may be the client's
        send_trace(opened, request.headers)
    return opened


def _received(opened: GoogleCall, answer: Any) -> None:
    call = opened.call
    call.attempts.headers_received(_OK, relevant_text_headers(answer.headers))
    if call.streaming and not isinstance(answer.response_stream, list):
        ANSWERS.put(answer, call, call.lost)


def _failed(opened: GoogleCall, error: BaseException) -> None:
    status = _status(error)
    if status is None:
        opened.call.attempts.failed(error)
        return
    response, details = getattr(error, "response", None), getattr(error, "details", None)
    headers = relevant_text_headers(getattr(response, "headers", None))
    opened.call.attempts.headers_received(status, headers, partial(encode_json, details))


class _Segments(Watch):
    """The chunks of a stream."""

    step = _STREAM
    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def begun(self) -> Take:
        return self._take

    def _take(self, segment: object) -> None:
        """Record a chunk. The SDK raises an error that is stated in a chunk above the reader of the segments."""
        call = self._call
        call.chunk(segment)
        if not isinstance(segment, dict):
            return
        if "error" not in segment:
            _ANSWERED.set(call.id_cell)
        elif (stated := error_in(segment)) is not None:
            call.end("error", error=error_info(status=integer(stated, "code"), body={"error": stated}))

    def completed(self) -> None:
        _ANSWERED.set(None)
        self._call.end()

    def failed(self, error: BaseException) -> None:
        _ANSWERED.set(None)
        self._call.fail(error)

    def lost(self) -> None:
        self._call.lost()


def noting_objects(original: Function, reads: Reads = NOTHING_READ, *, is_async: bool = False) -> Function:
    """Return a function that does the same as `BaseModel._from_response`, and notes the call of an answer or chunk.

    One function instead of the steps of a hook, because it runs for each chunk.
    """
    del reads, is_async
    answered, set_answered = _ANSWERED.get, _ANSWERED.set

    def hooked(*args: Any, **kwargs: Any) -> Any:
        id_cell = answered()
        # An answer that the SDK has failed to convert may still stand there when it reads a message of a socket.
        if id_cell is None or args[0].__name__.startswith(_OF_SOCKETS):
            return original(*args, **kwargs)
        set_answered(None)
        result = original(*args, **kwargs)
        try:
            remember_result(result, id_cell)
        except Exception as error:
            _OBJECT.report(error)
        return result

    return update_wrapper(hooked, original)


DOWNLOAD: Final = HookSteps(
    step=_RESULTS, before=_downloading, on_return=_downloaded,
    on_error=lambda results, error: results.fail(error, in_stream=False),
)  # fmt: skip
"""Observes files with the results of a batch around `BaseApiClient.download_file` and `async_download_file`."""
REQUEST: Final = HookSteps(
    step=_OPEN, before=_opened, enter=OpenCall.enter, on_return=GoogleCall.answered, on_error=GoogleCall.fail,
    on_failure=OpenCall.abandon,
)  # fmt: skip
"""Observes calls around `BaseApiClient._request` and `_async_request`."""
SEGMENTS: Final = HookSteps(step=_STREAM, before=_streaming_call, on_return=_with_segments)
"""Observes the chunks of a stream, around `HttpResponse.segments` and `async_segments`."""
ATTEMPT: Final = HookSteps(step=_ATTEMPT, before=_attempted, on_return=_received, on_error=_failed)
"""Observes attempts around `_request_once` and `_async_request_once`."""
