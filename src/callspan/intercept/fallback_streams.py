"""Streams of the anthropic SDK's fallback middleware: its later requests belong to the call whose stream is read.

Where a stream ends in a refusal, the middleware asks the next model, in the middle of the caller's reading, and puts
both answers into one stream. It reads them through a generator, which runs here in the context of the call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any, Final, Protocol

from callspan import private_names as names
from callspan.fail_open import fail_open

_FOLLOW: Final = fail_open("observe the requests of a fallback middleware")
_SYNC: Final = "_FrameByteStream"
_ASYNC: Final = "_AsyncFrameByteStream"


class Opened(Protocol):
    """The call whose stream is read."""

    reads_hops: bool
    """While True, responses that arrive are not those of the caller."""

    def enter(self) -> None:
        """Make the call current."""

    def pause(self) -> None:
        """Undo `enter`."""


def follow(opened: Opened, response: Any) -> None:  # noqa: ANN401 - httpx2
    """Have what a spliced response sends while it is read belong to the call; nothing for any other response."""
    with _FOLLOW:
        stream = getattr(response, "stream", None)
        kind = type(stream).__name__
        if kind not in (_SYNC, _ASYNC):
            return
        frames = getattr(stream, names.FRAMES.name, None)
        if frames is not None:
            within = _within(opened, frames) if kind == _SYNC else _within_async(opened, frames)
            setattr(stream, names.FRAMES.name, within)


def _within(opened: Opened, frames: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    try:
        while True:
            _begin(opened)
            try:
                frame = next(frames, None)
            finally:
                _end(opened)
            if frame is None:
                return
            yield frame
    finally:
        frames.close()


async def _within_async(opened: Opened, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        while True:
            _begin(opened)
            try:
                frame = await anext(frames, None)
            finally:
                _end(opened)
            if frame is None:
                return
            yield frame
    finally:
        await frames.aclose()


def _begin(opened: Opened) -> None:
    opened.reads_hops = True
    opened.enter()


def _end(opened: Opened) -> None:
    opened.pause()
    opened.reads_hops = False
