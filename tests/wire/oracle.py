"""The oracle: the facts of each recorded exchange, read only from its bytes.

It imports nothing of the code under test (a test checks that). Tables say where the wire states a fact. A fact that it
does not state is None or empty; an empty string states nothing (some gateways send one for every field they do not
know).

Decisions, each on what the wire says:

- Input is inclusive. Anthropic counts cached tokens apart, so its input is the sum of three counters.
- The type of an error is its code, where it states one: the conventions ask for it.
- What is in the total and in no part of it was generated (Gemini counts thoughts in its total alone): output.
- A Responses answer finishes with its incomplete reason, with `tool_calls` where it requests a tool of the
  application, else with its status once that is final; `queued` and `in_progress` are no reason.
- A compaction repeats the user's messages in its output; they are not the model's words.
- The parts of one reasoning item are paragraphs of one thought.
- While an answer is queued, its `usage` null, nothing is counted, whatever else says 0.
- An executed tool of the provider is a hosted tool; a call that hands work to the caller is a tool call.
- A text in `reasoning` and again in `reasoning_details` is one text.
- An exchange without status was never answered: it states its request and nothing else.
- An empty `function_call` or `custom` beside a real call (Snowflake fills every field) is no call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.wire.corpus import Exchange, chunks

Json = dict[str, Any]
Facts = dict[str, Any]
"""What one exchange states, by the name of the fact."""

HISTORY = {
    "chat_completions": "messages", "messages": "messages", "count_tokens": "messages", "responses": "input",
    "completions": "prompt", "embeddings": "input",
}  # fmt: skip
ROLES = {"chat_completions", "messages"}
"""Where every entry of the history has a role; items of a Responses input need none."""
TOOL_ROLES = {"tool", "function"}
SETTINGS = (
    "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "seed", "stop",
    "frequency_penalty", "presence_penalty", "reasoning_effort", "parallel_tool_calls", "stop_sequences", "user",
)  # fmt: skip
APPLICATION_TOOLS = ("function_call", "custom_tool_call", "computer_call")
TERMINAL = {"response.completed", "response.incomplete", "response.failed"}
PENDING = {"queued", "in_progress"}
CALLER_RUNS = {"function_call": "function", "custom_tool_call": "custom"}
HOSTED_BLOCKS = ("server_tool_use", "mcp_tool_use")
BLOCKS = {"use": "tool_call", "result": "tool_result", "thinking": "reasoning", "redacted_thinking": "reasoning"}
GROWING = {
    "arguments", "content", "partial_json", "reasoning", "reasoning_content", "refusal", "signature", "text",
    "thinking",
}  # fmt: skip
"""Fields whose text comes in pieces."""

STATED_AT: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("stated_at.json").read_text())
"""Where a fact is stated: the first of these paths that leads to a value."""
ERROR, HEAD = STATED_AT["error"], STATED_AT["head"]
OPENAI_USAGE, ANTHROPIC_USAGE = STATED_AT["openai usage"], STATED_AT["anthropic usage"]
COUNTERS = sorted({*OPENAI_USAGE, *ANTHROPIC_USAGE, "total_tokens"} - {"service_tier"})


def truth(exchange: Exchange) -> Facts:
    """Return every fact that was looked for, of an exchange."""
    facts = {"api": exchange.endpoint, "stream": exchange.stream}
    facts |= _of_request(exchange.endpoint, exchange.request or {})
    body = answer(exchange)
    if body is None:
        return facts
    facts |= _first_of(body, ERROR)
    return facts | _READERS[exchange.endpoint](body) if exchange.status == 200 else facts


def answer(exchange: Exchange) -> Json | None:
    """Return the body of the answer, a stream in one piece; None where there is none."""
    if exchange.stream and not exchange.body.lstrip().startswith("{"):
        return fold(exchange.endpoint, chunks(exchange.body))
    try:
        body: object = json.loads(exchange.body, parse_float=Decimal)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def ran_at_provider(exchange: Exchange) -> list[str | None]:
    """Return the ids of the tools that the provider ran for the answer, in their order; Groq's have none.

    A tool that an earlier answer of Messages asked for, beside tools of the application, has only its result here.
    """
    found = (answer(exchange) or {}) if exchange.status == 200 else {}
    items = [item for item in found.get("output") or [] if item["type"].endswith("_call")]
    own = [item for item in items if item["type"] not in APPLICATION_TOOLS and item.get("execution") != "client"]
    groqs = [run for choice in found.get("choices") or [] for run in all_at(choice, "message.executed_tools")]
    blocks = _of_type(found.get("content"), *HOSTED_BLOCKS)
    answered = [one["tool_use_id"] for one in found.get("content") or () if one["type"].endswith("_tool_result")]
    return [
        *(id_of_call for id_of_call in answered if id_of_call not in {block["id"] for block in blocks}),
        *(_id_of(item) for item in (*own, *blocks)),
        *(None for run in groqs if run.get("output")),
    ]


def all_at(tree: object, path: str) -> list[Any]:
    """Return every value at a path; lists on the way are walked, and an empty string is no value.

    A step `name:kind` leads only to objects of this type.
    """
    found = [tree]
    for step in path.split("."):
        key, _, kind = step.partition(":")
        values = [one.get(key) for one in found if isinstance(one, dict)]
        found = [each for one in values for each in (one if isinstance(one, list) else [one])]
        found = [one for one in found if one not in (None, "") and (not kind or one["type"] == kind)]
    return found


def _first_of(tree: Json, table: dict[str, str]) -> Facts:
    found = {name: [one for path in paths.split() for one in all_at(tree, path)] for name, paths in table.items()}
    return {name: values[0] if values else None for name, values in found.items()}


def _of_type(entries: Any, *kinds: str) -> list[Json]:
    return [one for one in entries or () if one["type"] in kinds]


def _id_of(entry: Json) -> str:
    return str(entry.get("call_id") or entry["id"])


def _of_request(endpoint: str, request: Json) -> Facts:
    history = request.get(HISTORY[endpoint]) or []
    entries = [history] if isinstance(history, str) else history
    turns = [{"role": "user", "content": entry} if isinstance(entry, str) else entry for entry in entries]
    if endpoint == "responses":
        turns = [turn for turn in turns if turn.get("type", "message") == "message"]
    messages = [turn for turn in turns if turn["role"] not in TOOL_ROLES]
    system = request.get("system") if endpoint == "messages" else request.get("instructions")
    offered = [*(request.get("tools") or []), *(request.get("functions") or [])]
    return {
        "request_model": request.get("model") or None,
        "request_params": {key: request[key] for key in SETTINGS if request.get(key) is not None},
        "message_count": len(entries) if HISTORY[endpoint] in request else None,
        "tool_names": [_tool_name(tool) for tool in offered],
        "request_roles": [turn["role"] for turn in turns] if endpoint in ROLES else [],
        "request_texts": [text for turn in messages for text in _plain_texts(turn.get("content"))],
        "system_texts": list(_plain_texts(system)),
    }


def _tool_name(tool: Json) -> str:
    inner = tool.get("function") or tool.get("custom") or tool
    return str(inner.get("name") or inner.get("server_label") or tool["type"])


def _plain_texts(content: object) -> Iterator[str]:
    """The plain texts of a content: one string, or those of its parts, documents of plain text included."""
    if isinstance(content, str) and content:
        yield content
    for part in content if isinstance(content, list) else ():
        if part.get("type") in {"text", "input_text", "output_text"} and part.get("text"):
            yield part["text"]
        source = part.get("source")
        if isinstance(source, dict) and source.get("type") == "text":
            yield source["data"]


def _of_chat(body: Json) -> Facts:
    choices = body.get("choices") or []
    messages = [choice.get("message") or {} for choice in choices]
    return {
        **_of_embeddings(body),
        **_of_choices(choices, [list(_plain_texts(message.get("content"))) for message in messages]),
        "refusals": all_at(body, "choices.message.refusal"),
        "reasoning": [text for message in messages if (text := _chat_reasoning(message))],
        "signatures": [
            *all_at(body, "choices.message.extra_content.google.thought_signature"),
            *all_at(body, "choices.message.reasoning_details.signature"),
        ],
        "sealed": all_at(body, "choices.message.reasoning_details.data"),
        "tool_calls": [tool for message in messages for tool in _chat_tools(message)],
        "hosted_tools": [
            _tool(None, each.get("name"), each["arguments"], each["type"])
            for each in all_at(body, "choices.message.executed_tools")
        ],
        "annotations": len(all_at(body, "choices.message.annotations")) or None,
        "logprobs": len(all_at(body, "choices.logprobs.content")) or None,
    }


def _of_choices(choices: list[Json], texts: list[list[str]]) -> Facts:
    """What each choice states: why it ended, and its texts that are not empty, in order."""
    return {
        "choices": len(choices) or None,
        "finish_reasons": [choice.get("finish_reason") or None for choice in choices],
        "texts": texts if any(texts) else [],
    }


def _chat_reasoning(message: Json) -> str:
    """The thinking of one choice: said in a field of its own, in parts of the content, or only in details."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    content = message.get("content")
    parts = [] if isinstance(content, str) else all_at(message, "content:thinking.thinking.text")
    details = [each.get("text") or each.get("summary") or "" for each in message.get("reasoning_details") or []]
    return str(thought or "".join(parts or details))


