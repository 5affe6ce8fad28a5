"""Table of the hooks of HTTP libraries, which see the attempts of calls and the ends of their responses."""

from __future__ import annotations

from typing import Final

from callspan.intercept.hook_rows import Hook, both
from callspan.intercept.http_libraries import own_spans, raw, sends, urllib3_bodies

_HTTP: Final = ("httpx2", "httpx")
LIBRARIES: Final = (*_HTTP, "mistralai")
"""The HTTP libraries, and an SDK above them that traces itself."""
_BODY: Final = ("urllib3.response:HTTPResponse",)


def _of_http(owner: str) -> tuple[str, ...]:
    return tuple(f"{library}:{owner}" for library in _HTTP)


HOOKS: Final[tuple[Hook, ...]] = (
    *both(
        "{a}close", _of_http("Response"), sends.CLOSE.around,
        "early closes of {sync} streams; they end when collected", awaits=True,
    ),
    *both(
        "{a}iter_bytes", _of_http("Response"), raw.BYTES.around, "content of {sync} streaming raw responses",
    ),
    *both(
        "send", _of_http("{Async}Client"), sends.calls_and_attempts, "attempts of {sync} calls", awaits=True,
        reads={"request": 1},
    ),
    Hook(
        "before_request", ("mistralai.client._hooks.tracing:TracingHook", "mistralai._hooks.tracing:TracingHook"),
        own_spans.without_span, "one span per call where mistralai traces itself: there are two", reads={"request": 2},
    ),
    Hook("read", _BODY, urllib3_bodies.READ.around, "content of answers that are read as they come"),
    Hook("read1", _BODY, urllib3_bodies.READ_PART.around, "the same, read as its bytes arrive", with_="read1"),
    Hook(
        "read_chunked", _BODY, urllib3_bodies.ITERATE.around, "the same, iterated if it is chunked",
        with_="read_chunked",
    ),
)  # fmt: skip
