"""Websockets of openai: an application with a client of either colour, and a server that plays its part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from operator import attrgetter
from typing import Any

import pytest
from tests.support import sdks
from tests.support.mode import Mode
from tests.support.socket_script import exceptions, serving

from callspan.records import CallRecord
from callspan.testing import Capture

sdks.needs("openai", "2.30", "responses.connect")
ConnectionClosed: type[Exception] = exceptions.ConnectionClosed
ENDS = ("response.completed", "response.failed", "response.incomplete", "error")


async def next_of(mode: Mode, connection: Any) -> Any:
    """The next message, or the exception where the connection is closed."""
    try:
        return await mode.wait(connection.recv_bytes())
    except ConnectionClosed as error:
        return type(error).__name__, str(error)


class Socket:
    """An open connection of either colour."""

    def __init__(self, mode: Mode, connection: Any, part: Any = None) -> None:
        self.mode = mode
        self.connection = connection
        self.part = part
        """That of the server, if it plays a script."""

    async def create(self, **fields: Any) -> None:
        await self.send({"type": "response.create", "model": "gpt-5", "input": "Hi", **fields})

    async def send(self, frame: dict[str, Any]) -> None:
        await self.mode.wait(self.connection.send(frame))

    async def recv(self) -> Any:
        return await self.mode.wait(self.connection.recv())

    async def until(self, *kinds: str) -> list[Any]:
        """The events up to the first of these types, by default up to the end of a response."""
        events: list[Any] = []
        while not events or events[-1].type not in (kinds or ENDS):
            events.append(await self.recv())
        return events


@asynccontextmanager
async def connected(
    mode: Mode, surface: str = "responses.connect", script: list[Any] | None = None, *, url: str | None = None,
    client: Any = None, **options: Any,
) -> AsyncIterator[Socket]:  # fmt: skip
    """A session with the scripted provider, with a server that plays a script or has this URL, or of this client."""
    with nullcontext() if script is None else serving(script) as part:
        url = url if part is None else part.url
        urls = {} if url is None else {"base_url": url, "websocket_base_url": url.replace("http", "ws")}
        connect = attrgetter(surface)(client or mode.openai(**urls))
        async with mode.entered(connect(**options)) as connection:
            yield Socket(mode, connection, part)


async def listened(
    mode: Mode, surface: str, script: list[Any], *lasts: str, sends: Iterable[dict[str, Any]] = (), **options: Any
) -> None:
    """Send these frames to a server that plays a script, and listen up to each of its events in turn."""
    async with connected(mode, surface, script, **options) as socket:
        for frame in sends:
            await socket.send(frame)
        for last in lasts:
            await socket.until(last)


def by_api(seen: Capture, api: str = "realtime") -> list[CallRecord]:
    """The calls of an API, by their beginning."""
    found = [record for record in seen.records if record.api == api]
    return sorted(found, key=lambda record: record.timing.start_ns)


def needs_queue(manager: Any) -> None:
    """Skip the test where this version of the SDK queues no messages."""
    if not hasattr(manager, "send"):
        pytest.skip("this openai queues no messages for a websocket")
