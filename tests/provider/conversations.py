"""Conversation state of the scripted provider: the responses and conversations that later requests continue.

Wire reference: https://platform.openai.com/docs/guides/conversation-state and
https://platform.openai.com/docs/api-reference/conversations
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus

from callspan.testing import ReceivedRequest, Reply
from callspan.testing.provider.answer import encode, objects
from callspan.testing.provider.openai_responses import RESPONSES, conversation_id
from callspan.testing.provider.rendering import Rendering, Route
from callspan.testing.provider.script import Json
from callspan.testing.provider.stored_responses import StoredResponses
from tests.provider.pages import page
from tests.provider.stateful import Scripted, render_stateful

_PATH = re.compile(r"/v1/conversations(?:/(?P<named>[^/]+)(?P<items>/items)?)?$")
_RESPONSE = re.compile(r"/responses/(?P<id>[^/]+)$")
_FIRST_ID = re.compile(rb'"id"\s*:\s*"([^"]+)"')


@dataclass
class _Conversation:
    """A conversation: items that are added by requests about it, and by the responses in it."""

    metadata: object
    id: str = field(default_factory=lambda: f"conv_{secrets.token_hex(25)}")
    created_s: int = field(default_factory=lambda: int(time.time()))
    items: dict[str, Json] = field(default_factory=dict)

    def add(self, items: object) -> None:
        """Add the input or the output of a response."""
        sent = [{"role": "user", "content": items}] if isinstance(items, str) else objects(items)
        self.items.update({str(item["id"]): item for item in map(_item, sent)})

    def json(self) -> Json:
        """The conversation as its endpoint returns it."""
        return {"id": self.id, "object": "conversation", "created_at": self.created_s, "metadata": self.metadata}

    def page(self, query: Mapping[str, str]) -> Json:
        """Items in the requested order, newest first by default."""
        listed = [*self.items.values()]
        if query.get("order") != "asc":
            listed.reverse()
        return page(listed, query)


class Conversations:
    """What later requests can continue. Safe from any thread."""

    def __init__(self, responses: StoredResponses) -> None:
        self._responses = responses
        self._conversations: dict[str, _Conversation] = {}
        self._kept: set[str] = set()
        """The ids of the responses that can be continued."""
        self._lock = threading.RLock()

    def rendering(self, request: ReceivedRequest, take: Scripted) -> Rendering | None:
        """Return the rendering for a request about conversations, or one that deletes a response; None for any other.

        What is scripted for its path wins.
        """
        path = _PATH.search(request.path)
        deleted = _RESPONSE.search(request.path) if request.method == "DELETE" else None
        if path is None and deleted is None:
            return None
        return render_stateful(request, take(request, inference=False), partial(self._body, request, path, deleted))

    def refusal(self, request: ReceivedRequest, route: Route | None) -> Reply | None:
        """Return the error for a request that continues a missing object; None for any other."""
        if route is None or route.wire is not RESPONSES or request.method not in ("POST", "WEBSOCKET"):
            return None
        previous = request.body.get("previous_response_id")
        if not isinstance(previous, str) or previous in self._kept:
            return None
        message = f"Previous response with id '{previous}' not found."
        error = {"type": "invalid_request_error", "param": "previous_response_id", "message": message}
        return Reply(status=400, raw={"error": {**error, "code": "previous_response_not_found"}})

    def add(self, request: ReceivedRequest, route: Route | None, rendering: Rendering) -> None:
        """Keep what later requests may continue of a sent body."""
        if route is None or route.wire is not RESPONSES or rendering.status >= HTTPStatus.BAD_REQUEST:
            return
        with self._lock:
            body, sent, response_id = rendering.json or {}, request.body, _id(rendering)
            if response_id is not None and sent.get("store") is not False:
                self._kept.add(response_id)
            conversation = self._conversations.get(conversation_id(sent) or "")
            if body.get("object") == "response" and conversation is not None:
                conversation.add(sent.get("input"))
                conversation.add(body.get("output"))

    def _deleted(self, response_id: str) -> Json | None:
        self._kept.discard(response_id)
        known = self._responses.delete(response_id)
        return None if not known else {"id": response_id, "object": "response", "deleted": True}

    def _body(self, request: ReceivedRequest, path: re.Match[str] | None, deleted: re.Match[str] | None) -> Json | None:
        with self._lock:
            if path is not None:
                return self._of_conversations(request, **path.groupdict())
            return None if deleted is None else self._deleted(deleted["id"])

    def _of_conversations(self, request: ReceivedRequest, *, named: str | None, items: str | None) -> Json | None:
        """The answer to a request that makes a conversation or lists its items; None: there is no such conversation."""
        if named is None:
            made = _Conversation(request.body.get("metadata") or {})
            self._conversations[made.id] = made
            return made.json()
        of = self._conversations.get(named)
        return None if of is None or items is None else of.page(request.query)


def _item(sent: Json) -> Json:
    """An item as conversations list it: with an id, and a message with its content in parts."""
    item = {"id": f"item_{secrets.token_hex(25)}", "type": "message", "status": "completed", **sent}
    if isinstance(item.get("content"), str):
        output_text: Json = {"type": "output_text", "annotations": [], "logprobs": []}
        kind = output_text if item.get("role") == "assistant" else {"type": "input_text"}
        item["content"] = [{**kind, "text": item["content"]}]
    return item


def _id(rendering: Rendering) -> str | None:
    """The id of a response; that of a raw answer is the first in it."""
    if rendering.json is not None:
        return str(rendering.json.get("id"))
    found = _FIRST_ID.search(rendering.body or encode([event.data for event in rendering.events or ()]))
    return found[1].decode() if found else None
