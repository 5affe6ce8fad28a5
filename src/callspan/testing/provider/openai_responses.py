"""The Responses API, as bodies and events, with background responses and their webhooks.

Wire reference: https://platform.openai.com/docs/api-reference/responses and
https://platform.openai.com/docs/guides/background
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count

from callspan.testing.provider.answer import (
    FINISH_REASONS,
    OPENAI,
    Answer,
    ErrorAnswer,
    StreamEvent,
    Wire,
    base62,
    encode,
    fragments,
    member,
    objects,
    tool_calls,
    typed,
    with_usage,
    words,
)
from callspan.testing.provider.script import Choice, Json, Reply

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

_ECHOED: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
    "metadata": {},
}
"""Fields that a response repeats from its request, with their defaults."""
_WAITING: Json = {"error": None, "incomplete_details": None, "output": [], "usage": None, "completed_at": None}
_SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix
EMPTY_ITEM: dict[str, Json] = {
    "message": {"status": "in_progress", "content": []},
    "reasoning": {"summary": []},
    "function_call": {"status": "in_progress", "arguments": ""},
}
"""The fields of an item when it is added."""


def _item_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(25)}"


def _content(choice: Choice) -> list[Json]:
    parts: list[Json] = []
    if choice.text is not None:
        parts.append({"type": "output_text", "annotations": [], "logprobs": [], "text": choice.text})
    if choice.refusal is not None:
        parts.append({"type": "refusal", "refusal": choice.refusal})
    return parts


def _reasoning(text: str, request: Json) -> Json:
    item = {"id": _item_id("rs"), "type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}
    include = request.get("include")
    requested = isinstance(include, list) and "reasoning.encrypted_content" in include
    return {**item, "encrypted_content": base62(64)} if requested else item


def _output(choice: Choice, request: Json) -> list[Json]:
    items: list[Json] = []
    if choice.reasoning is not None:
        items.append(_reasoning(choice.reasoning, request))
    if content := _content(choice):
        message = {"type": "message", "status": "completed", "content": content, "role": "assistant"}
        items.append({"id": _item_id("msg"), **message})
    for call in tool_calls(choice, lambda: f"call_{base62(24)}"):
        body = {"type": "function_call", "status": "completed", "arguments": call.arguments}
        items.append({"id": _item_id("fc"), **body, "call_id": call.id, "name": call.name})
    return items


def _is_warm_up(request: Json) -> bool:
    """Whether a request only warms up the cache for later ones."""
    return request.get("generate") is False or request.get("prewarm") is True


def usage_of(reply: Reply, request: Json) -> Json:
    """The usage object from the reply's counters."""
    if _is_warm_up(request):
        reply = replace(reply, output_tokens=0, reasoning_tokens=0)
    return {
        "input_tokens": reply.input_tokens,
        "input_tokens_details": {
            "cached_tokens": reply.cache_read_tokens,
            "cache_write_tokens": reply.cache_write_tokens,
        },
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        "total_tokens": reply.input_tokens + reply.output_tokens,
    }


def end_of(choice: Choice, reply: Reply) -> Json:
    """Status, error and incomplete details."""
    reason = FINISH_REASONS.get(choice.reason, choice.reason)
    if reason == "failed":
        error = {"code": reply.error_code or "server_error", "message": reply.message}
        return {"status": "failed", "error": error, "incomplete_details": None}
    if reason in _INCOMPLETE:
        return {"status": "incomplete", "error": None, "incomplete_details": {"reason": _INCOMPLETE[reason]}}
    return {"status": "completed", "error": None, "incomplete_details": None}


def _response(answer: Answer) -> Json:
    choice, request = answer.completions[0], answer.request.body
    body: dict[str, object] = {
        "id": answer.path_params.get("id") or _item_id("resp"),
        "object": "response",
        "created_at": answer.created_s,
        **end_of(choice, answer.reply),
        "background": False,
        "model": answer.model,
        "output": [] if _is_warm_up(request) else _output(choice, request),
        "reasoning": {"effort": None, "summary": None, **member(request, "reasoning")},
        "service_tier": "default",
        "text": {"format": {"type": "text"}, "verbosity": "medium", **member(request, "text")},
        **{name: value if request.get(name) is None else request[name] for name, value in _ECHOED.items()},
    }
    if conversation := conversation_id(request):
        body["conversation"] = {"id": conversation}
    response = with_usage(body, answer.reply, usage_of(answer.reply, request))
    return in_background(response) if request.get("background") is True else response


def conversation_id(request: Json) -> str | None:
    """The id of the conversation in a request, given as a string or in an object."""
    conversation = request.get("conversation")
    identity = conversation.get("id") if isinstance(conversation, Mapping) else conversation
    return identity if isinstance(identity, str) else None


_TEXTS: dict[str, tuple[str, str, Json]] = {
    "output_text": ("output_text", "text", {"logprobs": []}),
    "refusal": ("refusal", "refusal", {}),
    "summary_text": ("reasoning_summary_text", "text", {}),
    "function_call": ("function_call_arguments", "arguments", {}),
}
"""By type of part or item with text: the name in its events, the field with the text, and other fields."""
_STATUSES = ("queued", "in_progress", "completed", "incomplete", "failed", "cancelled")
"""The statuses that have an event."""
_PARTS = {
    "message": ("content", "content_index", "content_part"),
    "reasoning": ("summary", "summary_index", "reasoning_summary_part"),
}
"""By type of item with parts: the field with the parts, the field of their index, and the name in their events."""


