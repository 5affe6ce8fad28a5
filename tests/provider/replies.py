"""Replies with what only the wider provider can do: unanswered requests of batches, steering over a websocket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from callspan import testing


@dataclass(frozen=True, kw_only=True)
class Reply(testing.Reply):
    """A reply of the wider provider."""

    in_batch: Literal["expired", "canceled"] | None = None
    """Of a request of a batch: why it got no answer. None: it got this one."""
    steer_after: int | None = None
    """Over a websocket: send so many events, then wait until the client steers this response."""


def in_batch(reply: testing.Reply) -> str | None:
    """Return why a request of a batch got no answer."""
    return reply.in_batch if isinstance(reply, Reply) else None


def steer_after(reply: testing.Reply) -> int | None:
    """Return after how many events a response waits for steering."""
    return reply.steer_after if isinstance(reply, Reply) else None
