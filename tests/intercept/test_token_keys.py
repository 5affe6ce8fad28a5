"""The key `token` is text in responses, tool arguments and messages, and a secret in metadata, tools and servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import pytest

import callspan
from callspan.process.secrets import MASK
from callspan.records import CallRecord, encode
from callspan.testing import Captured
from tests.intercept.calls import Run, the_call
from tests.intercept.mode import Mode
from tests.intercept.sdks import needs_name

PIECES: Final = ("Hello", " sk-proj-abcdefgh0123456789", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefgh", "secret")
TEXT: Final = "".join(PIECES)
SECRET: Final = "plainsecret"
USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def piece(token: str, **more: Any) -> dict[str, Any]:
    """A piece of text with its log-probability, as chat and responses have it."""
    return {"token": token, "logprob": -0.25, "bytes": list(token.encode()), **more}


PROBABLE: Final = [piece(token, top_logprobs=[piece(token), piece("token")]) for token in PIECES]
PLAIN: Final = {
    "tokens": list(PIECES),
    "token_logprobs": [-0.25] * len(PIECES),
    "top_logprobs": [{token: -0.25, "token": -3.5, "api_key": -4.5} for token in PIECES],
    "text_offset": list(range(len(PIECES))),
}


def chat(stream: bool) -> Any:
    """What chat completions answer: the body, or the chunks."""
    known = {"id": "c1", "created": 1, "model": "m"}
    probable = {"content": PROBABLE, "refusal": None}
    if not stream:
        message = {"role": "assistant", "content": TEXT, "refusal": None}
        choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": probable}
        return {**known, "object": "chat.completion", "choices": [choice], "usage": USAGE}
    return [
        {**known, "object": "chat.completion.chunk", "choices": [
            {"index": 0, "delta": {"content": one["token"]}, "logprobs": {"content": [one], "refusal": None},
             "finish_reason": None}]}
        for one in PROBABLE
    ]  # fmt: skip


def completion(stream: bool) -> Any:
    """What the older completions answer."""
    known = {"id": "c1", "created": 1, "model": "m", "object": "text_completion"}
    if not stream:
        return {**known, "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop", "logprobs": PLAIN}]}
    parts = [{key: [values[at]] for key, values in PLAIN.items()} for at in range(len(PIECES))]
    return [
        {**known, "choices": [{"index": 0, "text": token, "finish_reason": None, "logprobs": part}]}
        for token, part in zip(PIECES, parts, strict=True)
    ]


def response(stream: bool) -> Any:
    """What the Responses API answers; it repeats the metadata and the tools."""
    content = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": PROBABLE}
    item = {"id": "i1", "type": "message", "role": "assistant", "status": "completed", "content": [content]}
    called = {"id": "i2", "type": "function_call", "call_id": "c", "name": "f", "arguments": ARGUMENTS}
    whole = {
        "id": "r1", "object": "response", "created_at": 1, "model": "m", "status": "completed",
        "output": [item, called], "metadata": {"token": SECRET}, "tools": SERVERS,
        "parallel_tool_calls": True, "tool_choice": "auto",
    }  # fmt: skip
    if not stream:
        return whole
    at = {"item_id": "i1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}},
        *({"type": "response.output_text.delta", **at, "delta": one["token"], "logprobs": [one]} for one in PROBABLE),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 1, "item": called},
        {"type": "response.completed", "response": whole},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def message(stream: bool) -> Any:
    """What Anthropic's Messages answer: a call of a tool whose argument is named `token`."""
    known = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "usage": {"input_tokens": 1}}
    text, used = {"type": "text", "text": TEXT}, {"type": "tool_use", "id": "t1", "name": "f"}
    if not stream:
        ended = {"stop_reason": "tool_use", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 2}}
        return {**known, **ended, "content": [text, {**used, "input": {"token": PIECES[1]}}]}
    return [
        {"type": "message_start", "message": {**known, "content": [], "stop_reason": None, "stop_sequence": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {**used, "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ARGUMENTS}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
         "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]  # fmt: skip


ARGUMENTS: Final = json.dumps({"token": PIECES[1]})
FUNCTION: Final = {
    "name": "f",
    "parameters": {"type": "object", "properties": {"token": {"type": "string"}}, "required": ["token"]},
}
SERVERS: Final[list[Any]] = [
    {"type": "mcp", "server_label": "s", "server_url": f"https://mcp.test/?token={SECRET}", "token": SECRET},
    {"type": "function", "strict": True, **FUNCTION},
]
METADATA: Final = {"token": SECRET, "kind": "test"}
TURNS: Final[list[Any]] = [
    {"role": "user", "content": TEXT, "token": "said"},
    {"role": "assistant", "tool_calls": [
        {"id": "t", "type": "function", "function": {"name": "f", "arguments": ARGUMENTS}}]},
    {"role": "tool", "tool_call_id": "t", "content": ARGUMENTS},
]  # fmt: skip
BLOCKS: Final[list[Any]] = [
    {"role": "user", "content": [{"type": "text", "text": TEXT}]},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"token": PIECES[1]}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": ARGUMENTS}]},
]
INPUT: Final[list[Any]] = [
    {"role": "user", "content": TEXT, "token": "said"},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": ARGUMENTS},
]
REMOTE: Final[list[Any]] = [{"type": "url", "url": "https://mcp.test", "name": "s", "token": SECRET}]

CASES: Final[dict[str, tuple[Callable[[bool], Any], str, dict[str, Any]]]] = {
    "chat": (chat, "messages", {
        "messages": TURNS, "logprobs": True, "top_logprobs": 2, "extra_body": {"metadata": METADATA},
        "tools": [{"type": "function", "function": FUNCTION}]}),
    "completions": (completion, "prompt", {"prompt": TEXT, "logprobs": 2, "extra_body": {"metadata": METADATA}}),
    "responses": (response, "input", {
        "input": INPUT, "top_logprobs": 2, "include": ["message.output_text.logprobs"], "metadata": METADATA,
        "tools": SERVERS}),
    "messages": (message, "messages", {
        "messages": BLOCKS, "max_tokens": 9, "extra_body": {"mcp_servers": REMOTE, "metadata": METADATA}}),
}  # fmt: skip


async def exchanged(mode: Mode, api: str, stream: bool) -> None:
    """Ask one API and read its answer to the end."""
    answer, _, request = CASES[api]
    mode.provider.reply(raw=answer(stream))
    if api == "messages":
        create = mode.anthropic().messages.create
    else:
        client = mode.openai()
        path = {"chat": "chat.completions", "completions": "completions", "responses": "responses"}[api]
        needs_name(client, path)
        create = attrgetter(path)(client).create
    result = await mode.wait(create(model="m", **request, **({"stream": True} if stream else {})))
    if stream:
        assert await mode.all(result)


def the_answer(record: CallRecord) -> Any:
    assert record.response is not None
    return json.loads(bytes(record.response.body))


def content_of(api: str, response: Any) -> Any:
    """Of an answer what the model said and how probable it was."""
    if api == "messages":
        return response["content"]
    if api == "responses":
        return response["output"]
    (choice,) = response["choices"]
    return (choice["message"]["content"] if api == "chat" else choice["text"]), choice["logprobs"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("api", list(CASES))
def test_log_probabilities_arguments_and_messages_come_back_whole_and_settings_masked(
    api: str, stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    answer, key, body = CASES[api]
    run(lambda: exchanged(mode, api, stream))
    record = the_call(seen)
    assert content_of(api, the_answer(record)) == content_of(api, answer(False))
    request = json.loads(bytes(record.request.body))
    assert request[key] == body[key], "messages are exact"
    assert request["metadata"] == {"token": MASK, "kind": "test"}
    assert {note.what for note in record.redactions} >= {"request.body"}
    assert SECRET.encode() not in encode(record)
    assert not [span for span in seen.spans if SECRET in span.to_json()]


def test_what_the_application_calls_token_is_masked_in_metadata_and_kept_in_what_tools_are_given(
    mode: Mode, run: Run, seen: Captured
) -> None:
    async def body() -> None:
        with callspan.metadata(token=SECRET, kind="test"), callspan.session("s") as session, session.timestep() as step:
            await exchanged(mode, "chat", False)
            with step.tool("f", arguments={"token": PIECES[0]}) as tool:
                tool.result = {"token": PIECES[2]}

    run(body)
    (record,) = [one for one in seen.everything if isinstance(one, CallRecord) and one.outcome != "started"]
    assert record.metadata == {"extra": {"token": MASK, "kind": "test"}}
    kept = b"".join(encode(one) for one in seen.everything)
    assert SECRET.encode() not in kept
    assert PIECES[2].encode() in kept
