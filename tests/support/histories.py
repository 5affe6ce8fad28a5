"""Generated histories of LLM calls, each with its truth: a proof for the joining of calls to runs.

`generate(seed)` makes one small world of calls, `score(history, assignment)` judges what a joiner made of
it.  Only the standard library is used, nothing is read, and a seed always gives the same world.
`python histories.py` runs the self-test.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

Wire = Literal[
    "openai chat",
    "openai responses",
    "anthropic messages",
    "gemini generateContent",
    "cohere v2",
    "bedrock converse",
]
Level = Literal["full", "messages", "metadata", "off"]
Outcome = Literal["answered", "cut", "failed"]
Knowable = Literal["first", "ids", "history", "none"]
Json = dict[str, Any]

WIRES: tuple[Wire, ...] = (
    "openai chat",
    "openai responses",
    "anthropic messages",
    "gemini generateContent",
    "cohere v2",
    "bedrock converse",
)
KINDS: tuple[str, ...] = (
    "twins",
    "forks",
    "edits",
    "retries",
    "windows",
    "compaction",
    "sub-agents",
    "workers",
    "late",
    "reordered",
    "redactor",
    "users",
    "tool-name ids",
    "repeated ids",
    "absent ids",
    "parallel tools",
    "cut",
    "system changes",
    "tool changes",
    "tenants",
    "levels",
    "react",
    "one-shots",
    "handover",
    "few-shot",
    "wire change",
    "stored state",
    "seals",
    "no tools",
    "audit",
)
MASK = "[x]"
BASE_TIME = 1_795_000_000.0


# --- What is handed out -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One call as a recorder meets it.  Bodies are those of the wire, never masked: see `recorded`."""

    number: int
    started: float
    ended: float
    wire: Wire
    model: str
    path: str
    request: Json
    response: Json | None
    outcome: Outcome
    streamed: bool
    error: Json | None
    user: str | None
    service: str
    tenant: str | None
    level: Level
    redacted: bool
    process: str


@dataclass(frozen=True)
class Truth:
    """The run of a call, the call whose answer it continues, and by what the join of both can be known."""

    run: str
    predecessor: int | None
    knowable: Knowable
    why: str


@dataclass(frozen=True)
class History:
    """Calls in the order of their delivery, and the truth by number."""

    seed: int
    attempt: int
    kinds: tuple[str, ...]
    calls: tuple[Call, ...]
    truth: dict[int, Truth]


@dataclass
class Score:
    """Counts of one history, or (by `+`) of many."""

    calls: int = 0
    wrong_pairs: int = 0
    wrong_runs: int = 0
    ids_made: int = 0
    ids_owed: int = 0
    history_made: int = 0
    history_owed: int = 0
    unowed_made: int = 0
    unowed: int = 0
    detail: dict[str, list[int]] = field(default_factory=dict)
    wrong: list[tuple[int, int, int]] = field(default_factory=list)
    missed: list[tuple[int, int, str]] = field(default_factory=list)

    def __add__(self, other: Score) -> Score:
        detail = {key: list(value) for key, value in self.detail.items()}
        for key, (made, total) in other.detail.items():
            mine = detail.setdefault(key, [0, 0])
            mine[0] += made
            mine[1] += total
        return Score(
            self.calls + other.calls,
            self.wrong_pairs + other.wrong_pairs,
            self.wrong_runs + other.wrong_runs,
            self.ids_made + other.ids_made,
            self.ids_owed + other.ids_owed,
            self.history_made + other.history_made,
            self.history_owed + other.history_owed,
            self.unowed_made + other.unowed_made,
            self.unowed + other.unowed,
            detail,
            (self.wrong + other.wrong)[:100],
            (self.missed + other.missed)[:100],
        )

    @property
    def ids_rate(self) -> float:
        return self.ids_made / self.ids_owed if self.ids_owed else 1.0

    @property
    def history_rate(self) -> float:
        return self.history_made / self.history_owed if self.history_owed else 1.0


def score(history: History, assignment: dict[int, str]) -> Score:
    """What an assignment of numbers to runs is worth; a number without a run is alone."""
    truth = history.truth
    unknown = set(assignment) - set(truth)
    if unknown:
        raise ValueError(f"not calls of this history: {sorted(unknown)[:5]}")
    result = Score(calls=len(truth))
    members: dict[str, list[int]] = defaultdict(list)
    for number, run in assignment.items():
        members[run].append(number)
    for numbers in members.values():
        of_run = Counter(truth[number].run for number in numbers)
        if len(of_run) < 2:
            continue
        same = sum(n * (n - 1) // 2 for n in of_run.values())
        result.wrong_pairs += len(numbers) * (len(numbers) - 1) // 2 - same
        result.wrong_runs += 1
        if len(result.wrong) < 100:
            first = min(numbers)
            other = next(n for n in sorted(numbers) if truth[n].run != truth[first].run)
            result.wrong.append((history.seed, first, other))
    levels = {call.number: call.level for call in history.calls}
    for number, entry in truth.items():
        before = entry.predecessor
        if before is None:
            continue
        mine = assignment.get(number)
        made = int(mine is not None and mine == assignment.get(before))
        if entry.knowable == "ids":
            result.ids_owed += 1
            result.ids_made += made
        elif entry.knowable == "history":
            result.history_owed += 1
            result.history_made += made
        else:
            result.unowed += 1
            result.unowed_made += made
        if not made and entry.knowable != "none" and len(result.missed) < 100:
            result.missed.append((history.seed, number, entry.why))
        keys = [f"{entry.knowable}: {entry.why}"]
        if entry.knowable != "none":
            keys.append(f"{entry.knowable} at {levels[number]}")
        for key in keys:
            count = result.detail.setdefault(key, [0, 0])
            count[0] += made
            count[1] += 1
    return result


_TEXT_KEYS = frozenset(
    ("text", "content", "thinking", "system", "instructions", "input", "tool_plan", "output", "data")
)
_ARGUMENT_KEYS = frozenset(("arguments", "args", "input", "response", "json", "partial_json"))


def recorded(call: Call) -> tuple[Json, Json | None]:
    """The bodies as a redactor leaves them that makes every text, argument and result `MASK`.

    For harnesses that write records instead of making calls.  Such records must be *marked* as redacted:
    their texts are all alike, and say nothing."""
    if not call.redacted:
        return call.request, call.response
    return _masked(call.request), None if call.response is None else _masked(call.response)


def _masked(value: Any, key: str = "", arguments: bool = False) -> Any:
    if isinstance(value, dict):
        if "parameters" in value or "input_schema" in value or "inputSchema" in value:
            return value
        inner = arguments or key in _ARGUMENT_KEYS
        return {name: _masked(entry, name, inner) for name, entry in value.items()}
    if isinstance(value, list):
        # what stands in a list has no name of its own: `input` of Responses holds messages, not arguments
        return [_masked(entry, key if isinstance(entry, str) else "", arguments) for entry in value]
    if isinstance(value, str) and key == "arguments" and not arguments:
        return json.dumps(_masked(_loaded(value), "", True))
    if isinstance(value, str) and (arguments or key in _TEXT_KEYS):
        return MASK if value else value
    return value


# --- Typed messages, as the generator thinks ----------------------------------------------------------


class Text(NamedTuple):
    text: str


class Ask(NamedTuple):
    """A tool call."""

    id: str | None
    name: str
    args: Json


class Result(NamedTuple):
    id: str | None
    name: str
    content: str
    error: bool


class Thought(NamedTuple):
    text: str
    seal: str | None
    item: str


Part = Text | Ask | Result | Thought


class Message(NamedTuple):
    role: str
    parts: tuple[Part, ...]


class Step(NamedTuple):
    """An answer with tool calls, and what the tools give."""

    text: str
    calls: tuple[tuple[str, Json, str], ...]


class Turn(NamedTuple):
    user: str
    steps: tuple[Step, ...]
    final: str


@dataclass
class Style:
    """How a client writes its history, and a provider its ids."""

    ids: str = "unique"
    as_parts: bool = False
    respace: bool = False
    cache_marks: bool = False
    item_ids: bool = True
    thoughts: str = "none"
    strip: bool = False
    react: str = ""
    state: str = "resend"
    container: bool = False
    clock: bool = False
    window: int = 0
    bare_input: bool = False


@dataclass(frozen=True)
class Group:
    user: str | None
    service: str
    tenant: str | None
    level: Level
    redacted: bool
    processes: tuple[str, ...]


@dataclass
class Draft:
    """A call while its world is made; `index` is its identity."""

    index: int
    run: str
    predecessor: int | None
    started: float
    ended: float
    wire: Wire
    model: str
    path: str
    request: Json
    response: Json | None
    outcome: Outcome
    streamed: bool
    error: Json | None
    group: Group
    process: str


@dataclass
class Conversation:
    run: str
    group: Group
    wire: Wire
    model: str
    style: Style
    instructions: str
    tools: tuple[str, ...]
    script: list[Turn]
    now: float
    rates: dict[str, float]
    began: float = 0.0
    messages: list[Message] = field(default_factory=list)
    head: int | None = None
    head_response: str | None = None
    fresh: int = 0
    held: str | None = None
    container: str | None = None
    sticky: str | None = None
    sequence: int = 0
    snapshots: list[tuple[int, int | None, str | None, int]] = field(default_factory=list)
    issued: list[str] = field(default_factory=list)


# --- Words ---------------------------------------------------------------------------------------------

_OPENERS = (
    "hi",
    "Hello",
    "What is the weather in Paris?",
    "Where is my order?",
    "Plan a trip to Rome.",
    "Summarise the meeting.",
    "What is 17 * 23?",
    "Fix the failing test.",
    "ok",
)
_FOLLOWS = ("yes", "ok", "go on", "And tomorrow?", "Why?", "hi", "thanks", "Try again.", "no", "Hello")
_ANSWERS = (
    "Yes.",
    "Yes. Certainly, I can do that for you.",
    "Here is what I found: nothing unusual.",
    "Hello! How can I help you today?",
    "It is sunny, 21 degrees.",
    "Done.",
    "Done. Anything else?",
)
_INSTRUCTIONS = (
    "You are a helpful assistant.",
    "You are a support agent of a shop.",
    "You write code.",
    "",
)
_SUB_INSTRUCTIONS = ("You are a researcher. Answer in one line.", "You check facts.", "You are a planner.")
_CLASSIFY = "Classify the mood of the text as positive or negative. One word."
_TOOLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "get_weather": ("city", ("Paris", "Rome", "Oslo")),
    "search": ("query", ("opening hours", "rail strike", "python typing")),
    "calculator": ("expression", ("17 * 23", "2 + 2", "10 / 4")),
    "lookup_order": ("order_id", ("A-17", "B-23", "C-42")),
}
_AGENT_TOOLS = ("ask_researcher", "delegate")
_MODELS: dict[Wire, str] = {
    "openai chat": "gpt-5.1-mini",
    "openai responses": "gpt-5.1",
    "anthropic messages": "claude-sonnet-4-5",
    "gemini generateContent": "gemini-3-flash",
    "cohere v2": "command-a-03-2025",
    "bedrock converse": "anthropic.claude-sonnet-4-5-v1:0",
}
_OTHER_MODELS: dict[Wire, str] = {
    "openai chat": "gpt-5.1-nano",
    "openai responses": "gpt-5.1-pro",
    "anthropic messages": "claude-haiku-4-5",
    "gemini generateContent": "gemini-3-pro",
    "cohere v2": "command-r7b-12-2024",
    "bedrock converse": "amazon.nova-pro-v1:0",
}
_EXAMPLE_ID = "call_example_0001"
_DUMMY_SEAL = "skip_thought_signature_validator"


