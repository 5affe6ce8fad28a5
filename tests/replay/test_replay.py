"""A recorded run is replayed offline with the same responses; `callspan replay` sends a request again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from click.testing import CliRunner, Result

import callspan
from callspan.records import CallRecord
from callspan.stores import CallFilter
from callspan.testing import ReplayError, ScriptedProvider, capture, replay
from callspan.testing.replaying import Match
from tests.commands import callspan as command

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def ask(client: openai.OpenAI, question: str, **options: Any) -> Any:
    return client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": question}], **options)


def application(openai_url: str, anthropic_url: str) -> list[str]:
    """What the tests replay: chat, a stream, tools, Responses, Messages, an error."""
    texts: list[str] = []
    with openai.OpenAI(base_url=openai_url, api_key="any", max_retries=0) as client:
        texts.append(str(ask(client, "One?").choices[0].message.content))
        with ask(client, "Stream?", stream=True, stream_options={"include_usage": True}) as stream:
            chunks = list(stream)
            texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))
        called = ask(client, "Tool?", tools=[LOOK]).choices[0].message.tool_calls[0]
        texts.append(f"{called.id} {called.function.name} {called.function.arguments}")
        texts.append(client.responses.create(model="gpt-5", input="Respond?").output_text)
        with client.responses.create(model="gpt-5", input="Respond in pieces?", stream=True) as events:
            texts.append("".join(event.delta for event in events if event.type == "response.output_text.delta"))
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client, "Too much?")
        texts.append(str(caught.value.status_code))
        texts.append(client.completions.create(model="gpt-5", prompt="Complete?").choices[0].text)
        with client.completions.create(model="gpt-5", prompt="Complete in pieces?", stream=True) as pieces:
            texts.append("".join(piece.choices[0].text for piece in pieces if piece.choices))
        vectors = client.embeddings.create(model="text-embedding-3-small", input=["One", "Two"]).data
        texts.append(str([vector.embedding for vector in vectors]))
    with anthropic.Anthropic(base_url=anthropic_url, api_key="any", max_retries=0) as claude:
        question: Any = {"model": "claude", "max_tokens": 50, "messages": [{"role": "user", "content": "Claude?"}]}
        texts.append(getattr(claude.messages.create(**question).content[0], "text", ""))
        with claude.messages.stream(**question) as stream:
            texts.append(stream.get_final_text())
    return texts


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[str, list[str]]:
    """The store of one run of the application, and what it was answered."""
    url = f"sqlite:///{tmp_path}/recorded.db"
    handle = callspan.instrument(stores=url, spool_dir=tmp_path / "spool", media="inline")
    with ScriptedProvider() as provider:
        provider.reply("The first answer.")
        provider.reply("An answer in many small pieces.")
        provider.reply(tool_calls=[{"name": "look", "arguments": {"at": "east"}, "id": "call_7"}])
        provider.reply("From Responses.")
        provider.reply("From Responses, in pieces.")
        provider.reply(status=429, message="Slow down.")
        provider.reply("From completions.")
        provider.reply("From completions, in pieces.")
        provider.reply(embedding=(0.25, -0.5))
        provider.reply("From Claude.")
        provider.reply("From Claude, in pieces.")
        texts = application(provider.openai_url, provider.anthropic_url)
    assert handle.force_flush(20_000)
    handle.uninstrument()
    return url, texts


def test_the_application_gets_the_same_answers_again(recorded: tuple[str, list[str]]) -> None:
    url, texts = recorded
    for _ in range(2):
        with replay(url) as provider:
            assert application(provider.openai_url, provider.anthropic_url) == texts
            assert provider.unused == []


def test_the_replayed_calls_record_as_the_first_ones_did(recorded: tuple[str, list[str]]) -> None:
    url, _ = recorded
    store = callspan.open_store(url)
    first = list(store.calls(CallFilter(newest_first=False)))
    store.close()
    with replay(url) as provider, capture() as captured:
        application(provider.openai_url, provider.anthropic_url)

    def facts(call: CallRecord) -> tuple[object, ...]:
        answer = call.conversation.output if call.conversation else None
        return call.api, call.outcome, call.usage, answer, call.response and call.response.finish_reasons

    assert [facts(call) for call in captured.records] == [facts(call) for call in first]


def test_requests_in_another_order_get_their_own_answers(recorded: tuple[str, list[str]]) -> None:
    with replay(recorded[0]) as provider:
        client = openai.AsyncOpenAI(base_url=provider.openai_url, api_key="any")

        async def ask_one(question: str, **options: Any) -> Any:
            messages: Any = [{"role": "user", "content": question}]
            return await client.chat.completions.create(model="gpt-5", messages=messages, **options)

        async def ask_all() -> list[Any]:
            async with client:
                return await asyncio.gather(ask_one("Tool?", tools=[LOOK]), ask_one("One?"))

        tool, one = asyncio.run(ask_all())
        assert tool.choices[0].message.tool_calls[0].id == "call_7"
        assert one.choices[0].message.content == "The first answer."


def test_a_request_that_changed_gets_the_next_answer_of_its_api(recorded: tuple[str, list[str]]) -> None:
    with replay(recorded[0]) as provider, openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
        assert ask(client, "One, please?").choices[0].message.content == "The first answer."
        assert client.responses.create(model="gpt-6", input="New").output_text == "From Responses."
        assert len(provider.unused) == 9


def refused(store: str, *questions: str, match: Match = "order") -> None:
    """Ask until an error comes, which must be the last question's, then leave the replay."""
    with replay(store, match=match) as provider, openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
        for question in questions[:-1]:
            client.responses.create(model="gpt-5", input=question)
        with pytest.raises(openai.InternalServerError):
            client.responses.create(model="gpt-5", input=questions[-1])


