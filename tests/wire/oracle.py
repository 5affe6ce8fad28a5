"""The oracle: the facts of each recorded exchange, read only from its bytes.

It imports nothing of the code under test (a test checks that). Where a provider is silent the fact is None
or empty; an empty string says nothing (some gateways send one for every field they do not know).

Decisions, each on what the wire says:

- Input is inclusive. Anthropic counts cached tokens apart, so its input is the sum of three counters.
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
from typing import Any

from tests.wire.corpus import Exchange, chunks
from tests.wire.facts import Facts, Tool

Json = dict[str, Any]

APPLICATION_TOOLS = ("function_call", "custom_tool_call", "computer_call")
GONE = {"response.completed", "response.incomplete", "response.failed"}
PENDING = {"queued", "in_progress"}
CALLER_RUNS = {"function_call": "function", "custom_tool_call": "custom"}
HISTORY = {
    "chat_completions": "messages",
    "messages": "messages",
    "count_tokens": "messages",
    "responses": "input",
    "completions": "prompt",
    "embeddings": "input",
}
BLOCKS = {"use": "tool_call", "result": "tool_result", "thinking": "reasoning", "redacted_thinking": "reasoning"}
ROLES = {"chat_completions", "messages"}
"""Where every entry of the history has a role; items of a Responses input need none."""
TOOL_ROLES = {"tool", "function"}
SETTINGS = (
    "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "seed", "stop",
    "frequency_penalty", "presence_penalty", "reasoning_effort", "parallel_tool_calls", "stop_sequences", "user",
)  # fmt: skip


def truth(exchange: Exchange) -> Facts:
    """Return every fact the exchange states."""
    facts = Facts(api=exchange.endpoint, stream=exchange.stream)
    _read_request(facts, exchange.endpoint, exchange.request or {})
    body = answer(exchange)
    if body is None:
        return facts
    _read_error(facts, exchange.endpoint, body.get("error"))
    if exchange.status == 200:
        _READERS[exchange.endpoint](facts, body)
    return facts


def answer(exchange: Exchange) -> Json | None:
    """Return the body of the answer, a stream in one piece; None where there is none."""
    if exchange.stream and not exchange.body.lstrip().startswith("{"):
        return fold(exchange.endpoint, chunks(exchange.body))
    try:
        body: object = json.loads(exchange.body, parse_float=Decimal)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def ran_at_provider(exchange: Exchange) -> list[str]:
    """Return the ids of the tools that the provider ran for the answer, in their order."""
    found = (answer(exchange) or {}) if exchange.status == 200 else {}
    items = [item for item in found.get("output") or [] if item["type"].endswith("_call")]
    own = [item for item in items if item["type"] not in APPLICATION_TOOLS and item.get("execution") != "client"]
    blocks = [block for block in found.get("content") or [] if block["type"] in {"server_tool_use", "mcp_tool_use"}]
    return [item.get("call_id") or item["id"] for item in (*own, *blocks)]


def _read_request(facts: Facts, endpoint: str, request: Json) -> None:
    facts.request_model = stated(request.get("model"))
    facts.request_params = tuple((key, request[key]) for key in SETTINGS if request.get(key) is not None)
    system = request.get("system") if endpoint == "messages" else request.get("instructions")
    facts.system_texts = tuple(_plain_texts(system))
    history = request.get(HISTORY[endpoint]) or []
    entries = [history] if isinstance(history, str) else history
    turns = [{"role": "user", "content": entry} if isinstance(entry, str) else entry for entry in entries]
    if endpoint == "responses":
        turns = [turn for turn in turns if turn.get("type", "message") == "message"]
    facts.message_count = len(entries) if HISTORY[endpoint] in request else None
    offered = [*(request.get("tools") or []), *(request.get("functions") or [])]
    facts.tool_names = tuple(_tool_name(tool) for tool in offered)
    if endpoint in ROLES:
        facts.request_roles = tuple(turn["role"] for turn in turns)
    messages = [turn for turn in turns if turn["role"] not in TOOL_ROLES]
    facts.request_texts = tuple(text for turn in messages for text in _plain_texts(turn.get("content")))


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


def _read_chat(facts: Facts, body: Json) -> None:
    _read_head(facts, body, "created")
    _read_openai_usage(facts, body.get("usage") or {})
    choices = body.get("choices") or []
    if "error" in body and not choices:
        return
    facts.choices = len(choices)
    facts.finish_reasons = tuple(stated(choice.get("finish_reason")) for choice in choices)
    messages = [choice.get("message") or {} for choice in choices]
    facts.texts = _per_choice([tuple(_plain_texts(message.get("content"))) for message in messages])
    facts.refusals = tuple(message["refusal"] for message in messages if message.get("refusal"))
    facts.reasoning = tuple(text for message in messages if (text := _chat_reasoning(message)))
    facts.signatures = tuple(mark for message in messages for mark in _chat_signatures(message))
    facts.sealed = tuple(each["data"] for message in messages for each in _details(message) if each.get("data"))
    facts.tool_calls = tuple(tool for message in messages for tool in _chat_tools(message))
    facts.hosted_tools = tuple(
        Tool(None, stated(each.get("name")), each["arguments"], each["type"])
        for message in messages
        for each in message.get("executed_tools") or []
    )
    facts.annotations = sum(len(message.get("annotations") or []) for message in messages) or None
    facts.logprobs = sum(len((choice.get("logprobs") or {}).get("content") or []) for choice in choices) or None


def _chat_reasoning(message: Json) -> str:
    """The thinking of one choice: said in a field of its own, in parts of the content, or only in details."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if thought:
        return str(thought)
    content = message.get("content")
    parts = [part for part in content if part.get("type") == "thinking"] if isinstance(content, list) else []
    if parts:
        return "".join(piece["text"] for part in parts for piece in part["thinking"])
    return "".join(each.get("text") or each.get("summary") or "" for each in _details(message))


