"""The oracle of the other wires: text, thoughts, tool calls, tokens and finish of an exchange, read from its bytes.

It imports nothing of the code under test. Decisions, each on what the wire says:

- Thoughts are no text; a plan of Cohere is a thought.
- Input includes what was read from and written to a cache, and what hosted tools read; output includes thoughts.
- Cohere's tokens are those that are billed.
- The last usage of a stream of Gemini counts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

Json = dict[str, Any]


class Truth(NamedTuple):
    """What one exchange states; None: it does not."""

    text: str
    thought: str
    calls: list[str]
    """Names of the application's tools that the answer calls."""
    arguments: list[Any]
    tokens: tuple[int | None, int | None] | None
    """Input and output."""
    finish: list[str | None]


def events(row: Json) -> list[Any]:
    """The events of a stream, or the only body."""
    if "events" in row:
        return [_event(each) for each in row["events"]]
    body = row["body"]
    if body.startswith(("data:", "event:", ":")):
        lines = [line[5:].strip() for line in body.replace("\r", "").split("\n") if line.startswith("data:")]
        return [json.loads(line) for line in lines if line.startswith("{")]
    if row["stream"] and not body.startswith("["):
        return [json.loads(line) for line in body.splitlines() if line.strip()]
    whole = json.loads(body)
    return whole if isinstance(whole, list) else [whole]


def _event(event: Json) -> Json:
    payload, head = event["payload"], event["headers"]
    if "bytes" in payload:
        return dict(json.loads(base64.b64decode(payload["bytes"])))
    return {head.get(":event-type") or head[":exception-type"]: payload}


