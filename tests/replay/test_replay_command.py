"""`callspan replay`: sends the recorded request again and shows both responses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from click.testing import CliRunner, Result

import callspan
from callspan.cli.commands import callspan as command
from callspan.stores import CallFilter
from callspan.testing import ScriptedProvider

MESSAGES: list[Any] = [{"role": "user", "content": "One?"}]


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "CALLSPAN_STORES", "CALLSPAN_CONTENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")


class Played:
    """A provider, and a store of one call to it for each API."""

    def __init__(self, provider: ScriptedProvider, url: str) -> None:
        self.provider = provider
        self.url = url
        self.ids = {f"{c.api}{' stream' if c.request.stream else ''}": c.call_id for c in self._calls()}

    def _calls(self) -> list[Any]:
        reader = callspan.open_store(self.url)
        found = list(reader.calls(CallFilter(newest_first=False)))
        reader.close()
        return found

    def again(self, api: str, *arguments: str) -> Result:
        base = self.provider.anthropic_url if api.startswith(("messages", "text_")) else self.provider.openai_url
        requests = ["--store", self.url, "replay", self.ids[api], "--base-url", base, *arguments]
        return CliRunner().invoke(command, requests, catch_exceptions=False)


def ask_everything(provider: ScriptedProvider) -> None:
    """One call of every endpoint, and where it can be streamed one more."""
    with openai.OpenAI(base_url=provider.openai_url) as client:
        client.chat.completions.create(model="gpt-5", messages=MESSAGES, temperature=0.5)
        for _ in client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True):
            continue
        client.responses.create(model="gpt-5", input="One?")
        for _ in client.responses.create(model="gpt-5", input="One?", stream=True):
            continue
        client.completions.create(model="gpt-5", prompt="One?")
        for _ in client.completions.create(model="gpt-5", prompt="One?", stream=True):
            continue
        client.embeddings.create(model="text-embedding-3-small", input=["One?", "Two?"])
    with anthropic.Anthropic(base_url=provider.anthropic_url) as claude:
        claude.messages.create(model="claude", max_tokens=9, messages=MESSAGES)
        with claude.messages.stream(model="claude", max_tokens=9, messages=MESSAGES) as stream:
            stream.until_done()
        text = {"model": "claude-2.1", "prompt": "One?", "max_tokens_to_sample": 9}
        claude.post("/v1/complete", body=text, cast_to=object)
        for _ in claude.post(
            "/v1/complete",
            body={**text, "stream": True},
            cast_to=object,
            stream=True,
            stream_cls=anthropic.Stream[object],
        ):
            continue


@pytest.fixture
def played(tmp_path: Path) -> Any:
    url = f"sqlite:///{tmp_path}/calls.db"
    handle = callspan.instrument(stores=url, spool_dir=tmp_path / "spool", media="inline")
    with ScriptedProvider() as provider:
        provider.reply("The old answer.", repeat=True)
        ask_everything(provider)
        assert handle.force_flush(20_000)
        handle.uninstrument()
        yield Played(provider, url)


TEXT_APIS = ("chat_completions", "responses", "completions", "messages", "text_completions")


@pytest.mark.parametrize("api", [*TEXT_APIS, *(f"{api} stream" for api in TEXT_APIS)])
def test_the_same_request_is_sent_and_both_answers_are_shown(played: Played, api: str) -> None:
    first = {request.content for request in played.provider.requests}
    played.provider.reply("The new answer.")
    result = played.again(api)
    assert result.exit_code == 0
    assert "The old answer." in result.output
    assert "The new answer." in result.output
    assert "other words" in result.output
    sent = played.provider.requests[-1]
    assert json.loads(sent.content) in [json.loads(content) for content in first]


def test_embeddings_are_requested_again_and_compared_by_their_vectors(played: Played) -> None:
    same = played.again("embeddings")
    assert same.exit_code == 0
    assert "2 vectors" in same.output
    assert "the same vectors" in same.output
    played.provider.reply(embedding=(0.5, 0.25))
    other = played.again("embeddings", "--model", "text-embedding-3-large")
    assert "2 vectors" in other.output
    assert "other vectors" in other.output
    body = played.provider.requests[-1].body
    assert (body["model"], body["input"]) == ("text-embedding-3-large", ["One?", "Two?"])


def test_vectors_kept_by_their_length_are_not_reported_as_the_same(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/thin.db"
    handle = callspan.instrument(stores=url, spool_dir=tmp_path / "spool")
    with ScriptedProvider() as provider:
        with openai.OpenAI(base_url=provider.openai_url) as client:
            client.embeddings.create(model="text-embedding-3-small", input="One?")
        assert handle.force_flush(20_000)
        handle.uninstrument()
        played = Played(provider, url)
        assert "1 vector" in (again := played.again("embeddings")).output
        assert "record with media='inline'" in again.output
        assert json.loads(played.again("embeddings", "--json").stdout)["same"] is None


def test_the_same_answer_is_reported_as_the_same(played: Played) -> None:
    result = json.loads(played.again("responses", "--json").stdout)
    assert result["same"] is True
    assert result["recorded"]["output"] == result["replayed"]["output"] == "The old answer."


def test_another_model_can_be_used(played: Played) -> None:
    result = json.loads(played.again("chat_completions", "--model", "gpt-6", "--json").stdout)
    assert result["replayed"]["model"] == "gpt-6"
    body = played.provider.requests[-1].body
    assert (body["model"], body["temperature"]) == ("gpt-6", 0.5)


def test_an_error_is_shown_and_is_an_exit_code(played: Played) -> None:
    played.provider.reply(status=400, message="No \x1b[31msuch\x07 model.")
    result = played.again("chat_completions")
    assert result.exit_code == 1
    assert "such" in result.output
    assert "\x1b" not in result.output
    assert "\x07" not in result.output


def test_a_call_is_not_sent_to_another_host_than_it_went_to(played: Played) -> None:
    before = len(played.provider.requests)
    requests = ["--store", played.url, "replay", played.ids["responses"]]
    result = CliRunner().invoke(command, requests, catch_exceptions=False)
    assert result.exit_code == 1
    assert "the call went to 127.0.0.1" in result.output
    assert "--base-url" in result.output
    assert len(played.provider.requests) == before


def test_a_missing_key_is_reported(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    result = played.again("responses")
    assert result.exit_code == 1
    assert "OPENAI_API_KEY" in result.output


def test_an_unknown_call_is_an_exit_code(played: Played) -> None:
    result = CliRunner().invoke(command, ["--store", played.url, "replay", "nope"])
    assert result.exit_code == 1
    assert "nope" in result.output
