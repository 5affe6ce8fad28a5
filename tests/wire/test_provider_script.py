"""The scripted provider: which reply answers which request, on every wire, with faults; and `capture`."""

from __future__ import annotations

import dataclasses
import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import anthropic
import openai
import pytest

from callspan.testing import ReceivedRequest, Reply, ScriptedProvider
from callspan.testing.provider.script import ReplyFields
from tests.support.processes import ran
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


def test_a_failing_responder_does_not_hide_the_error_of_the_block() -> None:
    def broken(_: ReceivedRequest) -> Reply:
        raise AssertionError("hidden")

    def run() -> None:
        with FullProvider() as provider:
            provider.reply(responder=broken)
            with openai.OpenAI(base_url=provider.openai_url, api_key="key", max_retries=0) as client:
                client.chat.completions.create(model="m", messages=[])

    with pytest.raises(openai.InternalServerError):
        run()


def test_a_body_that_is_not_json_is_kept_as_bytes(provider: ScriptedProvider) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(provider.url.rsplit(":", 1)[1]))
    connection.request("POST", "/v1/chat/completions", body=b"{not json")
    assert connection.getresponse().status == 200
    connection.close()
    (request,) = provider.requests
    assert (request.json, request.content, request.retry_count) == (None, b"{not json", None)
    assert request.body == {}


def test_keywords_and_fields_of_a_reply_are_the_same() -> None:
    assert get_type_hints(ReplyFields) == get_type_hints(Reply)
    assert set(ReplyFields.__annotations__) == {field.name for field in dataclasses.fields(Reply)}


def test_a_reply_and_fields_together_are_refused(provider: ScriptedProvider) -> None:
    with pytest.raises(TypeError, match="pass either"):
        provider.reply("text", model="m")


def test_importing_the_provider_imports_no_sdk(tmp_path: Path) -> None:
    code = (
        "import sys, callspan.testing, callspan.testing.provider;"
        "print([m for m in ('openai', 'anthropic', 'httpx', 'httpx2', 'opentelemetry') if m in sys.modules])"
    )
    assert ran("-c", code, cwd=tmp_path).stdout == "[]\n"


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


@pytest.mark.parametrize(("polls", "status"), [(1, "cancelled"), (0, "completed")])
def test_a_response_in_the_background_can_be_cancelled_until_its_end(
    provider: ScriptedProvider, client: openai.OpenAI, polls: int, status: str
) -> None:
    provider.reply(text="Paris.", polls=polls)
    job = client.responses.create(model="m", input="What?", background=True)
    assert client.responses.cancel(job.id).status == client.responses.retrieve(job.id).status == status


def test_broken_tool_arguments_stay_broken_text(provider: ScriptedProvider, claude: anthropic.Anthropic) -> None:
    provider.reply(tool_calls=[{"name": "move", "arguments": '{"direction": "no'}])
    events: Any = claude.messages.create(model="m", max_tokens=64, messages=MESSAGES, stream=True)
    deltas = [event.delta.partial_json for event in events if event.type == "content_block_delta"]
    assert "".join(deltas) == '{"direction": "no'


def test_only_the_first_of_several_choices_is_shown(provider: ScriptedProvider, claude: anthropic.Anthropic) -> None:
    provider.reply(choices=["first", "second"])
    content: Any = claude.messages.create(model="m", max_tokens=64, messages=MESSAGES).content
    assert [block.text for block in content] == ["first"]


def test_a_stream_adds_up_to_the_ids_of_the_whole_answer(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    provider.reply("go east go east", repeat=True)
    whole = client.chat.completions.create(**REQUEST).to_dict()
    chunks = [chunk.to_dict() for chunk in client.chat.completions.create(**REQUEST, stream=True)]
    streamed = [one for chunk in chunks for choice in chunk["choices"] for one in choice.get("token_ids") or ()]
    assert streamed == whole["choices"][0]["token_ids"]
    prompts = [chunk.get("prompt_token_ids") for chunk in chunks]
    assert prompts == [whole["prompt_token_ids"], *[None] * (len(chunks) - 1)]