def _joined(pieces: Iterable[Any]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def _sum(*counts: int | None) -> int:
    return sum(count or 0 for count in counts)


def gemini(row: Json) -> Truth:
    chunks = events(row)
    candidates = [each for chunk in chunks for each in chunk.get("candidates", [])]
    parts = [part for each in candidates for part in (each.get("content") or {}).get("parts", [])]
    texts = [part for part in parts if "text" in part]
    used = next((chunk["usageMetadata"] for chunk in reversed(chunks) if chunk.get("usageMetadata")), None)
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    return Truth(
        _joined(part["text"] for part in texts if not part.get("thought")),
        _joined(part["text"] for part in texts if part.get("thought")),
        [call["name"] for call in calls],
        [call.get("args", {}) for call in calls],
        None if not any(name.endswith("TokenCount") for name in used or {}) else _gemini_tokens(used or {}),
        [reason for each in candidates if (reason := each.get("finishReason")) and not isinstance(reason, int)]
        or _blocked(chunks),
    )


def _blocked(chunks: list[Json]) -> list[str | None]:
    """Why there is no answer to a prompt."""
    reasons = [chunk.get("promptFeedback", {}).get("blockReason") for chunk in chunks]
    return [reason for reason in reasons if reason]


def _gemini_tokens(used: Json) -> tuple[int | None, int | None]:
    prompt, answer = used.get("promptTokenCount"), used.get("candidatesTokenCount")
    total_input = None if prompt is None else _sum(prompt, used.get("toolUsePromptTokenCount"))
    if prompt is not None and "totalTokenCount" in used:
        return total_input, used["totalTokenCount"] - _sum(total_input)
    return total_input, _sum(answer, used.get("thoughtsTokenCount"))


def converse(row: Json) -> Truth:
    if not row["stream"]:
        (body,) = events(row)
        blocks, stop, used = body["output"]["message"]["content"], body["stopReason"], body["usage"]
    else:
        blocks, stop, used = _converse_stream(events(row))
    uses = [use for block in blocks if (use := block.get("toolUse")) and use.get("type") in (None, "tool_use")]
    thoughts = (block.get("reasoningContent", {}).get("reasoningText", {}).get("text") for block in blocks)
    cached = _sum(used.get("cacheReadInputTokens"), used.get("cacheWriteInputTokens"))
    return Truth(
        _joined(text for block in blocks for text in _converse_texts(block)),
        _joined(thoughts),
        [use["name"] for use in uses],
        [use["input"] for use in uses],
        (used["inputTokens"] + cached, used["outputTokens"]),
        [stop],
    )


def _converse_texts(block: Json) -> Iterator[str]:
    yield block.get("text", "")
    yield from (each.get("text", "") for each in block.get("citationsContent", {}).get("content", []))


def _converse_stream(chunks: list[Json]) -> tuple[list[Json], str, Json]:
    blocks: dict[int, Json] = {}
    stop, used = "", {}
    for chunk in chunks:
        if "contentBlockStart" in chunk:
            start = chunk["contentBlockStart"]
            blocks[start["contentBlockIndex"]] = {key: dict(value) for key, value in start["start"].items()}
        elif "contentBlockDelta" in chunk:
            piece = chunk["contentBlockDelta"]
            block = blocks.setdefault(piece["contentBlockIndex"], {})
            _grow(block, piece["delta"])
        elif "messageStop" in chunk:
            stop = chunk["messageStop"]["stopReason"]
        elif "metadata" in chunk:
            used = chunk["metadata"]["usage"]
    for block in blocks.values():
        if isinstance(block.get("toolUse", {}).get("input"), str):
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
    return [blocks[index] for index in sorted(blocks)], stop, used


def _grow(block: Json, delta: Json) -> None:
    for key, value in delta.items():
        if key == "text":
            block["text"] = block.get("text", "") + value
        elif key == "toolUse":
            block["toolUse"]["input"] = block["toolUse"].get("input", "") + value["input"]
        elif key == "reasoningContent" and "text" in value:
            thought = block.setdefault(key, {}).setdefault("reasoningText", {"text": ""})
            thought["text"] += value["text"]


def invoked(row: Json) -> Truth:
    """A model that Bedrock invokes: its vendor's body, and the counts of Bedrock itself."""
    chunks = events(row)
    answer = _invoked_stream(chunks) if row["stream"] else _invoked_body(chunks[0])
    return answer._replace(tokens=_invoked_tokens(row, chunks))


def _invoked_tokens(row: Json, chunks: list[Json]) -> tuple[int | None, int | None] | None:
    last = chunks[-1]
    if not row["stream"]:
        stated = {name: row["headers"].get(f"x-amzn-bedrock-{name}-token-count") for name in ("input", "output")}
        cached = [row["headers"].get(f"x-amzn-bedrock-cache-{name}-input-token-count", 0) for name in ("read", "write")]
        output = None if stated["output"] is None else int(stated["output"])
        return int(stated["input"] or 0) + sum(map(int, cached)), output
    metrics, written = last.get("amazon-bedrock-invocationMetrics"), _written_by_vendor(chunks)
    if metrics is None:
        return last["inputTextTokenCount"], last["totalOutputTextTokenCount"]
    return metrics["inputTokenCount"], metrics["outputTokenCount"] if written is None else written


def _written_by_vendor(chunks: list[Json]) -> int | None:
    """The output tokens that Anthropic states, which is another number than Bedrock's in 1 of 5 streams."""
    stated = [chunk["usage"]["output_tokens"] for chunk in chunks if chunk.get("type") == "message_delta"]
    return stated[-1] if stated else None


def _invoked_body(body: Json) -> Truth:
    if "embeddings" in body or "embedding" in body:
        return Truth("", "", [], [], None, [])
    if "output" in body:
        message = body["output"]["message"]["content"]
        uses = [{"type": "tool_use", **block["toolUse"]} if "toolUse" in block else block for block in message]
        return _blocks(uses, body["stopReason"])
    if "content" in body:
        return _blocks(body["content"], body["stop_reason"])
    results = body.get("results") or body.get("generations") or body.get("completions") or [body]
    first = results[0]
    text = first.get("outputText") or first.get("text") or first.get("completion") or first.get("data", {}).get("text")
    reason = first.get("completionReason") or first.get("finish_reason") or first.get("stop_reason")
    reason = reason or first.get("finishReason", {}).get("reason")
    calls = first.get("tool_calls") or []
    names, arguments = [call["name"] for call in calls], [call["parameters"] for call in calls]
    return Truth(text, "", names, arguments, None, [reason])


def _blocks(blocks: list[Json], reason: str) -> Truth:
    uses = [block for block in blocks if block.get("type") == "tool_use"]
    texts = _joined(block.get("text") for block in blocks)
    return Truth(texts, "", [use["name"] for use in uses], [use["input"] for use in uses], None, [reason])


def _invoked_stream(chunks: list[Json]) -> Truth:
    if "outputText" in chunks[0]:
        return Truth(_joined(chunk["outputText"] for chunk in chunks), "", [], [], None, _reasons(chunks))
    blocks, names, pieces, reasons = list[str](), list[str](), list[str](), list[str | None]()
    for chunk in chunks:
        start = chunk.get("content_block", {}) or chunk.get("contentBlockStart", {}).get("start", {}).get("toolUse", {})
        delta = chunk.get("delta", {}) or chunk.get("contentBlockDelta", {}).get("delta", {})
        if "name" in start:
            names.append(start["name"])
            pieces.append("")
        if "partial_json" in delta or "toolUse" in delta:
            pieces[-1] += delta.get("partial_json") or delta.get("toolUse", {}).get("input", "")
        blocks.append(delta.get("text", ""))
        reasons += filter(None, [delta.get("stop_reason"), chunk.get("messageStop", {}).get("stopReason")])
    return Truth(_joined(blocks), "", names, [json.loads(piece or "{}") for piece in pieces], None, reasons)


def _reasons(chunks: list[Json]) -> list[str | None]:
    """Those of Titan; none where a guardrail has intervened."""
    return [reason for chunk in chunks if (reason := chunk.get("completionReason"))] or [None]


def cohere(row: Json) -> Truth:
    if not row["stream"]:
        (body,) = events(row)
        message, ended = body["message"], body
    else:
        message, ended = _cohere_stream(events(row))
    content = message.get("content") or []
    calls = [call["function"] for call in message.get("tool_calls") or []]
    billed = ended["usage"]["billed_units"]
    return Truth(
        _joined(part.get("text") for part in content),
        _joined([message.get("tool_plan"), *(part.get("thinking") for part in content)]),
        [call["name"] for call in calls],
        [json.loads(call["arguments"]) for call in calls],
        (billed["input_tokens"], billed["output_tokens"]),
        [ended["finish_reason"]],
    )


def _cohere_stream(chunks: list[Json]) -> tuple[Json, Json]:
    content, plan, ended = list[Json](), "", Json()
    calls: dict[int, Json] = {}
    for chunk in chunks:
        delta = chunk.get("delta") or {}
        message = delta.get("message") or {}
        if chunk["type"] in ("content-start", "content-delta"):
            content.append(message["content"])
        elif chunk["type"] == "tool-plan-delta":
            plan += message["tool_plan"]
        elif chunk["type"] == "tool-call-start":
            calls[chunk["index"]] = {"function": dict(message["tool_calls"]["function"])}
        elif chunk["type"] == "tool-call-delta":
            calls[chunk["index"]]["function"]["arguments"] += message["tool_calls"]["function"]["arguments"]
        elif chunk["type"] == "message-end":
            ended = delta
    return {"content": content, "tool_plan": plan, "tool_calls": list(calls.values())}, ended


def cohere_v1(row: Json) -> Truth:
    chunks = events(row)
    body = chunks[-1]["response"] if row["stream"] else chunks[0]
    billed = body["meta"]["billed_units"]
    calls = body.get("tool_calls") or []
    return Truth(
        body["text"], "", [call["name"] for call in calls], [call["parameters"] for call in calls],
        (billed["input_tokens"], billed["output_tokens"]), [body["finish_reason"]],
    )  # fmt: skip


def ollama(row: Json) -> Truth:
    lines = events(row)
    messages = [line.get("message") or {} for line in lines]
    calls = [call["function"] for message in messages for call in message.get("tool_calls") or []]
    last = lines[-1]
    return Truth(
        _joined(
            [line.get("response") or message.get("content") for line, message in zip(lines, messages, strict=True)]
        ),
        _joined(
            [line.get("thinking") or message.get("thinking") for line, message in zip(lines, messages, strict=True)]
        ),
        [call["name"] for call in calls],
        [call["arguments"] for call in calls],
        (last.get("prompt_eval_count"), last.get("eval_count")),
        [last.get("done_reason")],
    )


def of_input(row: Json) -> Truth:
    """Embeddings and rankings: only what was read."""
    (body,) = events(row)
    billed = body.get("meta", {}).get("billed_units", {})
    used = body.get("usage") or body.get("usageMetadata") or {}
    stated = (
        billed.get("input_tokens"),
        used.get("total_tokens"),
        used.get("promptTokenCount"),
        body.get("prompt_eval_count"),
    )
    tokens = next((count for count in stated if count is not None), None)
    return Truth("", "", [], [], None if tokens is None else (tokens, None), [])