def test_with_match_body_a_request_that_changed_is_an_error_for_both_sides(recorded: tuple[str, list[str]]) -> None:
    with pytest.raises(ReplayError, match=r"no recorded call with this body for POST /v1/responses"):
        refused(recorded[0], "Respond?", "Respond, please?", match="body")


def test_more_requests_than_were_recorded_are_an_error(recorded: tuple[str, list[str]]) -> None:
    with pytest.raises(ReplayError, match="9 recorded calls are left"):
        refused(recorded[0], "Respond?", "Respond?", "Respond?")


def test_the_sdks_own_retries_get_the_same_error(recorded: tuple[str, list[str]]) -> None:
    with replay(recorded[0]) as provider, openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
        with pytest.raises(openai.RateLimitError, match=r"Slow down\."):
            ask(client, "Too much?")
        assert len(provider.requests) == 1


@pytest.mark.parametrize(("session", "expected"), [(None, "nothing to replay"), ("nope", "no session nope")])
def test_nothing_to_replay_is_reported_at_once(tmp_path: Path, session: str | None, expected: str) -> None:
    url = f"sqlite:///{tmp_path}/empty.db"
    handle = callspan.instrument(stores=url, spool_dir=tmp_path / "spool")
    with callspan.session("without calls"):
        pass
    assert handle.force_flush(20_000)
    handle.uninstrument()
    with pytest.raises(ReplayError, match=expected), replay(url, session=session):
        pass


def test_an_answer_kept_without_content_cannot_be_replayed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/thin.db"
    handle = callspan.instrument(stores=url, spool_dir=tmp_path / "spool", content="metadata")
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
        ask(client, "One?")
    assert handle.force_flush(20_000)
    handle.uninstrument()
    with pytest.raises(ReplayError, match="content='full'"):
        refused_chat(url)


def refused_chat(url: str) -> None:
    with (
        replay(url) as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="any") as client,
        pytest.raises(openai.InternalServerError),
    ):
        ask(client, "One?")


def test_records_are_replayed_without_a_store() -> None:
    """Those that a capture has seen; of one session by its id or the beginning of it."""
    with ScriptedProvider() as provider, capture() as seen:
        client = openai.OpenAI(base_url=provider.openai_url, api_key="any")
        for text in ("One.", "Two."):
            provider.reply(text)
            with callspan.session("s", session_id=f"session-{text}"):
                ask(client, "Which?")
        client.close()
    records = seen.records
    for session, expected in ((None, ["One.", "Two."]), ("session-Two.", ["Two."]), ("session-T", ["Two."])):
        with replay(records, session=session) as again:
            with openai.OpenAI(base_url=again.openai_url, api_key="any") as client:
                found = [ask(client, "Which?").choices[0].message.content for _ in expected]
            assert (found, again.unused) == (expected, [])
    for session in (None, "other"):
        with pytest.raises(ReplayError, match="nothing to replay in the records"), replay([], session=session):
            pass


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


def test_what_was_not_kept_whole_is_not_sent(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/thin.db"
    handle = callspan.instrument(stores=url, spool_dir=tmp_path / "spool", content="metadata")
    with ScriptedProvider() as provider:
        with openai.OpenAI(base_url=provider.openai_url) as client:
            client.responses.create(model="gpt-5", input="One?")
        assert handle.force_flush(20_000)
        handle.uninstrument()
        result = Played(provider, url).again("responses")
        assert result.exit_code == 1
        assert "content='full'" in result.output
        assert len(provider.requests) == 1