def _chat_signatures(message: Json) -> Iterator[str]:
    google = (message.get("extra_content") or {}).get("google") or {}
    marks = [google.get("thought_signature"), *(each.get("signature") for each in _details(message))]
    yield from (mark for mark in marks if mark)


def _details(message: Json) -> list[Json]:
    return message.get("reasoning_details") or []


def _chat_tools(message: Json) -> Iterator[Tool]:
    legacy = message.get("function_call") or {}
    if legacy.get("name"):
        yield Tool(None, legacy["name"], legacy["arguments"])
    for call in message.get("tool_calls") or []:
        if call.get("type") == "custom":
            yield Tool(stated(call.get("id")), call["custom"]["name"], call["custom"]["input"], "custom")
        else:
            yield Tool(stated(call.get("id")), stated(call["function"]["name"]), call["function"]["arguments"])


def _read_completions(facts: Facts, body: Json) -> None:
    _read_head(facts, body, "created")
    _read_openai_usage(facts, body.get("usage") or {})
    choices = body.get("choices") or []
    facts.choices = len(choices)
    facts.finish_reasons = tuple(stated(choice.get("finish_reason")) for choice in choices)
    facts.texts = _per_choice([tuple(text for text in [choice.get("text")] if text) for choice in choices])
    facts.logprobs = sum(len((choice.get("logprobs") or {}).get("tokens") or []) for choice in choices) or None


def _read_embeddings(facts: Facts, body: Json) -> None:
    _read_head(facts, body, "created")
    _read_openai_usage(facts, body.get("usage") or {})


def _read_responses(facts: Facts, body: Json) -> None:
    _read_head(facts, body, "created_at")
    facts.status = stated(body.get("status"))
    reason = stated((body.get("incomplete_details") or {}).get("reason"))
    finish = reason or (None if facts.status in PENDING else facts.status)
    output = body.get("output") or []
    facts.choices = 1 if output else None
    requested = any(item["type"] in APPLICATION_TOOLS or item.get("execution") == "client" for item in output)
    facts.finish_reasons = ("tool_calls" if requested and finish == "completed" else finish,)
    _read_responses_usage(facts, body)
    parts = [
        part for item in output if item["type"] == "message" and item["role"] == "assistant" for part in item["content"]
    ]
    facts.texts = _per_choice([tuple(part["text"] for part in parts if part["type"] == "output_text" and part["text"])])
    facts.refusals = tuple(part["refusal"] for part in parts if part["type"] == "refusal")
    facts.annotations = sum(len(part.get("annotations") or []) for part in parts) or None
    facts.logprobs = sum(len(part.get("logprobs") or []) for part in parts) or None
    thoughts = [item for item in output if item["type"] == "reasoning"]
    facts.reasoning = tuple(text for item in thoughts if (text := _thought(item)))
    facts.sealed = tuple(item["encrypted_content"] for item in thoughts if item.get("encrypted_content"))
    facts.tool_calls = tuple(_caller_tool(item) for item in output if item["type"] in CALLER_RUNS)
    facts.hosted_tools = tuple(
        _hosted_tool(item) for item in output if item["type"].endswith("_call") and item["type"] not in CALLER_RUNS
    )
    facts.order = tuple(kind for item in output for kind in _kinds_of_item(item))
    facts.tool_results = tuple(_result_of(item) for item in output if item["type"] == "tool_search_output")


