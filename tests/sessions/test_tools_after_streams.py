"""A tool that runs right after a stream is joined to it, wherever its reader has stopped; the call still ends once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import httpx
import pytest
from tests.sessions import sdk_clients as clients
from tests.sessions.sdk_clients import ASK, CONVERSE, INTERACTION_EVENTS, INVOKE

from callspan import session
from callspan.testing import Capture, ScriptedProvider, capture

pytestmark = clients.MARKS
RUNS: Final = 3
"""Of each: where the garbage collector ends the call on another thread, some runs are joined by chance."""
TOOL: Final[dict[str, Any]] = {"name": "look", "arguments": {"place": "east"}, "id": "call_1"}
CHUNK: Final[dict[str, Any]] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
CALLED: Final = {"index": 0, "type": "function", "id": "call_1"} | {
    "function": {"name": "look", "arguments": '{"place": "east"}'}
}
WHOLE_CALLS: Final = [
    {**CHUNK, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
    {
        **CHUNK, "choices": [{"index": 0, "delta": {"tool_calls": [CALLED]}, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12},
    },
]  # fmt: skip
"""Mistral does not stream tool calls in pieces."""


def until(stream: Iterable[Any], is_last: Callable[[Any], Any]) -> Iterable[Any]:
    """Read a stream up to an item, and keep it open."""
    for item in stream:
        if is_last(item):
            break
    return stream


def lines(url: str, body: dict[str, Any], is_last: Callable[[str], Any]) -> Any:
    """Read a stream by lines up to one, with no SDK, and leave it open."""
    client = httpx.Client(trust_env=False)
    response = client.send(client.build_request("POST", url, json={**body, "stream": True}), stream=True)
    until(response.iter_lines(), is_last)
    return client, response


def calls_in(seen: Capture) -> list[Any]:
    return list(seen.records)


def close(stream: Any) -> None:
    for part in stream if isinstance(stream, tuple) else (stream,):
        getattr(part, "close", bool)()


class Row(NamedTuple):
    """A stream, and where its reader stops."""

    read: Callable[[ScriptedProvider], Any]
    tokens: int | None = 9
    """Of the answer, as far as it was read."""
    answer: dict[str, Any] | None = None


def interact(p: ScriptedProvider) -> Any:
    client = clients.of_google(p)
    if not hasattr(client, "interactions"):
        pytest.skip("this version has no interactions")
    return client.interactions.create(model="m", input="q", stream=True)


def content(p: ScriptedProvider) -> Any:
    return clients.of_google(p).models.generate_content_stream(model="m", contents="q")


def chat(p: ScriptedProvider) -> Any:
    return clients.of_openai(p).chat.completions.create(**ASK, stream=True)


def respond(p: ScriptedProvider) -> Any:
    return clients.of_openai(p).responses.create(model="m", input="q", stream=True)


def message(p: ScriptedProvider) -> Any:
    return clients.of_anthropic(p).messages.create(**ASK, max_tokens=9, stream=True)


def converse(p: ScriptedProvider) -> Any:
    return clients.of_bedrock(p).converse_stream(**CONVERSE)["stream"]


def invoke(p: ScriptedProvider) -> Any:
    return clients.of_bedrock(p).invoke_model_with_response_stream(**INVOKE)["body"]


def finish_reason(chunk: Any) -> Any:
    return chunk.choices and chunk.choices[0].finish_reason


SCRIPTED_INTERACTION: Final = {"raw": INTERACTION_EVENTS, "on": "/interactions"}
ROWS: Final = {
    "chat": Row(lambda p: list(chat(p)), None),
    "chat, to its finish reason": Row(lambda p: until(chat(p), finish_reason), None),
    "responses": Row(lambda p: list(respond(p))),
    "responses, to the last event": Row(lambda p: until(respond(p), lambda event: event.type == "response.completed")),
    "messages, to the last event": Row(lambda p: until(message(p), lambda event: event.type == "message_stop")),
    "gemini": Row(lambda p: list(content(p))),
    "gemini, to its finish reason": Row(lambda p: until(content(p), lambda chunk: chunk.candidates[0].finish_reason)),
    "interaction": Row(lambda p: list(interact(p)), None, SCRIPTED_INTERACTION),
    "interaction, to the last event": Row(
        lambda p: until(interact(p), lambda event: event.event_type == "interaction.completed"), None,
        SCRIPTED_INTERACTION,
    ),
    "converse, to the counters": Row(lambda p: until(converse(p), lambda event: "metadata" in event)),
    "converse, to its stop reason": Row(lambda p: until(converse(p), lambda event: "messageStop" in event), None),
    "invoked, to the last event": Row(
        lambda p: until(invoke(p), lambda event: b"message_stop" in event["chunk"]["bytes"])
    ),
    "lines of chat, to the sentinel": Row(
        lambda p: lines(f"{p.openai_url}/chat/completions", ASK, lambda line: "[DONE]" in line), None
    ),
    "lines of responses, to the last event": Row(
        lambda p: lines(
            f"{p.openai_url}/responses", {"model": "m", "input": "q"}, lambda line: '"response.completed"' in line
        )
    ),
    "lines of messages, to the last event": Row(
        lambda p: lines(
            f"{p.anthropic_url}/v1/messages", {**ASK, "max_tokens": 9}, lambda line: '"message_stop"' in line
        )
    ),
    "mistralai": Row(lambda p: list(clients.of_mistral(p).chat.stream(**ASK)), 9, {"raw": WHOLE_CALLS}),
    "mistralai, to its finish reason": Row(
        lambda p: until(clients.of_mistral(p).chat.stream(**ASK), lambda event: finish_reason(event.data)), 9,
        {"raw": WHOLE_CALLS},
    ),
    "cohere, to the last event": Row(
        lambda p: until(clients.of_cohere(p).chat_stream(**ASK), lambda event: event.type == "message-end")
    ),
    "huggingface_hub, to its finish reason": Row(
        lambda p: until(clients.of_hugging_face(p).chat_completion(**ASK, stream=True), finish_reason), None
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_tool_after_a_stream_is_joined_always(name: str, provider: ScriptedProvider) -> None:
    row = ROWS[name]
    usual = {"tool_calls": [TOOL], "output_tokens": 9}
    for _ in range(RUNS):
        provider.reply(**(usual if row.answer is None else row.answer))
        with capture() as seen, session("s") as own, own.timestep() as step:
            stream = row.read(provider)
            with step.tool("look", arguments={"place": "east"}):
                pass
        close(stream)
        del stream
        (record,) = calls_in(seen)
        runs = [one for one in seen.events if one.event_type in ("tool_start", "tool")]
        assert [(one.call_id, one.tool_call_id) for one in runs] == [(record.call_id, "call_1")] * 2
        assert record.outcome == "success"
        assert (None if record.usage is None else record.usage.output_tokens) == row.tokens


LAST_EVENTS: Final = {
    "chat": ("/chat/completions", ASK, "[DONE]"),
    "responses": ("/responses", {"model": "m", "input": "q"}, '"response.completed"'),
    "messages": ("/messages", {**ASK, "max_tokens": 9}, '"message_stop"'),
}


@pytest.mark.parametrize("name", LAST_EVENTS)
def test_call_ends_at_its_last_event_and_its_reader_goes_on(name: str, provider: ScriptedProvider) -> None:
    path, body, last = LAST_EVENTS[name]
    provider.reply(tool_calls=[TOOL], output_tokens=9, repeat=True)
    asked = {**body, "stream": True, **({"stream_options": {"include_usage": True}} if name == "chat" else {})}
    with httpx.Client(trust_env=False) as client:
        read: list[list[str]] = []
        for _ in range(2):
            with capture() as seen, client.stream("POST", provider.url + "/v1" + path, json=asked) as response:
                iterator, before = response.iter_lines(), list[str]()
                for line in iterator:
                    before.append(line)
                    if last in line:
                        break
                read.append([*before, *iterator])
            (record,) = calls_in(seen)
            assert (record.outcome, record.stream.end, record.stream.complete) == ("success", "complete", True)
            assert record.usage.output_tokens == 9
    assert len(read[0]) == len(read[1]) > 3


@pytest.mark.parametrize("name", LAST_EVENTS)
def test_call_has_ended_while_its_reader_is_still_open(name: str, provider: ScriptedProvider) -> None:
    path, body, last = LAST_EVENTS[name]
    provider.reply(tool_calls=[TOOL], output_tokens=9)
    asked = {**body, "stream": True, **({"stream_options": {"include_usage": True}} if name == "chat" else {})}
    with capture() as seen, httpx.Client(trust_env=False) as client:
        with client.stream("POST", provider.url + "/v1" + path, json=asked) as response:
            reader = response.iter_lines()
            until(reader, lambda line: last in line)
            (record,) = calls_in(seen)
            assert (record.part, record.stream.complete, record.usage.output_tokens) == ("ended", True, 9)
        assert [one.timing for one in calls_in(seen)] == [record.timing]


@pytest.mark.parametrize("after", ["usage", "content"])
def test_nothing_after_a_finish_reason_is_lost(after: str, provider: ScriptedProvider) -> None:
    """Servers send usage after the finish reason, and gateways join streams."""
    usage = {**CHUNK, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}}
    text = {**CHUNK, "choices": [{"index": 0, "delta": {"content": "More."}, "finish_reason": None}]}
    begun = {**CHUNK, "choices": [{"index": 0, "delta": {"content": "One. "}, "finish_reason": "stop"}]}
    provider.reply(raw=[begun, usage if after == "usage" else text])
    with capture() as seen, httpx.Client(trust_env=False) as client:
        url = f"{provider.openai_url}/chat/completions"
        with client.stream("POST", url, json={**ASK, "stream": True}) as response:
            payloads = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    assert len(payloads) == 2
    (record,) = calls_in(seen)
    if after == "usage":
        assert record.usage.output_tokens == 9
    else:
        assert record.text == "One. More."