def _schema(name: str) -> Json:
    key = _TOOLS[name][0] if name in _TOOLS else "task"
    return {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]}


# --- The wires: requests and responses ----------------------------------------------------------------


def _arguments(args: Json, spaced: bool) -> str:
    return json.dumps(args) if spaced else json.dumps(args, separators=(",", ":"))


def _path(wire: Wire, model: str, streamed: bool) -> str:
    if wire == "openai chat":
        return "/v1/chat/completions"
    if wire == "openai responses":
        return "/v1/responses"
    if wire == "anthropic messages":
        return "/v1/messages"
    if wire == "gemini generateContent":
        return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if streamed else "generateContent")
    if wire == "cohere v2":
        return "/v2/chat"
    return f"/model/{model}/" + ("converse-stream" if streamed else "converse")


def _render_request(
    wire: Wire,
    model: str,
    instructions: str,
    messages: list[Message],
    tools: tuple[str, ...],
    style: Style,
    streamed: bool,
) -> Json:
    if style.thoughts == "drop" or style.thoughts == "none":
        messages = [Message(m.role, tuple(p for p in m.parts if not isinstance(p, Thought))) for m in messages]
    body: Json
    if wire == "openai chat":
        body = {"model": model, "messages": []}
        if instructions:
            body["messages"].append({"role": "system", "content": instructions})
        for m in messages:
            body["messages"].extend(_chat_message(m, style, False))
        if tools:
            body["tools"] = [
                {"type": "function", "function": {"name": t, "description": t, "parameters": _schema(t)}} for t in tools
            ]
        if streamed:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
    elif wire == "openai responses":
        items: list[Json] = []
        for m in messages:
            items.extend(_response_items(m, style))
        body = {"model": model, "input": items}
        if style.bare_input and len(items) == 1 and items[0].get("role") == "user":
            text = items[0]["content"]
            body["input"] = text if isinstance(text, str) else text[0]["text"]
        if instructions:
            body["instructions"] = instructions
        if tools:
            body["tools"] = [{"type": "function", "name": t, "description": t, "parameters": _schema(t)} for t in tools]
        if style.state == "resend":
            body["store"] = False
            if style.thoughts != "none":
                body["include"] = ["reasoning.encrypted_content"]
        if streamed:
            body["stream"] = True
    elif wire == "anthropic messages":
        rendered = [_anthropic_message(m, style) for m in messages]
        body = {"model": model, "max_tokens": 1024, "messages": rendered}
        if instructions:
            body["system"] = [{"type": "text", "text": instructions}] if style.as_parts else instructions
        if tools:
            body["tools"] = [{"name": t, "description": t, "input_schema": _schema(t)} for t in tools]
        if style.thoughts != "none":
            body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        if style.cache_marks and rendered:
            last = rendered[-1]
            if isinstance(last["content"], str):
                last["content"] = [{"type": "text", "text": last["content"]}]
            last["content"][-1]["cache_control"] = {"type": "ephemeral"}
        if streamed:
            body["stream"] = True
    elif wire == "gemini generateContent":
        body = {"contents": [_gemini_content(m, style) for m in messages]}
        if instructions:
            body["systemInstruction"] = {"parts": [{"text": instructions}]}
        if tools:
            body["tools"] = [
                {"functionDeclarations": [{"name": t, "description": t, "parameters": _schema(t)} for t in tools]}
            ]
        body["generationConfig"] = {"temperature": 0}
    elif wire == "cohere v2":
        body = {"model": model, "messages": []}
        if instructions:
            body["messages"].append({"role": "system", "content": instructions})
        for m in messages:
            body["messages"].extend(_chat_message(m, style, True))
        if tools:
            body["tools"] = [
                {"type": "function", "function": {"name": t, "description": t, "parameters": _schema(t)}} for t in tools
            ]
        body["stream"] = streamed
    else:
        body = {"messages": [_bedrock_message(m) for m in messages], "inferenceConfig": {"maxTokens": 1024}}
        if instructions:
            body["system"] = [{"text": instructions}]
        if tools:
            body["toolConfig"] = {
                "tools": [
                    {"toolSpec": {"name": t, "description": t, "inputSchema": {"json": _schema(t)}}} for t in tools
                ]
            }
        if style.cache_marks and messages:
            body["messages"][-1]["content"].append({"cachePoint": {"type": "default"}})
    return body


def _texts(m: Message) -> str:
    return "".join(p.text for p in m.parts if isinstance(p, Text))


def _chat_message(m: Message, style: Style, cohere: bool) -> list[Json]:
    if m.role == "tool":
        out: list[Json] = []
        for p in m.parts:
            assert isinstance(p, Result)
            content: Any = p.content
            if cohere:
                content = [{"type": "document", "document": {"data": p.content}}] if style.as_parts else p.content
            out.append({"role": "tool", "tool_call_id": p.id or "", "content": content})
        return out
    text = _texts(m)
    calls = [p for p in m.parts if isinstance(p, Ask)]
    message: Json = {"role": m.role}
    if calls and cohere:
        if text:
            message["tool_plan"] = text
    elif text or not calls:
        message["content"] = [{"type": "text", "text": text}] if style.as_parts else text
    elif not style.respace:
        message["content"] = None
    if calls:
        message["tool_calls"] = [
            {
                "id": p.id or "",
                "type": "function",
                "function": {"name": p.name, "arguments": _arguments(p.args, style.respace)},
            }
            for p in calls
        ]
    return [message]


def _response_items(m: Message, style: Style) -> list[Json]:
    out: list[Json] = []
    if m.role == "user":
        text = _texts(m)
        return [{"role": "user", "content": [{"type": "input_text", "text": text}] if style.as_parts else text}]
    for p in m.parts:
        if isinstance(p, Text):
            item: Json = {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": p.text, "annotations": []}],
            }
            out.append(item)
        elif isinstance(p, Ask):
            out.append(
                {
                    "type": "function_call",
                    "call_id": p.id or "",
                    "name": p.name,
                    "arguments": _arguments(p.args, style.respace),
                }
            )
        elif isinstance(p, Result):
            out.append({"type": "function_call_output", "call_id": p.id or "", "output": p.content})
        elif p.seal is not None:
            thought: Json = {"type": "reasoning", "summary": [], "encrypted_content": p.seal}
            if style.item_ids:
                thought["id"] = p.item
            out.append(thought)
    return out


def _anthropic_blocks(m: Message) -> list[Json]:
    blocks: list[Json] = []
    for p in m.parts:
        if isinstance(p, Text):
            blocks.append({"type": "text", "text": p.text})
        elif isinstance(p, Ask):
            blocks.append({"type": "tool_use", "id": p.id or "", "name": p.name, "input": dict(p.args)})
        elif isinstance(p, Result):
            block: Json = {"type": "tool_result", "tool_use_id": p.id or "", "content": p.content}
            if p.error:
                block["is_error"] = True
            blocks.append(block)
        else:
            blocks.append({"type": "thinking", "thinking": p.text, "signature": p.seal or ""})
    return blocks


def _anthropic_message(m: Message, style: Style) -> Json:
    blocks = _anthropic_blocks(m)
    role = "assistant" if m.role == "assistant" else "user"
    if len(blocks) == 1 and blocks[0]["type"] == "text" and not style.as_parts:
        return {"role": role, "content": blocks[0]["text"]}
    return {"role": role, "content": blocks}


def _gemini_content(m: Message, style: Style) -> Json:
    parts: list[Json] = []
    seal: str | None = None
    for p in m.parts:
        if isinstance(p, Thought):
            seal = _DUMMY_SEAL if style.thoughts == "dummy" else p.seal
            continue
        if isinstance(p, Text):
            part: Json = {"text": p.text}
        elif isinstance(p, Ask):
            part = {"functionCall": {"name": p.name, "args": dict(p.args)}}
            if p.id is not None:
                part["functionCall"]["id"] = p.id
        else:
            part = {"functionResponse": {"name": p.name, "response": {"error" if p.error else "result": p.content}}}
            if p.id is not None:
                part["functionResponse"]["id"] = p.id
        if seal is not None:
            part["thoughtSignature"] = seal
            seal = None
        parts.append(part)
    return {"role": "model" if m.role == "assistant" else "user", "parts": parts}


def _bedrock_message(m: Message) -> Json:
    blocks: list[Json] = []
    for p in m.parts:
        if isinstance(p, Text):
            blocks.append({"text": p.text})
        elif isinstance(p, Ask):
            blocks.append({"toolUse": {"toolUseId": p.id or "", "name": p.name, "input": dict(p.args)}})
        elif isinstance(p, Result):
            result: Json = {"toolUseId": p.id or "", "content": [{"text": p.content}]}
            if p.error:
                result["status"] = "error"
            blocks.append({"toolResult": result})
        else:
            blocks.append({"reasoningContent": {"reasoningText": {"text": p.text, "signature": p.seal or ""}}})
    return {"role": "assistant" if m.role == "assistant" else "user", "content": blocks}