def _chat_tools(message: Json) -> Iterator[Json]:
    legacy = message.get("function_call") or {}
    if legacy.get("name"):
        yield _tool(None, legacy["name"], legacy["arguments"])
    for call in message.get("tool_calls") or []:
        kind = "custom" if call.get("type") == "custom" else "function"
        inner = call[kind]
        yield _tool(call.get("id"), inner["name"], inner.get("input" if kind == "custom" else "arguments", ""), kind)


def _tool(identity: str | None, name: str | None, arguments: object, kind: str | None = "function") -> Json:
    """One tool the model used, with the arguments exactly as it wrote them: a text, or an object."""
    return {"id": identity or None, "name": name or None, "arguments": arguments, "kind": kind}


def _of_completions(body: Json) -> Facts:
    choices = body.get("choices") or []
    return {
        **_of_embeddings(body),
        **_of_choices(choices, [list(_plain_texts(choice.get("text"))) for choice in choices]),
        "logprobs": len(all_at(body, "choices.logprobs.tokens")) or None,
    }


def _of_embeddings(body: Json) -> Facts:
    return {**_head(body), **_openai_usage(body.get("usage") or {})}


def _head(body: Json) -> Facts:
    found = _first_of(body, HEAD)
    return {**found, "created": found["created"] or None}


