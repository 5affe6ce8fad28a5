"""Calls made of the bodies of a request and its answer, as a provider sends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from callspan.providers.anthropic.messages import Messages
from callspan.providers.base import Endpoint
from callspan.providers.openai.chat import ChatCompletions
from callspan.providers.openai.responses import Responses
from callspan.record.content_level import without_content
from callspan.records import CallRecord, Timing

from .conftest import NOVEMBER_2026_NS

Body = Mapping[str, Any]
_ENDPOINTS: Final[dict[str, tuple[str, Endpoint]]] = {
    "messages": ("anthropic", Messages()),
    "responses": ("openai", Responses()),
    "chat_completions": ("openai", ChatCompletions()),
}


def call_of(api: str, request: Body, answer: Body | list[Body], level: str = "full", **fields: Any) -> CallRecord:
    """Return the record of one exchange, as it is kept at a content level; a list is the events of a stream."""
    provider, endpoint = _ENDPOINTS[api]
    info = endpoint.response_info(dict(answer) if isinstance(answer, Mapping) else _folded(endpoint, answer))
    given = {"provider": provider, "call_id": "c1", "api": api, "timing": Timing(start_ns=NOVEMBER_2026_NS)}
    about = {"request": endpoint.request(dict(request)), "response": info.response, "usage": info.usage}
    record = CallRecord(**(given | about | fields))
    return record if level == "full" else without_content(record, keep_outline=level == "metadata", why="content")


def _folded(endpoint: Endpoint, events: list[Body]) -> object:
    accumulator = endpoint.accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.body()
