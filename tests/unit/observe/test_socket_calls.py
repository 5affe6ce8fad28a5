"""What is received while a create is being sent waits, however the sending ends."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.frames import FRAMES
from callspan.observe.socket_calls import Create, Sending, SocketCalls

FRAME = {"type": "response.create", "stream_id": "a", "model": "m", "input": "Hi"}
CREATED = '{"type": "response.created", "stream_id": "a", "response": {"id": "r"}}'


@pytest.mark.parametrize("is_sent", [True, False])
def test_a_sending_that_an_interrupt_ends_lets_what_is_received_go_on(is_sent: bool) -> None:
    begun: list[dict[str, Any]] = []
    calls = SocketCalls(lambda _, body: begun.append(body))
    create = Create(dict(FRAME))
    sending: Sending | None = Sending(create, calls.read)
    FRAMES.put(calls.read, create)
    FRAMES.put(calls.read, CREATED)
    assert FRAMES.drain(5)
    assert (begun, len(calls._held)) == ([], 2)
    create.is_sent = is_sent
    del sending
    assert FRAMES.drain(5)
    assert len(calls._held) == 0
    # The event pairs with what may have been sent; else it begins a successor.
    assert begun == ([] if is_sent else [{}])