def _of_responses(body: Json) -> Facts:
    status, output = body.get("status"), body.get("output") or []
    reasons = all_at(body, "incomplete_details.reason")
    finish = reasons[0] if reasons else None if status in PENDING else status
    requested = any(item["type"] in APPLICATION_TOOLS or item.get("execution") == "client" for item in output)
    texts = [text for item in _of_type(output, "message") if item["role"] == "assistant" for text in _texts_of(item)]
    searched = all_at(body, "tool_usage.web_search.num_requests") if body.get("usage") is not None else []
    thoughts = _of_type(output, "reasoning")
    return {
        **_of_embeddings(body),
        "status": status or None,
        "choices": 1 if output else None,
        "finish_reasons": ["tool_calls" if requested and finish == "completed" else finish],
        "web_search_requests": searched[0] if searched else None,
        "texts": [texts] if texts else [],
        "refusals": all_at(body, "output:message.content:refusal.refusal"),
        "annotations": len(all_at(body, "output:message.content.annotations")) or None,
        "logprobs": len(all_at(body, "output:message.content.logprobs")) or None,
        "reasoning": [text for item in thoughts if (text := _thought(item))],
        "sealed": all_at(body, "output:reasoning.encrypted_content"),
        "tool_calls": [_caller_tool(item) for item in _of_type(output, *CALLER_RUNS)],
        "hosted_tools": [
            _hosted_tool(item) for item in output if item["type"].endswith("_call") and item["type"] not in CALLER_RUNS
        ],
        "order": [kind for item in output for kind in _kinds_of_item(item)],
        "tool_results": [_id_of(item) for item in _of_type(output, "tool_search_output")],
    }