def _render_response(
    wire: Wire, model: str, answer: Message, cut: bool, ident: str, request: Json, created: float, style: Style
) -> Json:
    calls = [p for p in answer.parts if isinstance(p, Ask)]
    text = _texts(answer)
    used, made = 20 + 10 * len(json.dumps(request)) // 40, 1 + len(text) // 4
    if wire == "openai chat":
        message = _chat_message(answer, Style(), False)[0]
        message.setdefault("content", None)
        message["refusal"] = None
        finish = None if cut else "tool_calls" if calls else "stop"
        body: Json = {
            "id": f"chatcmpl-{ident}",
            "object": "chat.completion",
            "created": int(created),
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        }
        if not cut:
            body["usage"] = {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made}
        return body
    if wire == "openai responses":
        output: list[Json] = []
        for place, item in enumerate(_response_items(answer, Style())):
            if item["type"] != "reasoning":
                prefix = "msg" if item["type"] == "message" else "fc"
                item = {"id": f"{prefix}_{ident}{place}", **item, "status": "incomplete" if cut else "completed"}
            output.append(item)
        body = {
            "id": f"resp_{ident}",
            "object": "response",
            "created_at": int(created),
            "status": "in_progress" if cut else "completed",
            "model": model,
            "output": output,
            "previous_response_id": request.get("previous_response_id"),
            "instructions": request.get("instructions"),
            "usage": None,
        }
        if "conversation" in request:
            body["conversation"] = {"id": request["conversation"]}
        if not cut:
            body["usage"] = {"input_tokens": used, "output_tokens": made, "total_tokens": used + made}
        return body
    if wire == "anthropic messages":
        body = {
            "id": f"msg_{ident}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": _anthropic_blocks(answer),
            "stop_reason": None if cut else "tool_use" if calls else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": used, "output_tokens": 1 if cut else made},
        }
        return body
    if wire == "gemini generateContent":
        content = _gemini_content(answer, Style())
        thoughts = [p for p in answer.parts if isinstance(p, Thought)]
        if thoughts and thoughts[0].text:
            content["parts"].insert(0, {"text": thoughts[0].text, "thought": True})
        candidate: Json = {"content": content, "index": 0}
        body = {"candidates": [candidate], "modelVersion": model, "responseId": ident}
        if not cut:
            candidate["finishReason"] = "STOP"
            body["usageMetadata"] = {
                "promptTokenCount": used,
                "candidatesTokenCount": made,
                "totalTokenCount": used + made,
            }
        return body
    if wire == "cohere v2":
        message = {"role": "assistant"}
        if calls:
            message["tool_plan"] = text
            message["tool_calls"] = _chat_message(answer, Style(), True)[0]["tool_calls"]
        else:
            message["content"] = [{"type": "text", "text": text}]
        body = {"id": ident, "message": message}
        if not cut:
            body["finish_reason"] = "TOOL_CALL" if calls else "COMPLETE"
            body["usage"] = {"tokens": {"input_tokens": used, "output_tokens": made}}
        return body
    body = {"output": {"message": _bedrock_message(answer)}, "metrics": {"latencyMs": 300}}
    if not cut:
        body["stopReason"] = "tool_use" if calls else "end_turn"
        body["usage"] = {"inputTokens": used, "outputTokens": made, "totalTokens": used + made}
    return body


def stream(call: Call) -> list[Json]:
    """A streamed call's answer as the events of its wire (data of each server-sent event; Bedrock: event
    name to payload).  A cut stream simply ends: no finish, no usage, no `[DONE]`."""
    body = call.response
    if body is None or not call.streamed:
        raise ValueError("not a streamed answer")
    return list(_EVENTS[call.wire](body, call.outcome == "cut"))


def _pieces(text: str) -> list[str]:
    return [text[at : at + 12] for at in range(0, len(text), 12)]


def _chat_events(body: Json, cut: bool) -> Iterator[Json]:
    head = {
        "id": body["id"],
        "object": "chat.completion.chunk",
        "created": body["created"],
        "model": body["model"],
    }
    choice = body["choices"][0]

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in _pieces(choice["message"].get("content") or ""):
        yield chunk({"content": piece})
    for place, tool in enumerate(choice["message"].get("tool_calls") or ()):
        function = {"name": tool["function"]["name"], "arguments": ""}
        yield chunk({"tool_calls": [{"index": place, "id": tool["id"], "type": "function", "function": function}]})
        for piece in _pieces(tool["function"]["arguments"]):
            yield chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
    if not cut:
        yield chunk({}, choice["finish_reason"])
        yield {**head, "choices": [], "usage": body["usage"]}


def _responses_events(body: Json, cut: bool) -> Iterator[Json]:
    started = {**body, "status": "in_progress", "output": [], "usage": None}
    number = 0

    def event(kind: str, **more: Any) -> Json:
        nonlocal number
        number += 1
        return {"type": kind, "sequence_number": number - 1, **more}

    yield event("response.created", response=started)
    yield event("response.in_progress", response=started)
    for place, item in enumerate(body["output"]):
        last = cut and place == len(body["output"]) - 1
        if item["type"] == "message":
            text = item["content"][0]["text"]
            at = {"item_id": item["id"], "output_index": place, "content_index": 0}
            yield event(
                "response.output_item.added",
                output_index=place,
                item={**item, "content": [], "status": "in_progress"},
            )
            part = {"type": "output_text", "text": "", "annotations": []}
            yield event("response.content_part.added", part=part, **at)
            for piece in _pieces(text):
                yield event("response.output_text.delta", delta=piece, logprobs=[], **at)
            if last:
                return
            yield event("response.output_text.done", text=text, logprobs=[], **at)
            yield event("response.content_part.done", part=item["content"][0], **at)
        elif item["type"] == "function_call":
            at = {"item_id": item["id"], "output_index": place}
            yield event(
                "response.output_item.added",
                output_index=place,
                item={**item, "arguments": "", "status": "in_progress"},
            )
            for piece in _pieces(item["arguments"]):
                yield event("response.function_call_arguments.delta", delta=piece, **at)
            if last:
                return
            yield event("response.function_call_arguments.done", arguments=item["arguments"], **at)
        else:
            yield event("response.output_item.added", output_index=place, item=item)
        yield event("response.output_item.done", output_index=place, item=item)
    if not cut:
        yield event("response.completed", response=body)


def _anthropic_events(body: Json, cut: bool) -> Iterator[Json]:
    usage = {"input_tokens": body["usage"]["input_tokens"], "output_tokens": 1}
    yield {"type": "message_start", "message": {**body, "content": [], "stop_reason": None, "usage": usage}}
    for place, block in enumerate(body["content"]):
        last = cut and place == len(body["content"]) - 1
        if block["type"] == "text":
            start: Json = {"type": "text", "text": ""}
            deltas: list[Json] = [{"type": "text_delta", "text": p} for p in _pieces(block["text"])]
        elif block["type"] == "thinking":
            start = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": p} for p in _pieces(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        else:
            start = {**block, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": p} for p in _pieces(json.dumps(block["input"]))]
        yield {"type": "content_block_start", "index": place, "content_block": start}
        for piece in deltas:
            yield {"type": "content_block_delta", "index": place, "delta": piece}
        if not last:
            yield {"type": "content_block_stop", "index": place}
    if not cut:
        delta: Json = {"stop_reason": body["stop_reason"], "stop_sequence": None}
        if "container" in body:
            delta["container"] = body["container"]
        yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": body["usage"]["output_tokens"]}}
        yield {"type": "message_stop"}


def _gemini_events(body: Json, cut: bool) -> Iterator[Json]:
    candidate = body["candidates"][0]
    head = {"modelVersion": body["modelVersion"], "responseId": body["responseId"]}
    parts: list[Json] = []
    for part in candidate["content"]["parts"]:
        if set(part) == {"text"}:
            parts.extend({"text": piece} for piece in _pieces(part["text"]))
        else:
            parts.append(part)
    for place, part in enumerate(parts or [{"text": ""}]):
        chunk: Json = {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}], **head}
        if not cut and place >= len(parts) - 1:
            chunk["candidates"][0]["finishReason"] = candidate["finishReason"]
            chunk["usageMetadata"] = body["usageMetadata"]
        yield chunk