def _read_responses_usage(facts: Facts, body: Json) -> None:
    usage = body.get("usage")
    if usage is None:
        return
    names = {"prompt": "input", "completion": "output"}
    kinds = ("tokens", "tokens_details")
    renamed = {f"{old}_{kind}": usage.get(f"{new}_{kind}") for old, new in names.items() for kind in kinds}
    _read_openai_usage(facts, {**usage, **renamed})
    facts.web_search_requests = ((body.get("tool_usage") or {}).get("web_search") or {}).get("num_requests")


def _thought(item: Json) -> str:
    return "\n\n".join(part["text"] for key in ("summary", "content") for part in item.get(key) or [])


def _caller_tool(item: Json) -> Tool:
    arguments = item["arguments"] if item["type"] == "function_call" else item["input"]
    return Tool(item["call_id"], item["name"], arguments, CALLER_RUNS[item["type"]])


def _hosted_tool(item: Json) -> Tool:
    arguments = item.get("arguments")
    is_object = isinstance(arguments, dict)
    text = json.dumps(arguments, sort_keys=True) if is_object else arguments
    kind = item["type"].removesuffix("_call")
    return Tool(item.get("call_id") or item["id"], item.get("name"), text, kind, is_object)


def _kinds_of_item(item: Json) -> Iterator[str]:
    """What one output item amounts to, in parts."""
    if item["type"] == "message" and item["role"] == "assistant":
        yield from ("text" for part in item["content"] if part["type"] == "output_text" and part["text"])
    elif item["type"] == "reasoning":
        yield "reasoning"
    elif item["type"].endswith("_call"):
        yield "tool_call"
    elif item["type"] == "tool_search_output":
        yield "tool_result"


def _result_of(item: Json) -> str:
    return str(item.get("call_id") or item["id"])


def _read_messages(facts: Facts, body: Json) -> None:
    _read_head(facts, body, "created")
    if body.get("type") == "error":
        return
    facts.choices = 1
    facts.finish_reasons = (stated(body.get("stop_reason")),)
    _read_anthropic_usage(facts, body.get("usage") or {})
    content = body["content"]
    facts.texts = _per_choice([tuple(block["text"] for block in content if block["type"] == "text" and block["text"])])
    facts.reasoning = tuple(block["thinking"] for block in content if block["type"] == "thinking" and block["thinking"])
    facts.signatures = tuple(block["signature"] for block in content if block.get("signature"))
    facts.sealed = tuple(block["data"] for block in content if block["type"] == "redacted_thinking")
    facts.tool_calls = tuple(_block_tool(block) for block in content if block["type"] == "tool_use")
    facts.hosted_tools = tuple(
        _block_tool(block, "hosted") for block in content if block["type"] in {"server_tool_use", "mcp_tool_use"}
    )
    facts.order = tuple(kind for block in content for kind in _kinds_of_block(block))
    facts.tool_results = tuple(block["tool_use_id"] for block in content if "tool_use_id" in block)
    facts.annotations = sum(len(block.get("citations") or []) for block in content) or None


def _kinds_of_block(block: Json) -> Iterator[str]:
    """What one content block amounts to."""
    if block["type"] != "text" or block["text"]:
        name = block["type"].rpartition("tool_")[2] if "tool_" in block["type"] else block["type"]
        yield BLOCKS.get(name, "tool_result" if "tool_use_id" in block else name)


def _block_tool(block: Json, kind: str = "function") -> Tool:
    return Tool(block["id"], block["name"], json.dumps(block["input"], sort_keys=True), kind, is_object=True)


def _read_head(facts: Facts, body: Json, created: str) -> None:
    facts.response_id = stated(body.get("id"))
    facts.response_model = stated(body.get("model"))
    facts.created = body.get(created) or None
    facts.service_tier = stated(body.get("service_tier"))
    facts.system_fingerprint = stated(body.get("system_fingerprint"))


