"""A server on loopback that plays its part of websockets, and what the application receives of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.mode import Mode


class Part:
    """What a server sends: an event, `"recv"` (it waits for a message), `"drop"` or `"close"`."""

    def __init__(self, script: list[Any]) -> None:
        self.received: list[Any] = []
        self.url = ""
        self.path = ""
        self.done = threading.Event()
        self._script = script

    def play(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        self.path = connection.request.path
        try:
            for step in self._script:
                if step == "recv":
                    self.received.append(connection.recv())
                elif step == "drop":
                    connection.socket.shutdown(socket.SHUT_RDWR)
                elif step == "close":
                    connection.close()
                else:
                    connection.send(step if isinstance(step, str | bytes) else json.dumps(step, separators=(",", ":")))
            while "close" not in self._script and "drop" not in self._script:
                self.received.append(connection.recv())
        except ConnectionClosed as closed:
            self.received.append(type(closed).__name__)
        finally:
            self.done.set()


@contextmanager
def serving(script: list[Any]) -> Iterator[Part]:
    """A server that plays a script to each connection."""
    from websockets.sync.server import serve

    part = Part(script)
    with serve(part.play, "127.0.0.1", 0, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        part.url = f"http://127.0.0.1:{server.socket.getsockname()[1]}/v1"
        try:
            yield part
        finally:
            server.shutdown()
            thread.join()


async def next_of(mode: Mode, connection: Any) -> Any:
    """The next message, or the exception where the connection is closed."""
    from websockets.exceptions import ConnectionClosed

    try:
        return await mode.wait(connection.recv_bytes())
    except ConnectionClosed as error:
        return type(error).__name__, str(error)
