"""Live: that something was written, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from callspan.view.source import StoreSource

_POLL_S: Final = 0.4
_QUIET_POLLS: Final = 38
"""After so many polls without news the browser learns that the server is there."""


async def events(source: StoreSource, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield `wrote` at first and after each write, and `failed` with an error, until the server ends."""
    seen, failed, quiet = "", "", 0
    while not ended():
        try:
            version = await source.version()
            if failed or version != seen:
                yield _event("wrote")
                seen, failed, quiet = version, "", 0
        except source.access.errors() as error:
            message = source.access.error_text(error)
            if message != failed:
                yield _event("failed", error=message)
            failed = message
        quiet += 1
        if quiet > _QUIET_POLLS:
            quiet = 0
            yield b": here\n\n"
        await asyncio.sleep(_POLL_S)


def _event(name: str, **values: str) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(values))
