"""A server of websockets on loopback that plays its part."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

exceptions = pytest.importorskip(
    "websockets.exceptions", reason="websockets come with openai[realtime] and google-genai"
)


class Part:
    """What a server sends: an event, `"recv"` (it waits for a message), `"drop"`, `"close"`, a code with its reason."""

    def __init__(self, script: list[Any]) -> None:
        self.received: list[Any] = []
        self.url = ""
        self.path = ""
        self.done = threading.Event()
        self._script = script

    def play(self, connection: Any) -> None:
        self.path = connection.request.path
        try:
            for step in self._script:
                if step == "recv":
                    self.received.append(connection.recv())
                elif step == "drop":
                    connection.socket.shutdown(socket.SHUT_RDWR)
                elif step == "close":
                    connection.close()
                elif isinstance(step, tuple):
                    connection.close(*step)
                else:
                    connection.send(step if isinstance(step, str | bytes) else json.dumps(step, separators=(",", ":")))
            while "close" not in self._script and "drop" not in self._script:
                self.received.append(connection.recv())
        except exceptions.ConnectionClosed as closed:
            self.received.append(type(closed).__name__)
        finally:
            self.done.set()


@contextmanager
def serving(script: list[Any]) -> Iterator[Part]:
    """A server that plays a script to each connection."""
    from websockets.sync.server import serve

    part = Part(script)
    with serve(part.play, "127.0.0.1", 0, compression=None, max_size=None) as server:
        threading.Thread(target=server.serve_forever).start()
        part.url = f"http://127.0.0.1:{server.socket.getsockname()[1]}/v1"
        yield part
