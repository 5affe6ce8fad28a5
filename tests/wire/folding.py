"""Stream folding: the oracle's own conversion of a response's chunks to its body.

Written from the wire shapes alone. Nothing here is shared with the code under test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

Json = dict[str, Any]
GONE = {"response.completed", "response.incomplete", "response.failed"}


def fold(endpoint: str, chunks: Iterable[Json]) -> Json:
    """Return the body that the chunks of one stream amount to."""
    return _FOLDS[endpoint](list(chunks))


def _fold_chat(chunks: list[Json]) -> Json:
    body: Json = {}
    choices: dict[int, Json] = {}
    for chunk in chunks:
        _first(body, chunk, "id", "created", "model", "system_fingerprint", "service_tier", "error")
        _usage(body, chunk.get("usage"))
        _usage(body, (chunk.get("x_groq") or {}).get("usage"))
        for position, part in enumerate(chunk.get("choices") or []):
            index = part.get("index", position)
            choice = choices.setdefault(index, {"index": index, "message": {}})
            _first(choice, part, "finish_reason")
            _append_logprobs(choice, part.get("logprobs"))
            _fold_delta(choice["message"], part.get("delta") or {})
    body["choices"] = [choices[index] for index in sorted(choices)]
    return body


def _fold_delta(message: Json, delta: Json) -> None:
    _first(message, delta, "role")
    for key in ("content", "refusal", "reasoning_content", "reasoning"):
        _append_content(message, key, delta.get(key))
    for key in ("annotations", "reasoning_details"):
        if delta.get(key):
            message.setdefault(key, []).extend(delta[key])
    if delta.get("function_call"):
        call = message.setdefault("function_call", {"name": "", "arguments": ""})
        call["name"] += delta["function_call"].get("name") or ""
        call["arguments"] += delta["function_call"].get("arguments") or ""
    for part in delta.get("tool_calls") or []:
        _fold_tool(message.setdefault("tool_calls", []), part)


def _append_content(message: Json, key: str, piece: object) -> None:
    """Text grows; a list of parts (Mistral's thinking) grows part by part, adjacent texts joined."""
    if isinstance(piece, str) and piece:
        if isinstance(message.get(key), list):
            piece = [{"type": "text", "text": piece}]
        else:
            message[key] = (message.get(key) or "") + piece
            return
    if isinstance(piece, list):
        have = message.get(key)
        message[key] = (have if isinstance(have, list) else [{"type": "text", "text": have}] if have else []) + piece


def _fold_tool(calls: list[Json], part: Json) -> None:
    """The call a fragment belongs to: by its index, else by its id, else the one begun last."""
    index, identity, function = part.get("index"), part.get("id"), part.get("function") or {}
    if index is not None:
        call = next((call for call in calls if call["index"] == index), None)
    elif identity:
        call = next((call for call in calls if call.get("id") == identity), None)
    else:
        call = calls[-1] if calls and not function.get("name") else None
    if call is None:
        call = {"index": len(calls) if index is None else index, "function": {"name": "", "arguments": ""}}
        calls.append(call)
    _first(call, part, "id", "type")
    call["function"]["name"] = call["function"]["name"] or function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


def _append_logprobs(choice: Json, logprobs: Json | None) -> None:
    for key in ("content", "refusal"):
        if logprobs and logprobs.get(key):
            choice.setdefault("logprobs", {}).setdefault(key, []).extend(logprobs[key])


def _fold_completions(chunks: list[Json]) -> Json:
    body: Json = {}
    choices: dict[int, Json] = {}
    for chunk in chunks:
        _first(body, chunk, "id", "created", "model", "system_fingerprint", "error")
        _usage(body, chunk.get("usage"))
        parts = chunk.get("choices") or []
        if "value" in chunk and not parts:
            # Writer streams bare pieces of text, `{"value": "Sure"}`, and nothing else.
            parts = [{"index": 0, "text": chunk["value"]}]
        for position, part in enumerate(parts):
            index = part.get("index", position)
            choice = choices.setdefault(index, {"index": index, "text": ""})
            choice["text"] += part.get("text") or ""
            _first(choice, part, "finish_reason")
    body["choices"] = [choices[index] for index in sorted(choices)]
    return body


def _fold_responses(chunks: list[Json]) -> Json:
    """The terminal event holds the whole answer, so nothing but it is read."""
    for chunk in reversed(chunks):
        if chunk.get("type") in GONE:
            response: Json = chunk["response"]
            return response
    errors = [chunk for chunk in chunks if chunk.get("error")]
    return errors[0] if errors else {}


def _fold_messages(chunks: list[Json]) -> Json:
    body: Json = {}
    blocks: dict[int, Json] = {}
    for chunk in chunks:
        kind = chunk["type"]
        if kind == "message_start":
            body = {**chunk["message"], "usage": {}}
            _usage(body, chunk["message"].get("usage"))
        elif kind == "content_block_start":
            blocks[chunk["index"]] = dict(chunk["content_block"])
        elif kind == "content_block_delta":
            _fold_block(blocks[chunk["index"]], chunk["delta"])
        elif kind == "message_delta":
            body.update({key: value for key, value in chunk["delta"].items() if value is not None})
            _usage(body, chunk.get("usage"))
        elif kind == "error":
            body["error"] = chunk["error"]
    for block in blocks.values():
        if "partial_json" in block:
            block["input"] = json.loads(block.pop("partial_json") or "{}")
    return {**body, "content": [blocks[index] for index in sorted(blocks)]}


def _fold_block(block: Json, delta: Json) -> None:
    for key in ("text", "thinking", "signature", "partial_json"):
        if key in delta:
            block[key] = (block.get(key) or "") + delta[key]
    if "citation" in delta:
        block["citations"] = [*(block.get("citations") or []), delta["citation"]]


def _first(target: Json, source: Json, *keys: str) -> None:
    """The first value that says something stays; Azure's first chunk has an empty id and was created at 0."""
    for key in keys:
        if not target.get(key) and source.get(key):
            target[key] = source[key]


def _usage(body: Json, usage: Json | None) -> None:
    """Counters are cumulative: the last one that is not null counts, also within details."""
    if not isinstance(usage, dict):
        return
    have: Json = body.get("usage") or {}
    for key, value in usage.items():
        if isinstance(value, dict):
            have[key] = {**(have.get(key) or {}), **{name: each for name, each in value.items() if each is not None}}
        elif value is not None:
            have[key] = value
    body["usage"] = have


_FOLDS: dict[str, Callable[[list[Json]], Json]] = {
    "chat_completions": _fold_chat,
    "completions": _fold_completions,
    "responses": _fold_responses,
    "messages": _fold_messages,
}