def _texts_of(item: Json) -> Iterator[str]:
    yield from (part["text"] for part in _of_type(item["content"], "output_text") if part["text"])


def _thought(item: Json) -> str:
    return "\n\n".join(part["text"] for key in ("summary", "content") for part in item.get(key) or [])


def _caller_tool(item: Json) -> Json:
    arguments = item["arguments"] if item["type"] == "function_call" else item["input"]
    return _tool(item["call_id"], item["name"], arguments, CALLER_RUNS[item["type"]])


def _hosted_tool(item: Json) -> Json:
    return _tool(_id_of(item), item.get("name"), item.get("arguments"), item["type"].removesuffix("_call"))


def _kinds_of_item(item: Json) -> Iterator[str]:
    """What one output item amounts to, in parts."""
    if item["type"] == "message" and item["role"] == "assistant":
        yield from ("text" for _ in _texts_of(item))
    elif item["type"] == "reasoning":
        yield "reasoning"
    elif item["type"].endswith("_call"):
        yield "tool_call"
    elif item["type"] == "tool_search_output":
        yield "tool_result"


def _of_message(body: Json) -> Facts:
    if body.get("type") == "error":
        return _head(body)
    content = body["content"]
    texts = all_at(body, "content:text.text")
    return {
        **_head(body),
        **_anthropic_usage(body.get("usage") or {}),
        "choices": 1,
        "finish_reasons": [body.get("stop_reason") or None],
        "texts": [texts] if texts else [],
        "reasoning": all_at(body, "content:thinking.thinking"),
        "signatures": all_at(body, "content.signature"),
        "sealed": all_at(body, "content:redacted_thinking.data"),
        "tool_calls": [_tool(each["id"], each["name"], each["input"]) for each in _of_type(content, "tool_use")],
        "hosted_tools": [
            _tool(each["id"], each["name"], each["input"], None) for each in _of_type(content, *HOSTED_BLOCKS)
        ],
        "order": [kind for block in content for kind in _kinds_of_block(block)],
        "tool_results": all_at(body, "content.tool_use_id"),
        "annotations": len(all_at(body, "content.citations")) or None,
    }


def _kinds_of_block(block: Json) -> Iterator[str]:
    if block["type"] != "text" or block["text"]:
        name = block["type"].rpartition("tool_")[2] if "tool_" in block["type"] else block["type"]
        yield BLOCKS.get(name, "tool_result" if "tool_use_id" in block else name)


def _openai_usage(usage: Json) -> Facts:
    into = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    out_of = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    facts = _first_of({**usage, "in": into, "out": out_of}, OPENAI_USAGE)
    sent, made, total = facts["input_tokens"], facts["output_tokens"], facts["total_tokens"]
    if sent is not None and made is not None:
        facts["output_tokens"] = max(made, (total or 0) - sent)
        facts["total_tokens"] = sent + made if total is None else total
    if facts["cost_usd"] is not None:
        facts["cost_usd"] = Decimal(str(facts["cost_usd"]))
    return facts


def _anthropic_usage(usage: Json) -> Facts:
    facts = _first_of(usage, ANTHROPIC_USAGE)
    if facts["input_tokens"] is not None:
        facts["input_tokens"] += (facts["cache_read_tokens"] or 0) + (facts["cache_write_tokens"] or 0)
    for run in usage.get("iterations") or []:
        if run.get("type") in {"advisor_message", "compaction"}:
            # The top level leaves them out: it is the sum of the `message` entries.
            taken = sum(run[name] or 0 for name in run if name.endswith("input_tokens"))
            facts["input_tokens"] = (facts["input_tokens"] or 0) + taken
            facts["output_tokens"] = (facts["output_tokens"] or 0) + run["output_tokens"]
    if facts["input_tokens"] is not None and facts["output_tokens"] is not None:
        facts["total_tokens"] = facts["input_tokens"] + facts["output_tokens"]
    return facts


