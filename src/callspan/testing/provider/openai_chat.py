"""Chat completions and legacy completions, as bodies and chunks, with token ids as vLLM returns them.

Wire reference: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise, zip_longest
from zlib import crc32

from callspan.testing.provider.answer import (
    FINISH_REASONS,
    OPENAI,
    Answer,
    StreamEvent,
    Wire,
    base62,
    fragments,
    input_count,
    member,
    objects,
    tool_calls,
    usage,
    with_usage,
    words,
)
from callspan.testing.provider.script import Choice, Json

_VOCABULARY = 150_000
_DONE = StreamEvent("[DONE]")
_MISTRAL = "mistral"
"""In the user agent of every version of its SDK."""
_OF_MISTRAL = ("/agents/completions", "/fim/completions")
_TEXTS = ("reasoning_content", "reasoning", "content", "refusal")
"""Fields of a message that are streamed in pieces."""
_NOT_IN_EVERY_CHUNK = frozenset({"choices", "usage", "object", "prompt_token_ids"})


def wants_token_ids(answer: Answer) -> bool:
    """Return whether token ids are requested."""
    return answer.request.body.get("return_token_ids") is True


def prompt_ids(answer: Answer) -> list[int]:
    """Return the token ids of the prompt: for each message its role, words and end."""
    texts = [
        f"{message.get('role')}: {message.get('content')} ." for message in objects(answer.request.body.get("messages"))
    ]
    return [token_id for text in texts for token_id in completion_ids(text)]


def completion_ids(text: str | None) -> list[int]:
    """Return one token id per word, equal for equal words."""
    return [crc32(word.encode()) % _VOCABULARY for word in words(text or "")]


def _message(choice: Choice) -> Json:
    message: dict[str, object] = {"role": "assistant", "content": choice.text, "refusal": choice.refusal}
    if choice.reasoning is not None:
        message["reasoning_content"] = choice.reasoning
    calls = tool_calls(choice, lambda: f"call_{base62(24)}")
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return {**message, "annotations": []}


def _logprobs(text: str | None) -> Json | None:
    """Each word as a token with a constant probability; None without text."""
    if text is None:
        return None
    tokens = [
        {"token": word, "logprob": -0.25, "bytes": list(word.encode()), "top_logprobs": []} for word in words(text)
    ]
    return {"content": tokens, "refusal": None}


def _choice(index: int, choice: Choice, request: Json) -> Json:
    return {
        "index": index,
        "message": _message(choice),
        "logprobs": _logprobs(choice.text) if request.get("logprobs") is True else None,
        "finish_reason": FINISH_REASONS.get(choice.reason, choice.reason),
    }


def _chat(answer: Answer) -> Json:
    choices = [_choice(index, choice, answer.request.body) for index, choice in enumerate(answer.completions)]
    body: dict[str, object] = {
        "id": f"chatcmpl-{base62(29)}",
        "object": "chat.completion",
        "created": answer.created_s,
        "model": answer.model,
        "choices": choices,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }
    if wants_token_ids(answer):
        body["prompt_token_ids"] = prompt_ids(answer)
        body["choices"] = [
            {**body_choice, "token_ids": completion_ids(choice.text)}
            for body_choice, choice in zip(choices, answer.completions, strict=True)
        ]
    return with_usage(body, answer.reply, usage(answer.reply))


def _deltas(message: Json, *, has_whole_calls: bool) -> Iterator[tuple[Json, bool]]:
    """The message as deltas, each with whether it has content: its texts in pieces, anything else whole."""
    yield {"role": "assistant", "content": None if message.get("tool_calls") else "", "refusal": None}, False
    texts = {name: value for name in _TEXTS if isinstance(value := message.get(name), str)}
    for name, value in texts.items():
        for piece in words(value):
            yield {name: piece}, True
    for index, call in enumerate(objects(message.get("tool_calls"))):
        whole = {"tool_calls": [{**call, "index": index}]}
        yield from [(whole, True)] if has_whole_calls else _tool_deltas(index, call)
    other_fields = {
        name: value for name, value in message.items() if value and name not in {"role", "tool_calls", *texts}
    }
    if other_fields:
        yield other_fields, True


def _tool_deltas(index: int, call: Json) -> Iterator[tuple[Json, bool]]:
    kind, grows = ("custom", "input") if call.get("type") == "custom" else ("function", "arguments")
    inner = member(call, kind)
    text = inner.get(grows)
    head = {**inner, grows: ""} if isinstance(text, str) else inner
    # Records mark what was cut off; no provider does.
    fields = {name: value for name, value in call.items() if name != "incomplete"}
    yield {"tool_calls": [{**fields, "index": index, kind: head}]}, True
    for fragment in fragments(text) if isinstance(text, str) else ():
        yield {"tool_calls": [{"index": index, kind: {grows: fragment}}]}, True


def _shares(values: object, chunks: list[int]) -> dict[int, list[object]]:
    """The items of a list spread in order over the chunks of these numbers; a chunk may have none."""
    items = values if isinstance(values, list) else []
    bounds = pairwise(len(items) * at // len(chunks) for at in range(len(chunks) + 1))
    return {chunk: items[start:end] for chunk, (start, end) in zip(chunks, bounds, strict=True) if start < end}


def _chat_choice_chunks(choice: Json, *, has_whole_calls: bool) -> Iterator[tuple[Json, bool]]:
    """The chunks of a choice. Text chunks have its tokens; the last chunk has what else a provider states."""
    deltas = [*_deltas(member(choice, "message"), has_whole_calls=has_whole_calls), ({}, False)]
    last, logprobs = len(deltas) - 1, member(choice, "logprobs")
    of_text = [at for at, (delta, _) in enumerate(deltas) if delta.get("content")] or [last]
    ids, tokens = _shares(choice.get("token_ids"), of_text), _shares(logprobs.get("content"), of_text)
    refused = _shares(logprobs.get("refusal"), [last])
    other_fields = {name: value for name, value in choice.items() if name not in {"message", "token_ids"}}
    for at, (delta, content) in enumerate(deltas):
        chunk: dict[str, object] = {"index": choice.get("index", 0), "delta": delta}
        chunk["logprobs"] = (
            {"content": tokens.get(at), "refusal": refused.get(at)} if at in {*tokens, *refused} else None
        )
        chunk["finish_reason"] = choice.get("finish_reason") if at == last else None
        if at in ids:
            chunk["token_ids"] = ids[at]
        yield ({**other_fields, **chunk} if at == last else chunk), content


def _text_choice_chunks(choice: Json) -> Iterator[tuple[Json, bool]]:
    index = choice.get("index", 0)
    for piece in words(str(choice.get("text") or "")):
        yield {"index": index, "text": piece, "logprobs": None, "finish_reason": None}, True
    yield {"logprobs": None, "finish_reason": None, **choice, "index": index, "text": ""}, False


def _chunks(body: Json, answer: Answer, choices: list[list[tuple[Json, bool]]], name: str) -> list[StreamEvent]:
    """The chunks of all choices interleaved, the usage if requested, and the end.

    Mistral states the usage in the last chunk of a choice, unasked.
    """
    options = answer.request.body.get("stream_options")
    with_usage = isinstance(options, Mapping) and options.get("include_usage") is True
    is_mistral = _is_mistral(answer)
    common_fields = {key: value for key, value in body.items() if key not in _NOT_IN_EVERY_CHUNK}
    common_fields["object"] = name
    unknown = {"usage": None} if with_usage and "usage" in body and not is_mistral else {}
    events = [
        StreamEvent({**common_fields, "choices": [piece[0]], **unknown}, content=piece[1])
        for turn in zip_longest(*choices)
        for piece in turn
        if piece is not None
    ]
    if "prompt_token_ids" in body and isinstance(events[0].data, Mapping):
        events[0] = events[0]._replace(data={**events[0].data, "prompt_token_ids": body["prompt_token_ids"]})
    if is_mistral and "usage" in body and isinstance(events[-1].data, Mapping):
        events[-1] = events[-1]._replace(data={**events[-1].data, "usage": body["usage"]})
    if unknown:
        events.append(StreamEvent({**common_fields, "choices": [], "usage": body["usage"]}))
    return [*events, _DONE]


def _is_mistral(answer: Answer) -> bool:
    """Return whether Mistral's SDK asks, or a request has a path that only Mistral's API has."""
    request = answer.request
    return _MISTRAL in request.headers.get("user-agent", "") or request.path.endswith(_OF_MISTRAL)


def _chat_events(body: Json, answer: Answer) -> list[StreamEvent]:
    whole = _is_mistral(answer)  # whose SDK requires a name in each piece of a call
    choices = [list(_chat_choice_chunks(choice, has_whole_calls=whole)) for choice in objects(body.get("choices"))]
    return _chunks(body, answer, choices, "chat.completion.chunk")


def _completion_events(body: Json, answer: Answer) -> list[StreamEvent]:
    choices = [list(_text_choice_chunks(choice)) for choice in objects(body.get("choices"))]
    return _chunks(body, answer, choices, "text_completion")


def _completion(answer: Answer) -> Json:
    prompts = input_count(answer.request.body.get("prompt"))
    completions = answer.completions if answer.reply.choices else answer.completions * prompts
    body: dict[str, object] = {
        "id": f"cmpl-{base62(29)}",
        "object": "text_completion",
        "created": answer.created_s,
        "model": answer.model,
        "choices": [
            {"text": choice.text or "", "index": index, "logprobs": None, "finish_reason": choice.reason}
            for index, choice in enumerate(completions)
        ],
    }
    counters = {name: usage(answer.reply)[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    return with_usage(body, answer.reply, counters)


CHAT = Wire(OPENAI, _chat, _chat_events)
"""`POST /v1/chat/completions`."""

COMPLETIONS = Wire(OPENAI, _completion, _completion_events)
"""`POST /v1/completions`."""