def _read_openai_usage(facts: Facts, usage: Json) -> None:
    into, out_of = (usage.get(key) or {} for key in ("prompt_tokens_details", "completion_tokens_details"))
    facts.input_tokens = usage.get("prompt_tokens")
    facts.output_tokens = usage.get("completion_tokens")
    if facts.input_tokens is not None and facts.output_tokens is not None and usage.get("total_tokens"):
        facts.output_tokens = max(facts.output_tokens, usage["total_tokens"] - facts.input_tokens)
    facts.total_tokens = _total(usage.get("total_tokens"), facts.input_tokens, facts.output_tokens)
    cached = [into.get("cached_tokens")]
    cached += [usage.get(key) for key in ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")]
    facts.cache_read_tokens = next((count for count in cached if count is not None), None)
    facts.cache_write_tokens = into.get("cache_write_tokens")
    facts.reasoning_tokens = out_of.get("reasoning_tokens")
    for side, details in (("input", into), ("output", out_of)):
        for kind in ("audio", "text", "image"):
            setattr(facts, f"{side}_{kind}_tokens", details.get(f"{kind}_tokens"))
    facts.accepted_prediction_tokens = out_of.get("accepted_prediction_tokens")
    facts.rejected_prediction_tokens = out_of.get("rejected_prediction_tokens")
    facts.web_search_requests = (usage.get("server_tool_use_details") or {}).get("web_search_requests")
    cost = usage.get("cost")
    facts.cost_usd = None if cost is None else Decimal(str(cost))


def _read_anthropic_usage(facts: Facts, usage: Json) -> None:
    facts.cache_read_tokens = usage.get("cache_read_input_tokens")
    facts.cache_write_tokens = usage.get("cache_creation_input_tokens")
    fresh = usage.get("input_tokens")
    if fresh is not None:
        facts.input_tokens = fresh + (facts.cache_read_tokens or 0) + (facts.cache_write_tokens or 0)
    facts.output_tokens = usage.get("output_tokens")
    for run in usage.get("iterations") or []:
        if run.get("type") in {"advisor_message", "compaction"}:
            # The top level leaves them out: it is the sum of the `message` entries.
            taken = sum(run[name] or 0 for name in run if name.endswith("input_tokens"))
            facts.input_tokens = (facts.input_tokens or 0) + taken
            facts.output_tokens = (facts.output_tokens or 0) + run["output_tokens"]
    facts.total_tokens = _total(None, facts.input_tokens, facts.output_tokens)
    kept = usage.get("cache_creation") or {}
    facts.cache_write_5m_tokens = kept.get("ephemeral_5m_input_tokens")
    facts.cache_write_1h_tokens = kept.get("ephemeral_1h_input_tokens")
    facts.reasoning_tokens = (usage.get("output_tokens_details") or {}).get("thinking_tokens")
    served = usage.get("server_tool_use") or {}
    facts.web_search_requests = served.get("web_search_requests")
    facts.web_fetch_requests = served.get("web_fetch_requests")
    facts.service_tier = stated(usage.get("service_tier"))


def _read_error(facts: Facts, endpoint: str, error: object) -> None:
    """The error's code, else its type, stands for what went wrong: the conventions ask for the code."""
    if not isinstance(error, dict):
        return
    facts.error_code = stated(error.get("code"))
    facts.error_type = facts.error_code or stated(error.get("type"))
    facts.error_param = stated(error.get("param"))
    facts.error_message = stated(error.get("message"))


def _total(given: int | None, *parts: int | None) -> int | None:
    """The provider's own total, else the sum of what is known in full."""
    if given is not None:
        return given
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _per_choice(texts: list[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Texts of each choice; empty where no choice has any."""
    return tuple(texts) if any(texts) else ()


def stated(value: Any) -> Any:
    """Return the value, or None for the empty string, which states nothing."""
    return None if value == "" else value


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


_READERS: dict[str, Callable[[Facts, Json], None]] = {
    "chat_completions": _read_chat,
    "completions": _read_completions,
    "embeddings": _read_embeddings,
    "responses": _read_responses,
    "messages": _read_messages,
    "count_tokens": lambda _facts, _body: None,
}
_FOLDS: dict[str, Callable[[list[Json]], Json]] = {
    "chat_completions": _fold_chat,
    "completions": _fold_completions,
    "responses": _fold_responses,
    "messages": _fold_messages,
}
