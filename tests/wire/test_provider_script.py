"""The scripted provider: which reply answers which request, on every wire, with faults; and `capture`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from callspan.testing import ReceivedRequest, Reply, ScriptedProvider
from tests.support.provider import FullProvider

MESSAGES: list[Any] = [{"role": "user", "content": "Which way?"}]
REQUEST: dict[str, Any] = {"model": "m", "messages": MESSAGES, "extra_body": {"return_token_ids": True}}
TOOL = {"name": "move", "arguments": {"direction": "north", "steps": 3}}


@pytest.fixture
def client(provider: ScriptedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as opened:
        yield opened


@pytest.fixture
def claude(provider: ScriptedProvider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k", max_retries=0) as opened:
        yield opened


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