def _text_events(part: Json, position: Json) -> Iterator[StreamEvent]:
    """The text of a part or item in pieces, then in full."""
    kind = str(part.get("type"))
    if kind not in _TEXTS:
        return
    name, field, extra_fields = _TEXTS[kind]
    text = str(part.get(field, ""))
    for piece in fragments(text) if kind == "function_call" else words(text):
        yield typed(f"response.{name}.delta", **position, delta=piece, **extra_fields)
    name_field = {"name": part.get("name")} if kind == "function_call" else {}
    yield typed(f"response.{name}.done", **position, **{field: text}, **extra_fields, **name_field)


def _part_events(item: Json, outer: Json) -> Iterator[StreamEvent]:
    field, number, name = _PARTS.get(str(item.get("type")), ("", "", ""))
    for index, part in enumerate(objects(item.get(field))):
        inner = {**outer, number: index}
        _, text, _ = _TEXTS.get(str(part.get("type")), ("", "", {}))
        yield typed(f"response.{name}.added", **inner, part={**part, **({text: ""} if text else {})})
        yield from _text_events(part, inner)
        yield typed(f"response.{name}.done", **inner, part=part)


def _item_events(index: int, item: Json) -> Iterator[StreamEvent]:
    position = {"item_id": item.get("id"), "output_index": index}
    empty_item = {**item, **EMPTY_ITEM.get(str(item.get("type")), {})}
    yield typed("response.output_item.added", output_index=index, item=empty_item)
    yield from _part_events(item, position)
    yield from _text_events(item, position)
    yield typed("response.output_item.done", output_index=index, item=item)


def _sequence(body: Json) -> Iterator[StreamEvent]:
    initial = {"status": "in_progress", "error": None, "incomplete_details": None}
    initial_body = {**body, **initial, "output": [], "usage": None}
    if body.get("background") is True:
        initial_body |= {"completed_at": None}
        queued = {**initial_body, "status": "queued"}
        yield typed("response.created", response=queued)
        yield typed("response.queued", response=queued)
    else:
        yield typed("response.created", response=initial_body)
    yield typed("response.in_progress", response=initial_body)
    for index, item in enumerate(objects(body.get("output"))):
        yield from _item_events(index, item)
    status = body.get("status")
    # Some servers have words of their own for a response that has ended.
    yield typed(f"response.{status if status in _STATUSES else 'completed'}", response=body)


def _events(body: Json, answer: Answer) -> list[StreamEvent]:
    numbers = count()
    after = answer.request.query.get("starting_after", "")
    start = int(after) + 1 if after.isdecimal() else 0
    return [
        event._replace(data={**event.data, "sequence_number": next(numbers)})
        for event in _sequence(body)
        if not isinstance(event.data, str)
    ][start:]


def _error_event(error: ErrorAnswer) -> StreamEvent:
    inner = {"type": error.type or "server_error", "code": error.code, "message": error.message, "param": None}
    return typed("error", error=inner)


RESPONSES = Wire(replace(OPENAI, error_event=_error_event), _response, _events)
"""`POST /v1/responses`, `GET` of one, and its cancellation."""


class StoredResponse:
    """A response that can be fetched by id; a background response ends after a number of polls."""

    def __init__(self, body: Json, polls: int) -> None:
        """`body` is the final response."""
        self._body = body
        self._polls = polls if body.get("background") is True else 0
        self._cancelled = False

    @property
    def id(self) -> str:
        """The id of the response."""
        return str(self._body.get("id"))

    def queued(self) -> Json:
        """The answer to the request that created it."""
        return {**self._body, **_WAITING, "status": "queued"}

    def fetched(self) -> Json:
        """The answer to a poll, which is in progress for the scripted number of polls."""
        if self._polls <= 0:
            return self.end()
        self._polls -= 1
        return {**self._body, **_WAITING, "status": "in_progress"}

    def end(self) -> Json:
        """End the response and return it."""
        self._polls = 0
        return {**self._body, **_WAITING, "status": "cancelled"} if self._cancelled else self._body

    def cancel(self) -> Json:
        """Cancel the response, unless it has ended, and return it."""
        self._cancelled = self._cancelled or self._polls > 0
        return self.end()


def in_background(body: Json) -> Json:
    """The body of a background response."""
    completed_at = int(time.time()) if body.get("status") == "completed" else None
    return {**body, "background": True, "completed_at": completed_at}


def webhook(body: Json, secret: str) -> tuple[str, Mapping[str, str]]:
    """Payload and headers of the webhook that reports the end of a response."""
    identity, now_s = f"evt_{secrets.token_hex(16)}", int(time.time())
    event = {
        "id": identity,
        "object": "event",
        "created_at": now_s,
        "type": f"response.{body.get('status')}",
        "data": {"id": body.get("id")},
    }
    payload = encode(event).decode()
    key = (
        base64.b64decode(secret.removeprefix(_SECRET_PREFIX)) if secret.startswith(_SECRET_PREFIX) else secret.encode()
    )
    signed = hmac.new(key, f"{identity}.{now_s}.{payload}".encode(), hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(signed).decode()}"
    return payload, {"webhook-id": identity, "webhook-timestamp": str(now_s), "webhook-signature": signature}
