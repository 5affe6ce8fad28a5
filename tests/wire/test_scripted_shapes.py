"""The scripted provider: replies of the shapes that were recorded, which reply answers which request, and faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from tests.support.provider import FullProvider
from tests.wire.corpus import events, load

from callspan.testing import ReceivedRequest, Reply, ScriptedProvider

PATHS = {
    "chat_completions": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "embeddings": "/v1/embeddings",
}
CASES = [(api, stream) for api in PATHS for stream in (False, True) if (api, stream) != ("embeddings", True)]
OPAQUE = {"metadata", "logit_bias", "input"}
"""Objects whose keys are the caller's or the model's own."""
DONE = "[DONE]"
OWN_HOSTS = ("api.openai.com", "api.anthropic.com")
KINDS = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null", dict: "object", list: "array"}
DOCUMENTED = {("response.function_call_arguments.done|response.function_call_arguments.done.name", "text")}
"""Newer than the recordings; the openai SDK declares it as required."""
UNRECORDED_REASONING = [("responses", True)]
"""No recorded stream has a summary of reasoning."""
UNRECORDED_USAGE = [("completions", True)]
"""No recorded stream of the older endpoint was asked for usage."""


def shape(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield each place in a JSON value with the kind of what stands there."""
    yield path, KINDS[type(value)]
    if isinstance(value, dict) and path.rpartition(".")[2] not in OPAQUE:
        for key, each in value.items():
            yield from shape(each, f"{path}.{key}")
    for each in value if isinstance(value, list) else ():
        yield from shape(each, f"{path}[]")


def shapes(text: str, *, stream: bool) -> set[tuple[str, str]]:
    """The shapes of a whole answer; those of a stream by the type and the `event:` line of each event."""
    if not stream:
        return set(shape(json.loads(text), "body"))
    found = set[tuple[str, str]]()
    for event in events(text):
        data = None if event.data == DONE else event.json()
        kind = event.data if data is None else data.get("type", "chunk")
        found |= set(shape(data, f"{event.event}|{kind}"))
    return found


def recorded_shapes(api: str, stream: bool, *hosts: str) -> list[set[tuple[str, str]]]:
    """The shapes of each recorded answer, of any host if none is given."""
    chosen = [each for each in load() if (each.endpoint, each.stream, each.status) == (api, stream, 200) and each.body]
    of_hosts = [each for each in chosen if each.inference and (not hosts or each.host in hosts)]
    return [shapes(each.body, stream=stream) for each in of_hosts]


@pytest.mark.parametrize(
    ("api", "stream"), CASES, ids=[f"{api}-{'sse' if stream else 'json'}" for api, stream in CASES]
)
def test_the_scripted_provider_sends_the_shapes_that_were_recorded(api: str, stream: bool) -> None:
    tool = {"name": "move", "arguments": {"direction": "north"}}
    request: dict[str, object] = {"model": "m", "stream": stream, "messages": [], "input": "x", "prompt": "x"}
    reasoning = None if (api, stream) in UNRECORDED_REASONING else "A wall is east."
    if (api, stream) not in UNRECORDED_USAGE:
        request["stream_options"] = {"include_usage": True}
    with ScriptedProvider() as provider, httpx2.Client(trust_env=False) as client:
        provider.reply(text="Let us go.", reasoning=reasoning, tool_calls=[tool], cache_read_tokens=3)
        url = provider.openai_url.removesuffix("/v1") + PATHS[api]
        answer = client.post(url, json=request)
    ours = shapes(answer.text, stream=stream)
    assert sorted(ours - set().union(*recorded_shapes(api, stream)) - DOCUMENTED) == []
    always = set.intersection(*({path for path, _ in one} for one in recorded_shapes(api, stream, *OWN_HOSTS)))
    assert sorted(always - {path for path, _ in ours}) == []


MESSAGES: list[Any] = [{"role": "user", "content": "Which way?"}]
REQUEST: dict[str, Any] = {"model": "m", "messages": MESSAGES, "extra_body": {"return_token_ids": True}}
TOOL = {"name": "move", "arguments": {"direction": "north", "steps": 3}}


def test_a_failing_responder_fails_the_call_and_the_test() -> None:
    def broken(_: ReceivedRequest) -> Reply:
        raise AssertionError("the agent asked for nonsense")

    provider = FullProvider()
    provider.reply(responder=broken)
    client = openai.OpenAI(base_url=provider.openai_url, api_key="key", max_retries=3)
    with client, pytest.raises(openai.InternalServerError, match="responder"):
        client.chat.completions.create(model="m", messages=[])
    assert len(provider.requests) == 1
    with pytest.raises(AssertionError, match="nonsense"):
        provider.close()
    provider.close()


def test_an_unknown_path_is_not_found(
    provider: ScriptedProvider, client: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    provider.reply(text="kept for a known path")
    with pytest.raises(openai.NotFoundError, match="POST /v1/elsewhere"):
        client.post("/elsewhere", body={}, cast_to=object)
    with pytest.raises(anthropic.NotFoundError):
        claude.beta.skills.list()
    assert provider.pending == 1


def test_raw_events_are_sent_in_order(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    provider.reply(raw=[{"id": "a", "choices": None}, {"id": "b"}, "[DONE]", {"id": "never read"}])
    chunks = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert [chunk.id for chunk in chunks] == ["a", "b"]


def test_log_probabilities_are_reported_when_requested(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    def chat(**more: Any) -> Any:
        return client.chat.completions.create(model="m", messages=MESSAGES, **more)

    provider.reply(text="Paris, no doubt", tool_calls=[TOOL], repeat=True)
    whole = chat(logprobs=True).choices[0].logprobs.content
    parts = [choice.logprobs for chunk in chat(logprobs=True, stream=True) for choice in chunk.choices]
    assert [token.token for token in whole] == ["Paris,", " no", " doubt"]
    assert bytes(whole[1].bytes) == b" no"
    assert [part.content[0] for part in parts if part] == whole
    assert chat().choices[0].logprobs is None


def test_a_stream_adds_up_to_the_ids_of_the_whole_answer(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    provider.reply("go east go east", repeat=True)
    whole = client.chat.completions.create(**REQUEST).to_dict()
    chunks = [chunk.to_dict() for chunk in client.chat.completions.create(**REQUEST, stream=True)]
    streamed = [one for chunk in chunks for choice in chunk["choices"] for one in choice.get("token_ids") or ()]
    assert streamed == whole["choices"][0]["token_ids"]
    prompts = [chunk.get("prompt_token_ids") for chunk in chunks]
    assert prompts == [whole["prompt_token_ids"], *[None] * (len(chunks) - 1)]
