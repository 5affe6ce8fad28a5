"""Stored responses: the scripted provider's responses, to be fetched by id. Background responses end later."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http import HTTPStatus

from callspan.testing.provider.answer import Answer
from callspan.testing.provider.openai_responses import RESPONSES, StoredResponse, webhook
from callspan.testing.provider.rendering import Rendering, Route, render
from callspan.testing.provider.script import Json


class StoredResponses:
    """The responses of a provider by id. Thread-safe."""

    def __init__(self) -> None:
        self._responses: dict[str, StoredResponse] = {}
        self._lock = threading.Lock()

    def fetched(self, answer: Answer) -> Json | None:
        """Fetch or cancel the response that a request names; return its new state, None for an unknown id."""
        request = answer.request
        with self._lock:
            stored = self._responses.get(answer.path_params.get("id", ""))
            if stored is None:
                return None
            if request.method == "POST":
                return stored.cancel()
            return stored.end() if request.stream else stored.fetched()

    def add(self, answer: Answer, route: Route | None, rendering: Rendering) -> Rendering:
        """Store a rendered response; return the rendering to send, which is `queued` for a background response."""
        body = rendering.json or {}
        if route is None or route.wire is not RESPONSES or rendering.status >= HTTPStatus.BAD_REQUEST:
            return rendering
        if body.get("object") != "response":
            return rendering
        stored = StoredResponse(body, answer.reply.polls)
        with self._lock:
            self._responses[stored.id] = stored
        if rendering.events is None and body.get("background") is True and answer.reply.raw is None:
            return render(answer, route, stored.queued())
        return rendering

    def webhook(self, response_id: str, secret: str) -> tuple[str, Mapping[str, str]]:
        """End a response; return the payload and headers of the webhook that reports its end.

        Raises KeyError for an unknown id.
        """
        with self._lock:
            body = self._responses[response_id].end()
        return webhook(body, secret)
