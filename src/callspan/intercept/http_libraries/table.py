"""Table of the hooks of HTTP libraries, which see the attempts of calls and the ends of their responses."""

from __future__ import annotations

from typing import Final

from callspan.intercept.hook_rows import Hook, both
from callspan.intercept.http_libraries import raw, sends

LIBRARIES: Final = ("httpx2", "httpx")


def _of_http(owner: str) -> tuple[str, ...]:
    return tuple(f"{library}:{owner}" for library in LIBRARIES)


HOOKS: Final[tuple[Hook, ...]] = (
    *both(
        "{a}close", _of_http("Response"), sends.CLOSE.around,
        "early closes of {sync} streams; they end when collected", awaits=True,
    ),
    *both(
        "{a}iter_bytes", _of_http("Response"), raw.BYTES.around, "content of {sync} streaming raw responses",
    ),
    *both(
        "send", _of_http("{Async}Client"), sends.SEND.around, "attempts of {sync} calls", awaits=True,
        reads={"request": 1},
    ),
)  # fmt: skip
