"""Answers made from the state of a provider, without the wire of an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Protocol

from callspan.testing import ReceivedRequest, Reply
from callspan.testing.provider.answer import Answer
from callspan.testing.provider.rendering import Rendering, family_of, render
from callspan.testing.provider.script import Json


class Scripted(Protocol):
    """Takes the next reply that is scripted for a request."""

    def __call__(self, request: ReceivedRequest, *, inference: bool) -> Reply:
        """Return the reply; the usual one if there is none."""


def render_stateful(request: ReceivedRequest, reply: Reply, make: Callable[[], Json | None]) -> Rendering:
    """What is scripted, else the body that `make` returns; None: there is no such object."""
    answer = Answer(request, reply, family_of(request, None).request_id(), {})
    if reply.status >= HTTPStatus.BAD_REQUEST or reply.raw is not None:
        return render(answer, None)
    made = make()
    if made is None:
        return render(answer, None)
    return render(replace(answer, reply=replace(reply, raw=made, json_where_sse_due=True)), None)
