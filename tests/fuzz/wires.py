"""Wires: well-formed responses of every endpoint, plain and streamed, to be damaged afterwards."""

from __future__ import annotations

from typing import Any

Events = list[tuple[str | None, Any]]
"""Name and payload of each server-sent event."""

USAGE_CHAT = {
    "prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2},
}  # fmt: skip
USAGE_RESPONSES = {
    "input_tokens": 12, "output_tokens": 5, "total_tokens": 17,
    "input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 2},
}  # fmt: skip
USAGE_MESSAGES = {"input_tokens": 8, "output_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0}
CHAT: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-5-1"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "move", "arguments": '{"to": "here"}'}}
FLAVOURS = ("text", "json", "tool", "reasoning", "refusal", "many")


def _text_for(flavour: str) -> str:
    return '{"x": 1, "y": 2}' if flavour == "json" else "I am well. \u00e4\u20ac\U0001f600\u2028"


def _chat_message(flavour: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": _text_for(flavour)}
    if flavour == "tool":
        message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    elif flavour == "reasoning":
        message["reasoning_content"] = "Let me see."
    elif flavour == "refusal":
        message |= {"content": None, "refusal": "No."}
    return message


def chat(flavour: str) -> Any:
    """A chat completion."""
    finish = "tool_calls" if flavour == "tool" else "stop"
    choices = [{"index": 0, "finish_reason": finish, "logprobs": None, "message": _chat_message(flavour)}]
    if flavour == "many":
        choices.append({**choices[0], "index": 1, "finish_reason": "length"})
    return {**CHAT, "choices": choices, "usage": USAGE_CHAT, "system_fingerprint": "fp"}


def chat_events(flavour: str) -> Events:
    """The chunks of a chat completion."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if flavour == "tool":
        function = {"name": "move", "arguments": ""}
        deltas.append({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]})
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in ('{"to": ', '"here"}')]
    else:
        name = {"reasoning": "reasoning_content", "refusal": "refusal"}.get(flavour, "content")
        text = _text_for(flavour)
        deltas += [{name: text[:5]}, {name: text[5:9]}, {"content": text[9:]}]
    finish = "tool_calls" if flavour == "tool" else "stop"
    of = [0, 1] if flavour == "many" else [0]
    base = {**CHAT, "object": "chat.completion.chunk"}
    events: Events = [
        (None, {**base, "choices": [{"index": i, "delta": delta, "finish_reason": None}]})
        for delta in deltas
        for i in of
    ]
    events += [(None, {**base, "choices": [{"index": i, "delta": {}, "finish_reason": finish}]}) for i in of]
    return [*events, (None, {**base, "choices": [], "usage": USAGE_CHAT}), (None, "[DONE]")]


def completion(flavour: str) -> Any:
    """An older completion."""
    choice = {"index": 0, "finish_reason": "stop", "text": _text_for(flavour), "logprobs": None}
    return {**CHAT, "object": "text_completion", "choices": [choice], "usage": USAGE_CHAT}


def completion_events(flavour: str) -> Events:
    """The chunks of an older completion."""
    base, text = {**CHAT, "object": "text_completion"}, _text_for(flavour)
    choices = [{"index": 0, "text": part, "finish_reason": None} for part in (text[:4], text[4:])]
    choices.append({"index": 0, "text": "", "finish_reason": "stop"})
    return [*((None, {**base, "choices": [choice]}) for choice in choices), (None, "[DONE]")]


def embedding(flavour: str) -> Any:
    """Two vectors, as numbers or packed."""
    vector: Any = [0.5, -1.25] if flavour in ("text", "json") else "AAAAPwAAoL8="
    data = [{"object": "embedding", "index": i, "embedding": vector} for i in (0, 1)]
    return {"object": "list", "model": "embed", "data": data, "usage": {"prompt_tokens": 2, "total_tokens": 2}}


def _output(flavour: str) -> list[dict[str, Any]]:
    content: dict[str, Any] = {"type": "output_text", "text": _text_for(flavour), "annotations": [], "logprobs": []}
    if flavour == "refusal":
        content = {"type": "refusal", "refusal": "No."}
    items: list[dict[str, Any]] = []
    if flavour == "reasoning":
        items.append({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]})
    if flavour == "tool":
        items.append({
            "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "move", "arguments": '{"to": "here"}',
            "status": "completed",
        })  # fmt: skip
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [content]}
    return [*items, message]


def response(flavour: str, **fields: Any) -> Any:
    """A response of the Responses API."""
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5-1", "status": "completed", "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "output": _output(flavour), "tools": [],
        "parallel_tool_calls": True, "temperature": 1, "tool_choice": "auto", "top_p": 1, "usage": USAGE_RESPONSES,
        **fields,
    }  # fmt: skip


def response_events(flavour: str) -> Events:
    """The events of a response."""
    begun = response(flavour, status="in_progress", output=[], usage=None)
    events: list[dict[str, Any]] = [
        {"type": f"response.{name}", "response": begun} for name in ("created", "in_progress")
    ]
    for index, item in enumerate(_output(flavour)):
        empty = {
            **item,
            **({"content": []} if "content" in item else {}),
            **({"arguments": ""} if "arguments" in item else {}),
        }
        at = {"output_index": index, "item_id": item["id"]}
        events.append({"type": "response.output_item.added", "output_index": index, "item": empty})
        if item["type"] == "function_call":
            events += [
                {"type": "response.function_call_arguments.delta", **at, "delta": part}
                for part in ('{"to": ', '"here"}')
            ]
            events.append(
                {"type": "response.function_call_arguments.done", **at, "arguments": item["arguments"], "name": "move"}
            )
        for number, part in enumerate(item.get("content", ())):
            events += _part_events(part, {**at, "content_index": number})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    last = {"many": "incomplete", "refusal": "failed"}.get(flavour, "completed")
    events.append({"type": f"response.{last}", "response": response(flavour, status=last)})
    return [(event["type"], {**event, "sequence_number": number}) for number, event in enumerate(events)]


def _part_events(part: dict[str, Any], at: dict[str, Any]) -> list[dict[str, Any]]:
    name, field = ("refusal", "refusal") if part["type"] == "refusal" else ("output_text", "text")
    text = part[field]
    return [
        {"type": "response.content_part.added", **at, "part": {**part, field: ""}},
        *({"type": f"response.{name}.delta", **at, "delta": piece, "logprobs": []} for piece in (text[:2], text[2:])),
        {"type": f"response.{name}.done", **at, field: text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
    ]


def message(flavour: str) -> Any:
    """A message of Anthropic."""
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-1", "content": _blocks(flavour),
        "stop_reason": "tool_use" if flavour == "tool" else "end_turn", "stop_sequence": None, "usage": USAGE_MESSAGES,
    }  # fmt: skip


def _blocks(flavour: str) -> list[dict[str, Any]]:
    text = {"type": "text", "text": _text_for(flavour), "citations": None}
    if flavour == "tool":
        return [text, {"type": "tool_use", "id": "toolu_1", "name": "move", "input": {"to": "here"}}]
    if flavour == "reasoning":
        return [{"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}, text]
    return [text, text] if flavour == "many" else [text]


def message_events(flavour: str) -> Events:
    """The events of a message."""
    whole = message(flavour)
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**USAGE_MESSAGES, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, block in enumerate(_blocks(flavour)):
        empty, deltas = _block_deltas(block)
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events += [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}}, {"type": "message_stop"}]
    return [(event["type"], event) for event in events]


def _block_deltas(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "tool_use":
        parts = ('{"to": ', '"here"}')
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
        return {**block, "thinking": "", "signature": ""}, [*deltas, {"type": "signature_delta", "signature": "c2ln"}]
    text = block["text"]
    return {**block, "text": ""}, [{"type": "text_delta", "text": part} for part in (text[:4], text[4:])]


def listing(_flavour: str) -> Any:
    """A list of models, of moderations or of anything else that is no call."""
    model = {"id": "gpt-5", "object": "model", "created": 1, "owned_by": "x", "type": "model"}
    return {"object": "list", "data": [model], "id": "1", "input_tokens": 3, "results": [], "has_more": False}


def decision(flavour: str) -> Any:
    """A decision: to go on, or for other flavours that it is done."""
    choice = "north" if flavour in ("text", "tool") else "done"
    answer = {
        "type": "choice", "name": "next_action", "choice": choice, "confidence": 0.9,
        "probabilities": [{"value": choice, "probability": 0.9}],
    }  # fmt: skip
    return {"model": "gpt-6-luna-1", "answers": [answer], "usage": USAGE_RESPONSES}


def moderation(_: str) -> Any:
    """What `/moderations` answers."""
    result = {"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.1}}
    return {"id": "modr-1", "model": "omni-moderation-latest", "results": [result]}


def documents(_: str) -> Any:
    """What the search of a vector store answers."""
    found = {"file_id": "file-1", "filename": "a.md", "score": 0.5, "content": [{"type": "text", "text": "A."}]}
    return {"object": "vector_store.search_results.page", "search_query": ["a"], "data": [found], "has_more": False}


_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
_OF_IMAGE = {"background": "opaque", "output_format": "png", "quality": "high", "size": "1x1"}


def image(_: str) -> Any:
    """What the generation of an image answers."""
    return {"created": 1, "data": [{"b64_json": _PIXEL}], **_OF_IMAGE, "usage": USAGE_RESPONSES}


def image_events(_: str) -> Events:
    """The events of one image that is shown in part first."""
    about = {"b64_json": _PIXEL, **_OF_IMAGE, "created_at": 1}
    part = {"type": "image_generation.partial_image", **about, "partial_image_index": 0}
    whole = {"type": "image_generation.completed", **about, "usage": USAGE_RESPONSES}
    return [(part["type"], part), (whole["type"], whole)]


def transcript(_: str) -> Any:
    """What is written down of a sound."""
    return {"text": "Well, then.", "usage": {"type": "duration", "seconds": 2.5}}


def transcript_events(_: str) -> Events:
    """The events of a transcript."""
    parts = [{"type": "transcript.text.delta", "delta": part} for part in ("Well, ", "then.")]
    usage = {"type": "tokens", "input_tokens": 9, "output_tokens": 3, "total_tokens": 12}
    done = {"type": "transcript.text.done", "text": "Well, then.", "usage": usage}
    return [(event["type"], event) for event in (*parts, done)]


def failure(sdk: str) -> Any:
    """The body of a refusal."""
    error = {"message": "Not now.", "type": "rate_limit_error", "param": None, "code": "slow_down"}
    return {"error": error} if sdk == "openai" else {"type": "error", "error": error, "request_id": "req_1"}


def whole_of(way: str, flavour: str) -> Any:
    """The body that answers a way of calling in one piece."""
    named = {
        "chat": chat, "completions": completion, "embeddings": embedding, "responses": response, "messages": message,
        "beta": message, "decisions": decision, "moderations": moderation, "vector_stores": documents,
        "images": image,
        "transcriptions": transcript, "translations": transcript, "speech": transcript,
    }  # fmt: skip
    return named.get(_kind(way), listing)(flavour)


def events_of(way: str, flavour: str) -> Events:
    """The events that answer a way of calling as a stream."""
    named = {
        "chat": chat_events, "completions": completion_events, "responses": response_events, "messages": message_events,
        "beta": message_events, "images": image_events, "transcriptions": transcript_events,
    }  # fmt: skip
    return named[_kind(way)](flavour)


def _kind(way: str) -> str:
    first, _, rest = way.partition(".")
    return rest.partition(".")[0] if first == "post" else first