def fold(endpoint: str, chunks: Iterable[Json]) -> Json:
    """Return the body that the chunks of one stream amount to."""
    if endpoint == "responses":
        return _last_response(list(chunks))
    body: Json = {}
    for chunk in chunks:
        _add(body, _piece_of_message(chunk) if endpoint == "messages" else _piece_of_choices(chunk))
    for block in body.get("content", ()):
        if "partial_json" in block:
            block["input"] = json.loads(block.pop("partial_json"))
    body.get("choices", []).sort(key=lambda choice: choice["index"])
    return body


def _last_response(chunks: list[Json]) -> Json:
    """The terminal event holds the whole answer, so nothing but it is read."""
    ends = [chunk["response"] for chunk in chunks if chunk.get("type") in TERMINAL]
    errors = [chunk for chunk in chunks if chunk.get("error")]
    return next(iter([*ends[::-1], *errors]), {})


def _piece_of_choices(chunk: Json) -> Json:
    """A chunk as a piece of the body: the delta of a choice is a piece of its message."""
    parts = chunk.get("choices") or []
    if "value" in chunk and not parts:
        # Writer streams bare pieces of text, `{"value": "Sure"}`, and nothing else.
        parts = [{"text": chunk["value"]}]
    choices = [{"index": at, **part, "message": part.get("delta")} for at, part in enumerate(parts)]
    return {**chunk, "usage": chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage"), "choices": choices}


def _piece_of_message(event: Json) -> Json:
    kind = event["type"]
    if kind == "message_start":
        return {**event["message"], "content": []}
    if kind == "content_block_start":
        return {"content": [{**event["content_block"], "index": event["index"]}]}
    if kind == "content_block_delta":
        cited = {"citations": [event["delta"]["citation"]]} if "citation" in event["delta"] else {}
        return {"content": [{**event["delta"], **cited, "index": event["index"]}]}
    if kind == "message_delta":
        return {**event["delta"], "usage": event.get("usage")}
    return {"error": event.get("error")}


def _add(body: Json, piece: Json, *, last: bool = False) -> Json:
    """Add a piece to a body: texts grow, lists by entry; of other values the first that says something stays.

    Counters are cumulative: with `last`, the last one that is not null counts. Azure's first chunk has an empty id and
    was created at 0.
    """
    for key, value in piece.items():
        held = body.get(key)
        if value is None or value == "":
            continue
        if isinstance(value, dict):
            body[key] = _add(held or {}, value, last=last or key == "usage")
        elif (isinstance(value, list) or isinstance(held, list)) and not last:
            body[key] = _entries(held)
            for entry in _entries(value):
                _add_entry(body[key], entry)
        elif key in GROWING:
            body[key] = (held or "") + value
        elif last or not held:
            body[key] = value
    return body


def _entries(content: Any) -> list[Any]:
    """A list as it is, a text (Mistral sends both) as a part of one."""
    return content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []


def _add_entry(entries: list[Any], entry: Any) -> None:
    """Add an entry, or a fragment of one: by its index, else by its id, else of the call begun last."""
    if not isinstance(entry, dict):
        entries.append(entry)
        return
    key = next((key for key in ("index", "id") if entry.get(key) is not None), None)
    if key is None and "function" in entry and not entry["function"].get("name"):
        _add(entries[-1], entry)
        return
    begun = next((one for one in entries if key is not None and one.get(key) == entry[key]), None)
    if begun is None:
        begun = {}
        entries.append(begun)
    _add(begun, entry)


_READERS: dict[str, Callable[[Json], Facts]] = {
    "chat_completions": _of_chat,
    "completions": _of_completions,
    "embeddings": _of_embeddings,
    "responses": _of_responses,
    "messages": _of_message,
    "count_tokens": lambda _: {},
}
