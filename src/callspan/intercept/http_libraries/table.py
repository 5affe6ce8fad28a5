"""Table of the hooks of HTTP libraries, which see the attempts of calls and the ends of their responses."""

from __future__ import annotations

from typing import Final

from callspan.intercept.hook_rows import Hook, both
from callspan.intercept.http_libraries import aiohttp_calls, own_spans, raw, requests_calls, sends, urllib3_bodies

_HTTP: Final = ("httpx2", "httpx")
LIBRARIES: Final = (*_HTTP, "requests", "urllib3", "aiohttp", "mistralai")
"""The HTTP libraries, and an SDK above them that traces itself."""
_BODY: Final = ("urllib3.response:HTTPResponse",)
_STREAM: Final = ("aiohttp.streams:StreamReader",)
_ANSWER: Final = ("aiohttp.client_reqrep:ClientResponse",)


def _of_http(*owners: str) -> tuple[str, ...]:
    return tuple(f"{library}:{owner}" for library in _HTTP for owner in owners)


HOOKS: Final[tuple[Hook, ...]] = (
    *both(
        "{a}close", _of_http("Response"), sends.CLOSE.around,
        "early closes of {sync} streams; they end when collected", awaits=True,
    ),
    *both(
        "{a}iter_bytes", _of_http("Response"), raw.BYTES.around, "content of {sync} streaming raw responses",
    ),
    Hook(
        "handle_request", _of_http("HTTPTransport", "MockTransport", "WSGITransport"), sends.SENT_AGAIN,
        "attempts that the client itself repeats", reads={"request": 1},
    ),
    Hook(
        "handle_async_request", _of_http("AsyncHTTPTransport", "MockTransport", "ASGITransport"), sends.SENT_AGAIN,
        "attempts that the client itself repeats", reads={"request": 1}, is_async=True,
    ),
    *both(
        "send", _of_http("{Async}Client"), sends.calls_and_attempts, "attempts of {sync} calls", awaits=True,
        reads={"request": 1},
    ),
    Hook(
        "before_request", ("mistralai.client._hooks.tracing:TracingHook", "mistralai._hooks.tracing:TracingHook"),
        own_spans.without_span, "one span per call where mistralai traces itself: there are two", reads={"request": 2},
    ),
    Hook("send", ("requests.sessions:Session",), requests_calls.SEND.around, "all calls", reads={"request": 1}),
    Hook(
        "iter_content", ("requests.models:Response",), requests_calls.ITERATE.around,
        "errors of answers, and their content where an adapter reads it itself",
    ),
    Hook(
        "close", ("requests.models:Response",), sends.CLOSE.around, "early closes of answers; they end when collected"
    ),
    Hook(
        "_make_request", ("urllib3.connectionpool:HTTPConnectionPool",), requests_calls.ATTEMPT.around,
        "the attempts of calls by requests that its adapter repeats",
    ),
    Hook("read", _BODY, urllib3_bodies.READ.around, "content of answers that are read as they come"),
    Hook("read1", _BODY, urllib3_bodies.READ_PART.around, "the same, read as its bytes arrive", with_="read1"),
    Hook(
        "read_chunked", _BODY, urllib3_bodies.ITERATE.around, "the same, iterated if it is chunked",
        with_="read_chunked",
    ),
    Hook(
        "_request", ("aiohttp.client:ClientSession",), aiohttp_calls.SEND.around, "all calls", reads={"method": 1},
        is_public=True,
    ),
    Hook("__init__", ("aiohttp.client_reqrep:ClientRequest",), aiohttp_calls.MAKE.around, "all calls"),
    Hook("start", _ANSWER, aiohttp_calls.START, "attempts of calls that a middleware repeats", is_async=True),
    Hook("_read_nowait_chunk", _STREAM, aiohttp_calls.TAKE.around, "content of answers"),
    Hook("_read_nowait", _STREAM, aiohttp_calls.TAKE_IN_TIME.around, "time-outs while answers are read"),
    Hook("_wait", _STREAM, aiohttp_calls.WAIT.around, "errors of answers; they end when collected"),
    Hook("set_exception", _STREAM, aiohttp_calls.BREAK.around, "errors between the reads of answers", reads={"exc": 1}),
    Hook("close", _ANSWER, aiohttp_calls.CLOSE.around, "early closes of answers; they end when collected"),
    Hook("release", _ANSWER, aiohttp_calls.CLOSE.around, "early releases of answers; they end when collected"),
)  # fmt: skip
