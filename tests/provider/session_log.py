"""Session log: the events of a scripted provider's hosted session, listed in pages and streamed as they come."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator

from callspan.testing.provider.answer import StreamEvent
from callspan.testing.provider.script import Json

_POLL_S = 0.02


class SessionLog:
    """The events of one session or thread, in order. Safe from any thread."""

    def __init__(self) -> None:
        self._events: list[Json] = []
        self._streamed = 0
        self._changed = threading.Condition()

    def add(self, *events: Json) -> None:
        """Append events; streams that wait send them."""
        with self._changed:
            self._events += events
            self._changed.notify_all()

    def all(self) -> list[Json]:
        """All events so far; a copy."""
        with self._changed:
            return list(self._events)

    def skip(self) -> None:
        """Stream only events that come from now on: the client has seen the state that those before led to."""
        with self._changed:
            self._streamed = len(self._events)

    def stream(self, is_over: Callable[[], bool]) -> Iterator[StreamEvent]:
        """Yield the events that no stream has sent yet, and then those to come, until the stream is over."""
        with self._changed:
            sent = self._streamed
        while not is_over():
            with self._changed:
                if sent == len(self._events):
                    self._changed.wait(_POLL_S)
                    continue
                event = self._events[sent]
                sent += 1
                self._streamed = max(self._streamed, sent)
            yield StreamEvent(event, str(event["type"]), content=True)


def is_gone(connection: socket.socket, closing: threading.Event) -> bool:
    """Return whether the client has closed the connection, or the provider is being closed."""
    if closing.is_set():
        return True
    try:
        # Not `select.select`, which takes no descriptor above 1023.
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            return bool(selector.select(0)) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True