def _cohere_events(body: Json, cut: bool) -> Iterator[Json]:
    message = body["message"]
    yield {
        "type": "message-start",
        "id": body["id"],
        "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}},
    }
    for piece in _pieces(message.get("tool_plan") or ""):
        yield {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": piece}}}
    for place, tool in enumerate(message.get("tool_calls") or ()):
        start = {**tool, "function": {"name": tool["function"]["name"], "arguments": ""}}
        yield {"type": "tool-call-start", "index": place, "delta": {"message": {"tool_calls": start}}}
        for piece in _pieces(tool["function"]["arguments"]):
            delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
            yield {"type": "tool-call-delta", "index": place, "delta": delta}
        yield {"type": "tool-call-end", "index": place}
    for place, block in enumerate(message.get("content") or ()):
        start = {"message": {"content": {"type": "text", "text": ""}}}
        yield {"type": "content-start", "index": place, "delta": start}
        for piece in _pieces(block["text"]):
            yield {"type": "content-delta", "index": place, "delta": {"message": {"content": {"text": piece}}}}
        if not cut:
            yield {"type": "content-end", "index": place}
    if not cut:
        yield {"type": "message-end", "delta": {"finish_reason": body["finish_reason"], "usage": body["usage"]}}


def _bedrock_events(body: Json, cut: bool) -> Iterator[Json]:
    blocks = body["output"]["message"]["content"]
    yield {"messageStart": {"role": "assistant"}}
    for place, block in enumerate(blocks):
        deltas: list[Json]
        if "text" in block:
            deltas = [{"text": piece} for piece in _pieces(block["text"])]
        elif "toolUse" in block:
            use = block["toolUse"]
            start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
            yield {"contentBlockStart": {"start": start, "contentBlockIndex": place}}
            deltas = [{"toolUse": {"input": piece}} for piece in _pieces(json.dumps(use["input"]))]
        else:
            thought = block["reasoningContent"]["reasoningText"]
            deltas = [{"reasoningContent": {"text": piece}} for piece in _pieces(thought["text"])]
            deltas.append({"reasoningContent": {"signature": thought["signature"]}})
        for delta in deltas:
            yield {"contentBlockDelta": {"delta": delta, "contentBlockIndex": place}}
        if not (cut and place == len(blocks) - 1):
            yield {"contentBlockStop": {"contentBlockIndex": place}}
    if not cut:
        yield {"messageStop": {"stopReason": body["stopReason"]}}
        yield {"metadata": {"usage": body["usage"], "metrics": body["metrics"]}}


_EVENTS: dict[Wire, Callable[[Json, bool], Iterator[Json]]] = {
    "openai chat": _chat_events,
    "openai responses": _responses_events,
    "anthropic messages": _anthropic_events,
    "gemini generateContent": _gemini_events,
    "cohere v2": _cohere_events,
    "bedrock converse": _bedrock_events,
}


# --- The world -----------------------------------------------------------------------------------------

_RATES: dict[str, float] = {
    "retries": 0.15,
    "cut": 0.12,
    "edits": 0.2,
    "windows": 0.5,
    "compaction": 0.25,
    "sub-agents": 0.5,
    "system changes": 0.25,
    "tool changes": 0.3,
    "wire change": 0.2,
    "forks": 0.5,
}
_ID_PREFIX: dict[Wire, str] = {
    "openai chat": "call_",
    "openai responses": "call_",
    "anthropic messages": "toolu_01",
    "gemini generateContent": "fc-",
    "cohere v2": "",
    "bedrock converse": "tooluse_",
}


class _World:
    def __init__(self, seed: int, attempt: int) -> None:
        self.seed = seed
        self.rng = rng = random.Random(f"histories/{seed}/{attempt}")
        share = rng.choice((0.1, 0.25, 0.4))
        self.kinds = frozenset(
            kind for kind in KINDS if rng.random() < (max(share, 0.35) if kind in ("twins", "workers") else share)
        )
        self.drafts: list[Draft] = []
        self.runs = 0
        self.span = rng.choice((5.0, 60.0, 900.0))
        self.sameness = rng.choice((0.2, 0.6, 0.95))
        self.topics = 0
        self.answers: dict[str, str] = {}
        workers = rng.randint(2, 4) if "workers" in self.kinds else 1
        self.services: list[tuple[str, Level, bool, tuple[str, ...]]] = []
        for place in range(rng.choice((1, 1, 2))):
            level: Level = "full"
            if "levels" in self.kinds and rng.random() < 0.6:
                level = rng.choice(("messages", "metadata", "metadata", "off"))
            redacted = "redactor" in self.kinds and rng.random() < 0.6
            name = ("chat", "batch")[place]
            self.services.append((name, level, redacted, tuple(f"{name}-{n}" for n in range(1, workers + 1))))
        users: list[str | None] = ["u1", "u2", "u3"] if "users" in self.kinds else [rng.choice((None, None, "u1"))]
        if "users" in self.kinds and rng.random() < 0.3:
            users.append(None)
        self.users = users
        self.tenants: list[str | None] = [None]
        if "tenants" in self.kinds:
            self.tenants = ["acme", "globex"] + ([None] if rng.random() < 0.2 else [])
        self.wires: list[Wire] = rng.sample(WIRES, rng.choice((1, 1, 2, 3)))
        self.skew = {}
        if "workers" in self.kinds and rng.random() < 0.3:
            self.skew = {p: rng.uniform(-2, 2) for s in self.services for p in s[3]}

    def on(self, kind: str, rate: float) -> bool:
        return kind in self.kinds and self.rng.random() < rate

    # -- plans

    def group(self) -> Group:
        rng = self.rng
        name, level, redacted, processes = rng.choice(self.services)
        if "levels" in self.kinds and rng.random() < 0.15:
            level = rng.choice(("full", "messages", "metadata"))
        return Group(rng.choice(self.users), name, rng.choice(self.tenants), level, redacted, processes)

    def ident(self) -> str:
        return f"{self.rng.getrandbits(96):024x}"

    def user_text(self, first: bool) -> str:
        rng = self.rng
        if rng.random() < self.sameness:
            return rng.choice(_OPENERS if first else _FOLLOWS)
        self.topics += 1
        return f"{rng.choice(_OPENERS if first else _FOLLOWS)} (matter {self.topics}-{rng.randrange(10**6)})"

    def answer_text(self, key: str) -> str:
        """The answer of a provider that mostly says the same to the same."""
        rng = self.rng
        if key in self.answers and rng.random() < self.sameness:
            return self.answers[key]
        text = rng.choice(_ANSWERS)
        if rng.random() > self.sameness:
            text += f" Reference {rng.randrange(10**6)}."
        if rng.random() < 0.1:
            text += "\n"
        self.answers.setdefault(key, text)
        return text

    def tool_step(self, tools: tuple[str, ...], key: str) -> Step:
        rng = self.rng
        usable = [t for t in tools if t in _TOOLS] or ["search"]
        count = rng.randint(2, 3) if self.on("parallel tools", 0.5) else 1
        calls = []
        for _ in range(count):
            name = rng.choice(usable)
            parameter, values = _TOOLS[name]
            value = rng.choice(values)
            if rng.random() > self.sameness:
                value += f" {rng.randrange(1000)}"
            calls.append((name, {parameter: value}, f"{name}: result for {value}"))
        text = "" if rng.random() < 0.5 else self.answer_text(f"{key}/plan")
        return Step(text, tuple(calls))

    def script(self, tools: tuple[str, ...], turns: int) -> list[Turn]:
        rng = self.rng
        out = []
        for place in range(turns):
            user = self.user_text(place == 0)
            steps: list[Step] = []
            if tools and rng.random() < 0.45:
                steps = [self.tool_step(tools, f"{user}/{n}") for n in range(rng.choice((1, 1, 2, 3)))]
            if tools and self.on("sub-agents", 0.4):
                task = f"Find out: {user}" if rng.random() < 0.7 else self.user_text(True)
                name = rng.choice(_AGENT_TOOLS)
                steps.append(Step("", tuple((name, {"task": task}, "") for _ in range(rng.choice((1, 1, 2))))))
            out.append(Turn(user, tuple(steps), self.answer_text(f"{user}/{len(steps)}")))
        return out

    def style(self, wire: Wire) -> Style:
        rng = self.rng
        ids = "unique"
        if self.on("tool-name ids", 0.5):
            ids = "name"
        elif self.on("repeated ids", 0.6):
            ids = rng.choice(("answer", "conversation", "function", "conversation"))
        elif wire == "cohere v2" and rng.random() < 0.5:
            ids = "name_unique"
        elif self.on("few-shot", 0.25):
            ids = "example"
        elif rng.random() < 0.1:
            ids = "short"
        if wire == "gemini generateContent" and (self.on("absent ids", 0.7) or rng.random() < 0.6):
            ids = "absent"
        elif wire == "openai chat" and self.on("absent ids", 0.1):
            ids = "absent"
        style = Style(ids=ids)
        style.as_parts = rng.random() < 0.3
        style.respace = rng.random() < 0.3
        style.cache_marks = rng.random() < 0.3
        style.item_ids = rng.random() < 0.5
        style.strip = rng.random() < 0.1
        style.bare_input = rng.random() < 0.5
        if self.on("seals", 0.7):
            style.thoughts = rng.choice(("keep", "keep", "keep", "drop"))
            if wire == "gemini generateContent" and rng.random() < 0.3:
                style.thoughts = "dummy"
        if self.on("react", 0.6):
            style.react = rng.choice(("mention", "mention", "append", "scratch"))
        elif wire == "openai responses" and self.on("stored state", 0.8):
            style.state = rng.choice(("previous", "conversation"))
        if wire == "anthropic messages" and self.on("stored state", 0.5):
            style.container = True
        style.clock = self.on("system changes", 0.2)
        if style.state == "resend" and not style.react and self.on("windows", _RATES["windows"]):
            style.window = rng.choice((1, 2, 3))
        return style

    def new_run(self) -> str:
        self.runs += 1
        return f"run-{self.runs}"

    def conversation(self) -> Conversation:
        rng = self.rng
        wire = rng.choice(self.wires)
        tools: tuple[str, ...] = ()
        if not self.on("no tools", 0.6) and rng.random() < 0.8:
            tools = tuple(rng.sample(sorted(_TOOLS), rng.choice((1, 2, 2))))
            if "sub-agents" in self.kinds:
                tools += _AGENT_TOOLS
        rates = {kind: rate if kind in self.kinds and rng.random() < 0.6 else 0.0 for kind, rate in _RATES.items()}
        turns = min(8, 1 + int(rng.expovariate(0.45)))
        conversation = Conversation(
            run=self.new_run(),
            group=self.group(),
            wire=wire,
            model=_MODELS[wire],
            style=self.style(wire),
            instructions=rng.choice(_INSTRUCTIONS),
            tools=tools,
            script=self.script(tools, turns),
            now=rng.uniform(0, self.span),
            rates=rates,
        )
        conversation.began = conversation.now
        if self.on("few-shot", 0.5):
            conversation.messages = self.few_shot(tools)
        return conversation

    def few_shot(self, tools: tuple[str, ...]) -> list[Message]:
        rng = self.rng
        question = rng.choice(_OPENERS[:3])
        messages = [Message("user", (Text(question),))]
        if tools and rng.random() < 0.5:
            ask = Ask(_EXAMPLE_ID, "search", {"query": "example"})
            messages.append(Message("assistant", (ask,)))
            messages.append(Message("tool", (Result(_EXAMPLE_ID, "search", "example found", False),)))
        messages.append(Message("assistant", (Text(self.answer_text(f"{question}/0")),)))
        return messages

    def twin(self, other: Conversation) -> Conversation:
        """A second conversation that begins as another one, or is equal to it in all words."""
        rng = self.rng
        mine = self.conversation()
        mine.script = list(other.script)
        if rng.random() < 0.5 and len(mine.script) > 1:
            keep = rng.randrange(1, len(mine.script))
            mine.script = mine.script[:keep] + self.script(other.tools, rng.randint(1, 2))
        mine.instructions = other.instructions
        mine.tools = other.tools
        mine.messages = []
        if "windows" in self.kinds and other.script[0].steps and other.style.ids == "unique" and rng.random() < 0.6:
            # its window comes to begin as the other one: ids say whose it is, words say the wrong thing
            mine.script = [*self.script(other.tools, 1), *other.script][:8]
            mine.wire, mine.model, mine.group = other.wire, other.model, other.group
            mine.style = replace(other.style, window=2, react="", state="resend")
            mine.began = mine.now = other.began + rng.uniform(0, 3)
            return mine
        if rng.random() < 0.9:
            mine.wire, mine.model = other.wire, other.model
            mine.style = replace(other.style)
            if rng.random() < 0.2:
                mine.style = self.style(mine.wire)
            elif rng.random() < 0.4:  # the same words, written otherwise
                mine.style.as_parts = rng.random() < 0.5
                mine.style.cache_marks = rng.random() < 0.5
                mine.style.bare_input = rng.random() < 0.5
        if rng.random() < 0.75:
            mine.group = other.group
        elif "users" in self.kinds:
            mine.group = replace(other.group, user=rng.choice(self.users))
        if rng.random() < 0.7:
            mine.began = mine.now = other.began + rng.uniform(0, 3)
        return mine

    # -- playing

    def emit(
        self,
        c: Conversation,
        answer: Message | None,
        outcome: Outcome,
        messages: list[Message] | None = None,
        instructions: str | None = None,
        tools: tuple[str, ...] | None = None,
    ) -> tuple[int, str]:
        """One call; gives its index and the id of its response."""
        rng = self.rng
        whole = c.messages if messages is None else messages
        style = c.style
        system = c.instructions if instructions is None else instructions
        if style.clock:
            system = f"{system} It is {int(c.now) // 3600:02}:{int(c.now) // 60 % 60:02}:{int(c.now) % 60:02}."
        sent = whole
        stored = style.state != "resend" and messages is None
        if stored and (c.head is not None or style.state == "conversation"):
            sent = whole[c.fresh :]
        elif style.window and messages is None:
            sent = _windowed(whole, style.window)
        streamed = outcome == "cut" or rng.random() < 0.4
        body = _render_request(c.wire, c.model, system, sent, c.tools if tools is None else tools, style, streamed)
        if stored and c.wire == "openai responses":
            if style.state == "conversation":
                c.held = c.held or f"conv_{self.ident()}"
                body["conversation"] = c.held
            elif c.head_response is not None:
                body["previous_response_id"] = c.head_response
        if style.container and c.container is not None and c.wire == "anthropic messages":
            body["container"] = c.container
        ident = self.ident()
        started = c.now
        ended = started + rng.uniform(0.2, 4.0)
        c.now = ended + rng.uniform(0.01, 0.5)
        response: Json | None = None
        error: Json | None = None
        if answer is None:
            status = rng.choice((429, 500, 503, None))
            error = {"status": status, "body": None if status is None else {"error": {"message": "try later"}}}
            streamed = False if status is None else streamed
        else:
            response = _render_response(
                c.wire, c.model, answer, outcome == "cut", ident, body, BASE_TIME + started, style
            )
            if outcome == "cut":
                _cut_arguments(c.wire, response, rng)
            if style.container and c.wire == "anthropic messages":
                if outcome == "answered" and c.container is None:
                    c.container = f"container_{self.ident()}"
                if c.container is not None:
                    response["container"] = {"id": c.container, "expires_at": "2026-12-31T00:00:00Z"}
        if c.sticky is None or rng.random() < 0.4:
            c.sticky = rng.choice(c.group.processes)
        off = self.skew.get(c.sticky, 0.0)
        draft = Draft(
            index=len(self.drafts),
            run=c.run,
            predecessor=c.head,
            started=started + off,
            ended=ended + off,
            wire=c.wire,
            model=c.model,
            path=_path(c.wire, c.model, streamed),
            request=body,
            response=response,
            outcome=outcome,
            streamed=streamed,
            error=error,
            group=c.group,
            process=c.sticky,
        )
        self.drafts.append(draft)
        return draft.index, f"resp_{ident}"

    def issue(self, c: Conversation, name: str, place: int) -> str | None:
        kind = c.style.ids
        if kind == "absent":
            return None
        if kind == "name":
            return name
        if kind == "answer":
            return f"call_{place}"
        if kind == "conversation":
            c.sequence += 1
            return f"call_{c.sequence}"
        if kind == "function":
            c.sequence += 1
            return f"functions.{name}:{c.sequence - 1}"
        if kind == "example":
            return _EXAMPLE_ID
        if kind == "short":
            return f"{self.rng.getrandbits(36):09x}"
        if kind == "name_unique":
            return f"{name}_{self.rng.getrandbits(48):012x}"
        made = _ID_PREFIX[c.wire] + self.ident()
        c.issued.append(made)
        return made

    def answer(self, c: Conversation, text: str, calls: Iterable[tuple[str, Json]]) -> Message:
        parts: list[Part] = []
        if c.style.thoughts != "none" and c.wire in _SEALED:
            thought = "" if c.wire == "openai responses" else "Let me think."
            parts.append(Thought(thought, f"Eq{self.ident()}{self.ident()}==", f"rs_{self.ident()}"))
        if text:
            parts.append(Text(text))
        for place, (name, args) in enumerate(calls):
            parts.append(Ask(self.issue(c, name, place), name, args))
        return Message("assistant", tuple(parts))

    def ask(self, c: Conversation, text: str, calls: tuple[tuple[str, Json], ...]) -> Message:
        """Has the provider answer, through failures, cuts and discarded answers; keeps the answer."""
        rng = self.rng
        while rng.random() < c.rates["retries"]:
            if rng.random() < 0.7:
                self.emit(c, None, "failed")
            else:  # answered, but the client had given up waiting
                other = text if rng.random() < self.sameness else f"{text} ({rng.randrange(1000)})"
                self.emit(c, self.answer(c, other, calls), "answered")
            c.now += rng.uniform(0.1, 5)
        if text and rng.random() < c.rates["cut"]:
            partial = text[: rng.randrange(len(text))]
            begun = self.answer(c, partial, ())
            if calls and c.wire in ("openai chat", "openai responses") and rng.random() < 0.3:
                begun = self.answer(c, text, calls[:1])
            cut, _ = self.emit(c, begun, "cut")
            way = rng.random()
            resend = c.style.state == "resend" and not c.style.react
            if way < 0.25 and resend and partial.strip() and not calls:  # kept as it is, asked to go on
                c.head = cut
                c.messages.append(Message("assistant", (Text(partial),)))
                c.messages.append(Message("user", (Text("continue"),)))
                text = text[len(partial) :]
            elif way < 0.5 and partial.strip() and c.wire == "anthropic messages" and resend and not calls:
                c.head = cut  # prefilled: the provider goes on where it was cut
                partial = partial.rstrip()
                before = list(c.messages)
                c.messages.append(Message("assistant", (Text(partial),)))
                rest = text[len(partial) :]
                c.head, c.head_response = self.emit(c, self.answer(c, rest, ()), "answered")
                c.messages = before + [Message("assistant", (Text(text),))]
                c.fresh = len(c.messages)
                return c.messages[-1]
        answer = self.answer(c, text, calls)
        c.head, c.head_response = self.emit(c, answer, "answered")
        self.keep(c, answer)
        c.fresh = len(c.messages)
        return answer

    def keep(self, c: Conversation, answer: Message) -> None:
        if c.style.strip:
            parts = tuple(Text(p.text.rstrip()) if isinstance(p, Text) else p for p in answer.parts)
            answer = Message("assistant", parts)
        asks = [p for p in answer.parts if isinstance(p, Ask)]
        if c.style.react == "mention" and asks:
            told = [{"id": p.id, "type": "function", "function": {"name": p.name, "arguments": p.args}} for p in asks]
            lead = _texts(answer)
            answer = Message("assistant", (Text(f"{lead}\nCalling tools:\n{told}".lstrip("\n")),))
        elif c.style.react == "scratch" and asks:
            last = c.messages[-1]
            note = "".join(f"\nAction ({p.id}): {p.name} {json.dumps(p.args)}" for p in asks)
            c.messages[-1] = Message("user", (Text(_texts(last) + note),))
            return
        c.messages.append(answer)

    def bring(self, c: Conversation, asks: list[Ask], results: list[str]) -> None:
        """The results of tools come into the history."""
        rng = self.rng
        if c.style.react == "mention":
            told = "\n".join(f"Observation:\n{content}" for content in results)
            c.messages.append(Message("user", (Text(told),)))
        elif c.style.react == "scratch":
            last = c.messages[-1]
            told = "".join(f"\nObservation: {content}" for content in results)
            c.messages[-1] = Message("user", (Text(_texts(last) + told),))
        else:
            parts = [Result(a.id, a.name, r, r.startswith("error")) for a, r in zip(asks, results, strict=False)]
            if len(parts) > 1 and rng.random() < 0.3 and c.style.ids not in ("absent", "name"):
                rng.shuffle(parts)
            c.messages.append(Message("tool", tuple(parts)))

    def play(self, c: Conversation, script: list[Turn] | None = None) -> None:
        rng = self.rng
        for turn in c.script if script is None else script:
            self.between(c)
            c.snapshots.append((len(c.messages), c.head, c.head_response, c.fresh))
            self.turn(c, turn)
            if rng.random() < c.rates["edits"] and c.style.state != "conversation" and not c.style.react:
                back = rng.choice(c.snapshots[-3:])
                self.rewind(c, back)
                words = turn.user if rng.random() < 0.3 else self.user_text(back[1] is None)
                c.now += rng.uniform(1, 20)
                self.turn(c, Turn(words, turn.steps if rng.random() < 0.5 else (), self.answer_text(words)))
            c.now += rng.uniform(0.5, 30)

    @staticmethod
    def rewind(c: Conversation, back: tuple[int, int | None, str | None, int]) -> None:
        del c.messages[back[0] :]
        c.head, c.head_response, c.fresh = back[1], back[2], back[3]
        del c.snapshots[next(n for n, s in enumerate(c.snapshots) if s == back) + 1 :]

    def turn(self, c: Conversation, turn: Turn) -> None:
        rng = self.rng
        c.messages.append(Message("user", (Text(turn.user),)))
        for step in turn.steps:
            calls = tuple((name, args) for name, args, _ in step.calls)
            if c.style.react == "append":  # the answer is text, and the loop writes the result behind it
                code = "; ".join(f"{name}({json.dumps(args)})" for name, args in calls)
                self.ask(c, f"Thought: I need a tool.\nCode: {code}", ())
                told = "; ".join(content for _, _, content in step.calls)
                last = c.messages[-1]
                c.messages[-1] = Message("assistant", (Text(f"{_texts(last)}\nObservation: {told}"),))
                if rng.random() < 0.5:
                    c.messages.append(Message("user", (Text("Go on."),)))
                    c.fresh = len(c.messages) - 1
                continue
            answer = self.ask(c, step.text, calls)
            asks = [p for p in answer.parts if isinstance(p, Ask)]
            results = []
            start = c.now
            for name, args, content in step.calls:
                if name in _AGENT_TOOLS:
                    parallel = rng.random() < 0.5
                    content, end = self.sub_agent(c, args["task"], start if parallel else c.now)
                    c.now = max(c.now, end)
                elif rng.random() < 0.1:
                    content = "error: not available"
                results.append(content)
            c.now += rng.uniform(0.01, 2)
            self.bring(c, asks, results)
            if rng.random() < 0.3 * c.rates["system changes"]:  # handed to a colleague with the whole history
                c.instructions = "You are a specialist."
        self.ask(c, turn.final, ())

    def sub_agent(self, parent: Conversation, task: str, start: float) -> tuple[str, float]:
        rng = self.rng
        wire = parent.wire if rng.random() < 0.8 else rng.choice(self.wires)
        tools = tuple(t for t in parent.tools if t in _TOOLS)
        steps = tuple(self.tool_step(tools, task) for _ in range(rng.choice((0, 0, 1, 2)))) if tools else ()
        final = self.answer_text(f"sub/{task}")
        style = self.style(wire)
        style.state, style.react = "resend", ""
        sub = Conversation(
            run=self.new_run(),
            group=parent.group,
            wire=wire,
            model=_MODELS[wire],
            style=style,
            instructions=_SUB_INSTRUCTIONS[len(task) % len(_SUB_INSTRUCTIONS)],
            tools=tools,
            script=[Turn(task, steps, final)],
            now=start + rng.uniform(0.01, 0.3),
            rates={**dict.fromkeys(_RATES, 0.0), "retries": parent.rates["retries"]},
        )
        if rng.random() < 0.2 and not parent.style.react:  # told what was said so far, but not by whom
            words = [Message(m.role, tuple(p for p in m.parts if isinstance(p, Text))) for m in parent.messages]
            sub.messages = [m for m in words if m.parts and m.role != "tool"]
        self.play(sub)
        return final, sub.now

    def between(self, c: Conversation) -> None:
        """What changes between two turns."""
        rng = self.rng
        if c.head is None:
            return
        if rng.random() < c.rates["system changes"]:
            c.instructions = rng.choice((*_INSTRUCTIONS, f"{c.instructions} Be brief."))
        if rng.random() < c.rates["tool changes"] and c.tools:
            more = tuple(t for t in sorted(_TOOLS) if t not in c.tools)
            c.tools = c.tools + more[:1] if rng.random() < 0.6 else c.tools[::-1]
            if rng.random() < 0.3:
                c.model = _OTHER_MODELS[c.wire]
        named = c.style.ids not in ("absent", "name")
        if named and rng.random() < c.rates["wire change"] and c.style.state == "resend":
            c.wire = rng.choice(WIRES)
            c.model = _MODELS[c.wire]
            c.messages = [Message(m.role, tuple(p for p in m.parts if not isinstance(p, Thought))) for m in c.messages]
        if rng.random() < c.rates["compaction"] and c.style.state == "resend" and len(c.messages) > 2:
            self.compact(c)

    def compact(self, c: Conversation) -> None:
        rng = self.rng
        summary = "Summary: " + self.answer_text("summary")
        if rng.random() < 0.7:
            order = Message("user", (Text("Summarise this conversation."),))
            own = rng.random() < 0.5
            index, _ = self.emit(
                c,
                self.answer(c, summary, ()),
                "answered",
                [*c.messages, order],
                "You summarise conversations." if own else None,
                () if own else None,
            )
            c.head, c.head_response = index, None
        kept: list[Message] = []
        if rng.random() < 0.5:  # the last exchange with a tool is kept as it was
            for at in range(len(c.messages) - 1, 0, -1):
                if c.messages[at].role == "tool":
                    kept = c.messages[at - 1 :]
                    break
        c.messages = [Message("user", (Text(f"The conversation so far: {summary}"),)), *kept]
        if not kept:
            c.messages.append(Message("assistant", (Text("Understood."),)))
        c.fresh = 0
        c.snapshots = []

    def fork(self, c: Conversation) -> None:
        """The conversation is continued a second time from an earlier point: a branch of the same run."""
        rng = self.rng
        if c.style.state == "conversation" or c.style.react or not c.snapshots:
            return
        usable = [s for s in c.snapshots if s[1] is not None]
        if not usable:
            return
        back = rng.choice(usable)
        branch = replace(c, messages=c.messages[: back[0]], head=back[1], head_response=back[2], fresh=back[3])
        branch.rates = {**c.rates, "compaction": 0.0}
        branch.snapshots = []
        if back[1] is not None:
            branch.now = max(self.drafts[back[1]].ended, c.now - rng.uniform(0, 60)) + rng.uniform(0.5, 10)
        branch.sticky = None
        self.play(branch, self.script(c.tools, rng.randint(1, 2)))

    def hand_over(self, c: Conversation) -> None:
        """Another known user, tenant, service or level goes on with the same history: never one run."""
        rng = self.rng
        if not c.messages or c.messages[-1].role != "assistant":
            return
        ways = []
        if c.group.user is not None:
            ways.append(replace(c.group, user="u9"))
        if c.group.tenant is not None:
            ways.append(replace(c.group, tenant="initech"))
        process = "other-masked" if c.group.redacted else "other-1"
        ways.append(replace(c.group, service="other", processes=(process,)))
        ways.append(replace(c.group, level="metadata" if c.group.level in ("full", "messages") else "full"))
        other = replace(c, run=self.new_run(), group=rng.choice(ways), messages=list(c.messages), snapshots=[])
        other.issued = []
        other.sticky = None
        other.rates = {**c.rates, "compaction": 0.0, "edits": 0.0}
        self.play(other, self.script(c.tools, rng.randint(1, 3)))

    def one_shots(self, thousands: bool) -> None:
        """Equal single calls: every one is a run of its own."""
        rng = self.rng
        wire = rng.choice(self.wires)
        group = self.group()
        if rng.random() < 0.6:
            text, answer, system = "Text: I like it.", "positive", _CLASSIFY
        else:  # equal to what conversations and examples begin with
            text, system = rng.choice(_OPENERS[:3]), rng.choice(_INSTRUCTIONS)
            answer = self.answer_text(f"{text}/0")
        style = self.style(wire)
        style.state, style.react, style.window = "resend", "", 0
        rates = dict.fromkeys(_RATES, 0.0)
        if "retries" in self.kinds and not thousands:
            rates["retries"] = 0.05
        for _ in range(rng.randint(1000, 3000) if thousands else rng.randint(2, 25)):
            single = Conversation(
                run=self.new_run(),
                group=group,
                wire=wire,
                model=_MODELS[wire],
                style=style,
                instructions=system,
                tools=(),
                script=[Turn(text, (), answer)],
                now=rng.uniform(0, self.span),
                rates=rates,
            )
            self.play(single)

    def audit(self, played: list[Conversation]) -> None:
        """Somebody talks about tool runs of two conversations: says nothing of where he belongs."""
        rng = self.rng
        known = [c for c in played if c.issued]
        if len(known) < 2:
            return
        one, two = rng.sample(known, 2)
        if not _strict(one.group, two.group):
            return
        c = self.conversation()
        c.group = one.group
        c.style = Style()
        c.messages = []
        first, second = rng.choice(one.issued), rng.choice(two.issued)
        ask = f"Compare {first} with {second}: which was slower?"
        c.script = [Turn(ask, (), self.answer_text("audit")), *self.script(c.tools, 1)]
        c.now = max(one.now, two.now)
        self.play(c)

    def make(self) -> None:
        rng = self.rng
        played: list[Conversation] = []
        want = rng.randint(2, 12)
        while len(played) < want:
            if played and self.on("twins", 0.6):
                other = rng.choice(played)
                c = self.twin(other)
            else:
                c = self.conversation()
            self.play(c)
            if rng.random() < c.rates["forks"]:
                self.fork(c)
            played.append(c)
            if self.on("handover", 0.3):
                self.hand_over(c)
        thousands = self.seed % 500 == 17
        if thousands or "one-shots" in self.kinds:
            self.one_shots(thousands)
        if "audit" in self.kinds:
            self.audit(played)


_SEALED: frozenset[Wire] = frozenset(
    ("openai responses", "anthropic messages", "gemini generateContent", "bedrock converse")
)


def _cut_arguments(wire: Wire, response: Json, rng: random.Random) -> None:
    """A stream that ends within a tool call leaves half of its arguments."""
    if wire == "openai chat":
        for tool in response["choices"][0]["message"].get("tool_calls", ())[-1:]:
            text = tool["function"]["arguments"]
            tool["function"]["arguments"] = text[: rng.randrange(len(text))]
    elif wire == "openai responses":
        for item in response["output"][-1:]:
            if item["type"] == "function_call":
                item["arguments"] = item["arguments"][: rng.randrange(len(item["arguments"]))]


def _windowed(messages: list[Message], turns: int) -> list[Message]:
    """The last `turns` questions with what follows them."""
    starts = [n for n, m in enumerate(messages) if m.role == "user"]
    return messages if len(starts) <= turns else messages[starts[-turns] :]


# --- The judge: what the bodies alone say --------------------------------------------------------------

_Flat = tuple[str, tuple[str, ...]]
_MENTIONED = 10


@dataclass
class _Read:
    """One call as its bodies show it."""

    instructions: str
    parts: list[_Flat]
    answer: list[_Flat]
    issued: dict[str, tuple[str, str]]
    held: dict[str, set[tuple[str, str]]]
    brought: set[str]
    seals_issued: set[str]
    seals_held: set[str]
    response_id: str | None = None
    previous: str | None = None
    kept: set[str] = field(default_factory=set)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _canonical(args: Any) -> str:
    if isinstance(args, str):
        args = _loaded(args)
    return json.dumps(args, sort_keys=True)


class _Reader:
    """Collects typed parts of messages of any wire."""

    def __init__(self) -> None:
        self.parts: list[_Flat] = []
        self.asks: list[tuple[str, str, str]] = []
        self.brought: set[str] = set()
        self.seals: set[str] = set()
        self.system: list[str] = []

    def text(self, role: str, text: str | None) -> None:
        if text:
            self.parts.append((role, ("text", text)))

    def ask(self, ident: str | None, name: str, args: Any) -> None:
        canonical = _canonical(args)
        self.parts.append(("assistant", ("call", name, canonical)))
        self.asks.append((ident or "", name, canonical))

    def result(self, ident: str | None, content: str) -> None:
        self.parts.append(("tool", ("result", content)))
        if ident:
            self.brought.add(ident)

    def seal(self, seal: str | None) -> None:
        if seal and seal != _DUMMY_SEAL:
            self.seals.add(seal)

    def chat(self, message: Json) -> None:
        role, content = message["role"], message.get("content")
        pieces: list[str] = []
        if isinstance(content, str):
            pieces = [content]
        elif isinstance(content, list):
            pieces = [b["text"] if b["type"] == "text" else b["document"]["data"] for b in content]
        if role in ("system", "developer"):
            self.system.extend(pieces)
            return
        if role == "tool":
            self.result(message["tool_call_id"], "".join(pieces))
            return
        self.text(role, message.get("tool_plan"))
        for piece in pieces:
            self.text(role, piece)
        for tool in message.get("tool_calls") or ():
            self.ask(tool.get("id"), tool["function"]["name"], tool["function"]["arguments"])

    def item(self, item: Json) -> None:
        kind = item.get("type", "message")
        if kind == "message":
            content = item["content"]
            for piece in [content] if isinstance(content, str) else [b["text"] for b in content]:
                self.text(item["role"], piece)
        elif kind == "function_call":
            self.ask(item["call_id"], item["name"], item["arguments"])
        elif kind == "function_call_output":
            self.result(item["call_id"], item["output"])
        elif kind == "reasoning":
            self.seal(item.get("encrypted_content"))

    def anthropic(self, role: str, content: Any) -> None:
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            kind = block["type"]
            if kind == "text":
                self.text(role, block["text"])
            elif kind == "tool_use":
                self.ask(block["id"], block["name"], block["input"])
            elif kind == "tool_result":
                self.result(block["tool_use_id"], block["content"])
            elif kind == "thinking":
                self.seal(block["signature"])

    def gemini(self, content: Json) -> None:
        role = "assistant" if content["role"] == "model" else "user"
        for part in content["parts"]:
            self.seal(part.get("thoughtSignature"))
            if part.get("thought"):
                continue
            if "text" in part:
                self.text(role, part["text"])
            elif "functionCall" in part:
                call = part["functionCall"]
                self.ask(call.get("id"), call["name"], call["args"])
            else:
                response = part["functionResponse"]
                self.result(response.get("id"), "".join(response["response"].values()))

    def bedrock(self, message: Json) -> None:
        for block in message["content"]:
            if "text" in block:
                self.text(message["role"], block["text"])
            elif "toolUse" in block:
                self.ask(block["toolUse"]["toolUseId"], block["toolUse"]["name"], block["toolUse"]["input"])
            elif "toolResult" in block:
                result = block["toolResult"]
                self.result(result["toolUseId"], "".join(b["text"] for b in result["content"]))
            elif "reasoningContent" in block:
                self.seal(block["reasoningContent"]["reasoningText"]["signature"])


def _read(wire: Wire, request: Json, response: Json | None) -> _Read:
    asked, said = _Reader(), _Reader()
    kept: set[str] = set()
    response_id = previous = None
    if wire in ("openai chat", "cohere v2"):
        for message in request["messages"]:
            asked.chat(message)
        if response is not None:
            said.chat(response["choices"][0]["message"] if wire == "openai chat" else response["message"])
    elif wire == "openai responses":
        asked.system = [request.get("instructions") or ""]
        items = request["input"]
        for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
            asked.item(item)
        previous = request.get("previous_response_id")
        if request.get("conversation"):
            kept.add(request["conversation"])
        if response is not None:
            response_id = response["id"]
            for item in response["output"]:
                said.item(item)
    elif wire == "anthropic messages":
        asked.anthropic("system", request.get("system") or "")
        asked.system = [text for _, (_, text) in asked.parts]
        asked.parts.clear()
        for message in request["messages"]:
            asked.anthropic(message["role"], message["content"])
        if request.get("container"):
            kept.add(request["container"])
        if response is not None:
            said.anthropic("assistant", response["content"])
            if response.get("container"):
                kept.add(response["container"]["id"])
    elif wire == "gemini generateContent":
        asked.system = [p["text"] for p in request.get("systemInstruction", {}).get("parts", ())]
        for content in request["contents"]:
            asked.gemini(content)
        if response is not None:
            said.gemini(response["candidates"][0]["content"])
    else:
        asked.system = [b["text"] for b in request.get("system", ())]
        for message in request["messages"]:
            asked.bedrock(message)
        if response is not None:
            said.bedrock(response["output"]["message"])
    held: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for ident, name, args in asked.asks:
        if ident:
            held[ident].add((name, args))
    return _Read(
        instructions="\n".join(asked.system),
        parts=asked.parts,
        answer=said.parts,
        issued={ident: (name, args) for ident, name, args in said.asks if ident and ident != name},
        held=held,
        brought=asked.brought,
        seals_issued=said.seals,
        seals_held=asked.seals,
        response_id=response_id,
        previous=previous,
        kept=kept,
    )


class _Sets:
    """Union and find."""

    def __init__(self, size: int) -> None:
        self.up = list(range(size))

    def find(self, at: int) -> int:
        while self.up[at] != at:
            self.up[at] = self.up[self.up[at]]
            at = self.up[at]
        return at

    def join(self, one: int, two: int) -> None:
        self.up[self.find(one)] = self.find(two)


class _Misleading(Exception):
    """The bodies say by the rules what is not so: nobody can be asked to know better."""


def _strict(a: Group, b: Group) -> bool:
    return a.user == b.user and a.service == b.service and a.tenant == b.tenant and a.level == b.level


def _lenient(a: Group, b: Group) -> bool:
    """As `_strict`, if somebody unknown may be anybody."""
    if a.service != b.service or a.level != b.level:
        return False
    if a.user != b.user and a.user is not None and b.user is not None:
        return False
    return a.tenant == b.tenant or a.tenant is None or b.tenant is None


class _Judge:
    def __init__(self, drafts: list[Draft]) -> None:
        self.drafts = drafts
        self.reads = [_read(d.wire, d.request, d.response) for d in drafts]
        self.issuers: dict[str, list[int]] = defaultdict(list)
        self.sealers: dict[str, list[int]] = defaultdict(list)
        self.responses: dict[str, int] = {}
        self.keepers: dict[str, list[int]] = defaultdict(list)
        self.trie: dict[tuple[int, _Flat | str], int] = {}
        self.ends: dict[int, list[int]] = defaultdict(list)
        self.paths: list[list[int]] = []
        for at, read in enumerate(self.reads):
            for ident in read.issued:
                self.issuers[ident].append(at)
            for seal in read.seals_issued:
                self.sealers[seal].append(at)
            if read.response_id is not None:
                self.responses[read.response_id] = at
            for ident in read.kept:
                self.keepers[ident].append(at)
            path: list[int] = []
            if self.has_history(at):
                node = self.node(0, read.instructions)
                for part in read.parts:
                    node = self.node(node, part)
                    path.append(node)
                if read.answer and path:
                    self.ends[node].append(at)
            self.paths.append(path)

    def node(self, parent: int, key: _Flat | str) -> int:
        return self.trie.setdefault((parent, key), len(self.trie) + 1)

    def has_history(self, at: int) -> bool:
        group = self.drafts[at].group
        return not group.redacted and group.level in ("full", "messages")

    # -- by ids

    def id_links(self, at: int) -> list[tuple[int, str]]:
        """Links that hold under every reading of the rules; raises where one reading would go wrong."""
        me, read = self.drafts[at], self.reads[at]
        links: list[tuple[int, str]] = []
        if read.previous is not None and read.previous in self.responses:
            other = self.responses[read.previous]
            self.link(links, at, [other], "previous response")
        for ident in read.kept:
            kind = "conversation" if ident.startswith("conv_") else "container"
            for other in self.keepers[ident]:
                if other != at:
                    self.link(links, at, [other], kind)
        for seal in read.seals_held:
            self.link(links, at, self.sealers.get(seal, []), "seal")
        plain = self.has_history(at)
        for ident in read.brought:
            issuers = self.issuers.get(ident)
            if not issuers:
                continue
            held = read.held.get(ident)
            full, byname = [], []
            for other in issuers:
                name, args = self.reads[other].issued[ident]
                if held is None or (name, args) in held:
                    full.append(other)
                if held is None or any(name == n for n, _ in held):
                    byname.append(other)
            if len(issuers) == 1 and (held is not None or all(role != "assistant" for role, _ in read.parts)):
                self.link(links, at, full, "tool id")
            for same in (_strict, _lenient):  # an id is one's own within a group, or within everything
                near = [o for o in issuers if same(me.group, self.drafts[o].group)]
                good = full if plain else byname
                if len(near) == 1 and near[0] in good and self.drafts[near[0]].run != me.run:
                    raise _Misleading("tool id")
        return links

    def link(self, links: list[tuple[int, str]], at: int, others: list[int], kind: str) -> None:
        if len(others) != 1 or others[0] == at:
            return
        mine, its = self.drafts[at], self.drafts[others[0]]
        if _lenient(mine.group, its.group) and mine.run != its.run:
            raise _Misleading(kind)
        if _strict(mine.group, its.group):
            links.append((others[0], kind))

    # -- by history

    def candidates(self, at: int) -> list[tuple[int, int, bool]]:
        """(length, call, exact) of every call whose messages and answer this request begins with."""
        parts = self.reads[at].parts
        found: list[tuple[int, int, bool]] = []
        path = self.paths[at]
        for length in range(len(path) - 1, 0, -1):
            for other in self.ends.get(path[length - 1], ()):
                if other == at:
                    continue
                answer = self.reads[other].answer
                behind = parts[length : length + len(answer)]
                if len(behind) < len(answer) or behind[:-1] != answer[:-1]:
                    continue
                if behind[-1] == answer[-1]:
                    found.append((length, other, True))
                else:
                    (role, mine), (_, its) = behind[-1], answer[-1]
                    if role == "assistant" and mine[0] == its[0] == "text" and mine[1].startswith(its[1]):
                        if its[1].strip():
                            found.append((length, other, False))
        return found

    def by_history(self, at: int, strong: bool) -> tuple[int | None, str]:
        me = self.drafts[at]
        if me.group.redacted:
            return None, "masked"
        if not self.has_history(at):
            return None, "no messages kept"
        found = [f for f in self.candidates(at) if _lenient(me.group, self.drafts[f[1]].group)]
        if not found:
            return None, "no evidence"
        near = [f for f in found if _strict(me.group, self.drafts[f[1]].group)]
        if not strong:
            for some in (found, near):
                for wired in (False, True):
                    for exact in (False, True):
                        view = [
                            f for f in some if (not wired or self.drafts[f[1]].wire == me.wire) and (not exact or f[2])
                        ]
                        runs = {self.drafts[o].run for o in _longest(view)}
                        if len(runs) == 1 and me.run not in runs:
                            raise _Misleading("history")
        narrow = _longest([f for f in near if self.drafts[f[1]].wire == me.wire])
        wide = _longest(found)
        if len(narrow) == 1 and wide == narrow:
            (only,) = narrow
            exact = next(f[2] for f in found if f[1] == only)
            cut = self.drafts[only].outcome == "cut"
            return only, "after a cut answer" if cut else "exact" if exact else "answer as a beginning"
        if not narrow:
            return None, "only on another wire or of somebody unknown"
        return None, "ambiguous"

    # -- by mention

    def mentions(self, at: int) -> list[int]:
        text = "\n".join(value for _, part in self.reads[at].parts if part[0] != "call" for value in part[1:])
        return sorted({i for ident in self.long_ids if ident in text for i in self.issuers[ident] if i != at})

    def judge(self) -> list[tuple[Knowable, str]]:
        drafts = self.drafts
        size = len(drafts)
        self.long_ids = [i for i, issuers in self.issuers.items() if len(i) >= _MENTIONED and len(issuers) == 1]
        ids, both = _Sets(size), _Sets(size)
        kinds: list[str] = [""] * size
        reasons: list[str] = [""] * size
        for at in range(size):
            links = self.id_links(at)
            for other, _ in links:
                ids.join(at, other)
                both.join(at, other)
            if links:
                kinds[at] = min((kind for _, kind in links), key=_STRENGTH.index)
            only, reasons[at] = self.by_history(at, bool(links))
            if only is not None and only != drafts[at].predecessor:
                reasons[at] = "by an earlier call of its run"
            if links:
                continue
            if only is not None:
                both.join(at, only)
                continue
            if not self.has_history(at) or not self.long_ids:
                continue
            told = self.mentions(at)
            for same in (_strict, _lenient):
                runs = {drafts[o].run for o in told if same(drafts[at].group, drafts[o].group)}
                if len(runs) == 1 and drafts[at].run not in runs:
                    raise _Misleading("mention")
            own = all(drafts[o].run == drafts[at].run and _strict(drafts[at].group, drafts[o].group) for o in told)
            if reasons[at] == "no evidence" and told and own:
                kinds[at] = "mention"
                for other in told:
                    ids.join(at, other)
                    both.join(at, other)
        verdicts: list[tuple[Knowable, str]] = []
        for at, draft in enumerate(drafts):
            before = draft.predecessor
            if before is None:
                verdicts.append(("first", ""))
            elif ids.find(at) == ids.find(before):
                verdicts.append(("ids", kinds[at] or "by a later call"))
            elif both.find(at) == both.find(before):
                # by the call itself, or by way of others of its run
                verdicts.append(("history", reasons[at] if reasons[at] in _HELD else "by way of others"))
            else:
                verdicts.append(("none", reasons[at] if reasons[at] not in _HELD else "joins elsewhere in its run"))
        return verdicts


_STRENGTH = ("previous response", "conversation", "container", "seal", "tool id", "mention")
_HELD = ("exact", "after a cut answer", "answer as a beginning", "by an earlier call of its run")


def _longest(found: list[tuple[int, int, bool]]) -> set[int]:
    if not found:
        return set()
    most = max(length for length, _, _ in found)
    return {other for length, other, _ in found if length == most}


# --- Worlds --------------------------------------------------------------------------------------------


def _deliver(world: _World, order: list[Draft]) -> list[Draft]:
    rng = world.rng
    if "reordered" in world.kinds:
        way = rng.randrange(4)
        if way == 0:
            return order[::-1]
        if way < 3:
            order = list(order)
            rng.shuffle(order)
            return order
        return sorted(order, key=lambda d: (d.process, d.ended))
    if "late" in world.kinds:
        if rng.random() < 0.4:
            slow = rng.choice(sorted({d.process for d in order}))
            return sorted(order, key=lambda d: (d.process == slow, d.ended))
        due = {d.index: d.ended + (rng.uniform(1, 600) if rng.random() < 0.15 else rng.random()) for d in order}
        return sorted(order, key=lambda d: due[d.index])
    return sorted(order, key=lambda d: d.ended)


def generate(seed: int) -> History:
    """One little world of calls, always the same for one seed.

    A world whose bodies mislead (they say by the rules that a call continues a stranger's, and nothing in
    them says otherwise) is thrown away, and the next attempt of the same seed is taken."""
    for attempt in range(1000):
        world = _World(seed, attempt)
        world.make()
        drafts = world.drafts
        for draft in drafts:
            if draft.predecessor is not None and drafts[draft.predecessor].run != draft.run:
                draft.predecessor = None
        try:
            verdicts = _Judge(drafts).judge()
        except _Misleading:
            continue
        break
    else:
        raise RuntimeError(f"no fair world for seed {seed}")
    order = sorted(drafts, key=lambda d: (d.started, d.index))
    numbers = {draft.index: place + 1 for place, draft in enumerate(order)}
    calls = []
    truth = {}
    for draft in _deliver(world, order):
        number = numbers[draft.index]
        calls.append(
            Call(
                number=number,
                started=round(BASE_TIME + draft.started, 3),
                ended=round(BASE_TIME + draft.ended, 3),
                wire=draft.wire,
                model=draft.model,
                path=draft.path,
                request=draft.request,
                response=draft.response,
                outcome=draft.outcome,
                streamed=draft.streamed,
                error=draft.error,
                user=draft.group.user,
                service=draft.group.service,
                tenant=draft.group.tenant,
                level=draft.group.level,
                redacted=draft.group.redacted,
                process=draft.process,
            )
        )
        knowable, why = verdicts[draft.index]
        before = None if draft.predecessor is None else numbers[draft.predecessor]
        truth[number] = Truth(draft.run, before, knowable, why)
    return History(seed, attempt, tuple(sorted(world.kinds)), tuple(calls), truth)


# --- Self-test -----------------------------------------------------------------------------------------


def _streamed_text(wire: Wire, events: list[Json]) -> str:
    text: list[str] = []
    for e in events:
        if wire == "openai chat":
            text.extend(c["delta"].get("content") or "" for c in e["choices"])
        elif wire == "openai responses" and e["type"] == "response.output_text.delta":
            text.append(e["delta"])
        elif wire == "anthropic messages" and e["type"] == "content_block_delta":
            text.append(e["delta"].get("text", ""))
        elif wire == "gemini generateContent":
            parts = [p for c in e["candidates"] for p in c["content"]["parts"]]
            text.extend(p.get("text", "") for p in parts if not p.get("thought"))
        elif wire == "cohere v2" and e["type"] == "tool-plan-delta":
            text.append(e["delta"]["message"]["tool_plan"])
        elif wire == "cohere v2" and e["type"] == "content-delta":
            text.append(e["delta"]["message"]["content"]["text"])
        elif wire == "bedrock converse" and "contentBlockDelta" in e:
            text.append(e["contentBlockDelta"]["delta"].get("text", ""))
    return "".join(text)


def _check(history: History) -> None:
    truth = history.truth
    calls = {call.number: call for call in history.calls}
    assert len(calls) == len(history.calls) == len(truth), "numbers are unique"
    settings: dict[str, tuple[str, bool]] = {}
    for call in history.calls:
        entry = truth[call.number]
        assert (call.response is None) == (call.outcome == "failed") == (call.error is not None)
        assert settings.setdefault(call.process, (call.service, call.redacted)) == (call.service, call.redacted)
        assert (entry.knowable == "first") == (entry.predecessor is None)
        if entry.predecessor is not None:
            before = calls[entry.predecessor]
            assert truth[before.number].run == entry.run
            assert before.ended <= call.started + 4.1, "continues what had ended (clocks differ by 2 s at most)"
            assert (before.user, before.service, before.tenant) == (call.user, call.service, call.tenant)
            assert before.level == call.level and before.response is not None
            if entry.knowable == "history":
                assert not call.redacted and call.level in ("full", "messages")
        read = _read(call.wire, call.request, call.response)
        json.dumps(call.request)
        if call.redacted:
            request, response = recorded(call)
            masked = _read(call.wire, request, response)
            assert (masked.issued.keys(), masked.brought, masked.seals_held, masked.previous, masked.kept) == (
                read.issued.keys(),
                read.brought,
                read.seals_held,
                read.previous,
                read.kept,
            ), "ids survive a redactor"
            words = {v for _, part in masked.parts + masked.answer if part[0] != "call" for v in part[1:]}
            assert words <= {MASK}, words
        if call.streamed and call.response is not None:
            said = "".join(part[1] for _, part in read.answer if part[0] == "text")
            assert _streamed_text(call.wire, stream(call)) == said


def self_test(first: int, count: int) -> None:
    began = time.perf_counter()
    attempts: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    made = 0
    runs = 0
    most = 0
    perfect, together, alone = Score(), Score(), Score()
    spent = 0.0
    for seed in range(first, first + count):
        start = time.process_time()
        history = generate(seed)
        spent += time.process_time() - start
        attempts[history.attempt] += 1
        kinds.update(history.kinds)
        made += len(history.calls)
        most = max(most, len(history.calls))
        runs += len({entry.run for entry in history.truth.values()})
        one = score(history, dict.fromkeys(history.truth, "all"))
        assert one.wrong_pairs > 0, "all in one run is wrong in every world"
        together += one
        apart = score(history, {number: str(number) for number in history.truth})
        nothing = score(history, {})
        assert apart.wrong_pairs == nothing.wrong_pairs == 0
        assert apart.ids_made == apart.history_made == apart.unowed_made == nothing.ids_made == 0
        alone += apart
        right = score(history, {number: entry.run for number, entry in history.truth.items()})
        assert right.wrong_pairs == 0 and right.ids_made == right.ids_owed
        assert right.history_made == right.history_owed
        perfect += right
        if seed < 2000 or seed % 10 == 0:
            _check(history)
        if seed < first + 20:
            assert generate(seed) == history, "a seed always gives the same"
    print(f"{count} histories, {made} calls (at most {most}), {runs} runs: {spent:.0f} s of CPU to generate")
    print(f"whole test {time.perf_counter() - began:.0f} s; attempts {dict(sorted(attempts.items()))}")
    print("kinds " + ", ".join(f"{kind} {kinds[kind]}" for kind in KINDS))
    for name, total in (("perfect", perfect), ("all in one", together), ("all alone", alone)):
        print(
            f"{name}: {total.wrong_pairs} wrong pairs, ids {total.ids_made} of {total.ids_owed}, "
            f"history {total.history_made} of {total.history_owed}, not owed {total.unowed_made} of {total.unowed}"
        )
    for key, (_, total_count) in sorted(perfect.detail.items()):
        print(f"  {total_count:7} {key}")


def _show(seed: int) -> None:
    history = generate(seed)
    print(f"seed {seed}, attempt {history.attempt}: {', '.join(history.kinds) or 'plain'}")
    for call in history.calls:
        entry = history.truth[call.number]
        read = _read(call.wire, call.request, call.response)
        last = read.parts[-1][1][-1][:40] if read.parts else ""
        said = " ".join(v for _, part in read.answer for v in part)[:40]
        print(
            f"{call.number:4} <- {entry.predecessor or '-':>4} {entry.run:8} {entry.knowable:8}{entry.why:22}"
            f"{call.wire:22} {call.user or '-':3} {call.service}/{call.tenant or '-'}/{call.level}"
            f"{'/masked' if call.redacted else ''} {call.process} {call.outcome} {len(read.parts)} {last!r} -> {said!r}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="histories of the self-test (10,000)")
    parser.add_argument("--first", type=int, default=0, help="its first seed (0)")
    parser.add_argument("--show", type=int, metavar="SEED", help="print one history instead")
    options = parser.parse_args()
    if options.show is not None:
        _show(options.show)
    else:
        self_test(options.first, options.count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
