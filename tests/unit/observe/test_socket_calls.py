"""What is received while a create is being sent waits, however the sending ends."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.frames import FRAMES
from callspan.observe.socket_calls import Create, Sending, SocketCalls

FRAME = {"type": "response.create", "stream_id": "a", "model": "m", "input": "Hi"}
CREATED = '{"type": "response.created", "stream_id": "a", "response": {"id": "r"}}'


@pytest.mark.parametrize("is_begun", [True, False])
def test_a_sending_that_an_interrupt_ends_lets_what_is_received_go_on(is_begun: bool) -> None:
    begun: list[dict[str, Any]] = []
    calls = SocketCalls(lambda _, body: begun.append(body))
    create = Create(dict(FRAME))
    sending: Sending | None = Sending(create, calls.read)
    FRAMES.put(calls.read, create)
    FRAMES.put(calls.read, CREATED)
    assert FRAMES.drain(5)
    assert (begun, len(calls._held)) == ([], 2)
    create.is_begun = is_begun
    del sending
    assert FRAMES.drain(5)
    assert len(calls._held) == 0
    # Begun by the thread if it was not where it was sent; the event pairs with it, and begins no successor.
    assert begun == ([] if is_begun else [{"model": "m", "input": "Hi"}])


def test_what_was_not_sent_begins_nothing() -> None:
    begun: list[dict[str, Any]] = []
    calls = SocketCalls(lambda _, body: begun.append(body))
    create = Create(dict(FRAME))
    create.is_sent, create.is_done = False, True
    FRAMES.put(calls.read, create)
    assert FRAMES.drain(5)
    assert (begun, list(calls._lanes.open())) == ([], [])
