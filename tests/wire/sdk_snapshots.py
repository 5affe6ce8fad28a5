"""Snapshots: what the SDKs' own helpers join of a stream, a second oracle where each index is used once.

Where an index is used twice, the SDKs lose or mix entries: anthropic's gives the second of two blocks with one index no
arguments, openai's adds up names that each piece repeats.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import anthropic
import openai
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from tests.support import sdks

Json = dict[str, Any]
CALLS: Final = ("tool_use", "server_tool_use", "mcp_tool_use")
REFUSALS: Final = (openai.OpenAIError, anthropic.AnthropicError, AssertionError, IndexError, RuntimeError, TypeError)
"""What the helpers raise for events that they do not know."""
ASKED: list[Any] = [{"role": "user", "content": "Hi"}]


def snapshot(api: str, events: list[Json]) -> Json:
    """Return the body that the helper of the API's SDK makes of a stream; it may refuse what it does not know."""
    body = "".join(f"event: {event.get('type', 'chunk')}\ndata: {json.dumps(event)}\n\n" for event in events)
    _bodies()[:] = [body if api == "messages" else f"{body}data: [DONE]\n\n"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        body: Json = json.loads(_joined(api, events).to_json())
    for choice in body.get("choices") or []:
        choice["message"]["role"] = "assistant"  # the helper adds up roles that each piece repeats
    return body


def _joined(api: str, events: list[Json]) -> Any:
    if api == "messages":
        with _anthropic().beta.messages.stream(model="m", max_tokens=9, messages=ASKED) as blocks:
            return blocks.get_final_message()
    if api == "responses":
        with _openai().responses.stream(model="m", input="Hi") as items:
            return items.get_final_response()
    state = ChatCompletionStreamState()
    for event in events:
        state.handle_chunk(ChatCompletionChunk.construct(**event))
    return state.current_completion_snapshot


@functools.cache
def _bodies() -> list[str]:
    """The answer to the next request."""
    return []


def _transport(sdk: str) -> Any:
    library = sdks.http_of(sdk)
    headers = {"content-type": "text/event-stream"}
    answer = lambda request: library.Response(200, headers=headers, content=_bodies()[0].encode())  # noqa: E731
    return library.Client(transport=library.MockTransport(answer))


@functools.cache
def _anthropic() -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="k", http_client=_transport("anthropic"))


@functools.cache
def _openai() -> openai.OpenAI:
    return openai.OpenAI(api_key="k", http_client=_transport("openai"))


def uses_each_index_once(api: str, events: list[Json]) -> bool:
    """Return whether the SDK's snapshot is an oracle of this stream."""
    if api == "messages":
        starts, deltas = _starts(events, "content_block_start", "index"), _deltas(events, "index")
        return _are_once(starts, deltas, events) and _fit_their_blocks(events)
    if api == "responses":
        return _is_stated(events)
    return all(map(_is_plain, _choices(events)))


def _starts(events: list[Json], kind: str, field: str) -> list[Any]:
    return [event.get(field) for event in events if event.get("type") == kind]


def _deltas(events: list[Json], field: str) -> set[Any]:
    return {event.get(field) for event in events if str(event.get("type")).endswith("delta") and field in event}


def _are_once(starts: list[Any], deltas: set[Any], events: list[Json]) -> bool:
    begun = sum(event.get("type") in ("message_start", "response.created") for event in events)
    return begun == 1 and starts == list(range(len(starts))) and deltas <= set(starts)


def _fit_their_blocks(events: list[Json]) -> bool:
    """Return whether each delta is of the type of the block with its index."""
    types = {event["index"]: event["content_block"]["type"] for event in events if "content_block" in event}
    fitting = {"text_delta": ("text",), "thinking_delta": ("thinking",), "input_json_delta": CALLS}
    deltas = [event for event in events if event.get("type") == "content_block_delta"]
    return all(types[one["index"]] in fitting.get(one["delta"]["type"], types.values()) for one in deltas)


def _is_stated(events: list[Json]) -> bool:
    """Return whether the last event states as many items as were begun, one to each index, and their words."""
    starts = _starts(events, "response.output_item.added", "output_index")
    last = events[-1].get("response") or {}
    items = last.get("output") or []
    is_whole = len(items) == len(starts) and '"text": ""' not in json.dumps(items)
    parts = Counter(
        (event.get("output_index"), event.get("content_index"), event.get("summary_index"))
        for event in events
        if str(event.get("type")).endswith("part.added")
    )
    announced = {(item, part, None) for item, part, _ in parts}
    pieces = {
        (event.get("output_index"), event.get("content_index"), None)
        for event in events
        if event.get("type") == "response.output_text.delta"
    }
    are_parts = all(count == 1 for count in parts.values()) and pieces <= announced
    return is_whole and are_parts and _are_once(starts, _deltas(events, "output_index"), events)


def _choices(chunks: Iterable[Json]) -> list[list[Json]]:
    found: dict[Any, list[Json]] = {}
    for choice in (choice for chunk in chunks for choice in chunk.get("choices") or []):
        found.setdefault(choice.get("index"), []).append(choice)
    return list(found.values())


def _is_plain(choices: list[Json]) -> bool:
    """Return whether the pieces of each call of a choice have an index of their own, and one name before arguments."""
    written: Counter[int] = Counter()
    ids: Counter[int] = Counter()
    for choice in choices:
        delta = choice.get("delta") or {}
        if (
            "message" in choice
            or not isinstance(delta.get("content") or "", str)
            or type(choice.get("index")) is not int
        ):
            return False
        for call in delta.get("tool_calls") or []:
            index, inner = call.get("index"), call.get("function") or {}
            if type(index) is not int or (inner.get("name") and written[index]):
                return False
            ids[index] += bool(inner.get("name") and call.get("id"))
            written[index] += len(inner.get("arguments") or "")
    return all(count == 1 for count in ids.values())
