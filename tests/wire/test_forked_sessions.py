"""A recorded session is replayed up to a call, and goes on with a provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

import callspan
from callspan.records import CallRecord
from callspan.testing import ReplayError, ScriptedProvider, capture, replay

COMMANDS = ("ls", "cat a", "make", "cat b", "make")


def agent(url: str, results: str = "out of ", **options: Any) -> tuple[str, int]:
    """Ask for commands until there is none; return the last answer and the number of calls."""
    client = openai.OpenAI(base_url=url, api_key="key of the user", max_retries=0)
    messages: list[Any] = [{"role": "user", "content": "Fix the build."}]
    for calls in range(1, 9):
        answer = client.chat.completions.create(model="gpt-5", messages=messages, **options).choices[0].message
        messages.append(answer.model_dump(exclude_none=True))
        if not answer.tool_calls:
            return answer.content or "", calls
        for call in answer.tool_calls:
            messages.append({"role": "tool", "tool_call_id": call.id, "content": results + call.function.arguments})
    raise AssertionError("the agent does not end")


@pytest.fixture
def recorded() -> list[CallRecord]:
    """A session of six calls."""
    with ScriptedProvider() as provider, capture() as seen, callspan.session("agent"):
        for command in COMMANDS:
            provider.reply(tool_calls=[{"name": "sh", "arguments": {"command": command}}])
        provider.reply(text="I give up.")
        assert agent(provider.openai_url) == ("I give up.", 6)
    return seen.records


def test_session_goes_on_with_another_model(recorded: list[CallRecord]) -> None:
    with ScriptedProvider() as live:
        live.reply(tool_calls=[{"name": "sh", "arguments": {"command": "apt install x"}}])
        live.reply(text="Built.")
        address = live.openai_url.removesuffix("/v1")
        forked = replay(recorded, until=3, then=address, model="gpt-5-large", match="body")
        with capture() as seen, callspan.session("fork") as session, forked as provider:
            assert agent(provider.openai_url) == ("Built.", 5)
            assert provider.unused == []
    assert [request.body["model"] for request in live.requests] == ["gpt-5-large"] * 2
    assert {request.headers["authorization"] for request in live.requests} == {"Bearer key of the user"}
    assert [len(request.body["messages"]) for request in live.requests] == [7, 9]
    # Sending a request on is no call of its own.
    assert [call.place.session_id for call in seen.records] == [session.id] * 5
    assert [call.response and call.response.model for call in seen.records] == ["gpt-5"] * 3 + ["gpt-5-large"] * 2


def test_agent_that_does_something_else_before_the_fork_is_told(recorded: list[CallRecord]) -> None:
    with ScriptedProvider() as live:
        provider = replay(recorded, until=3, then=live.openai_url, match="body")
        told, failed = pytest.raises(ReplayError, match="differs at"), pytest.raises(openai.InternalServerError)
        with told, provider as forked, failed as raised:
            agent(forked.openai_url, results="another ")
        assert "differs at messages[2].content" in str(raised.value)
        assert live.requests == []


def test_streams_after_the_fork_are_streams(recorded: list[CallRecord]) -> None:
    with ScriptedProvider() as live, replay(recorded, until=0, then=live.openai_url.removesuffix("/v1")) as provider:
        live.reply(text="Good morning.", repeat=True)
        client = openai.OpenAI(base_url=provider.openai_url, api_key="k")
        chunks = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Good morning."
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k").messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
        ) as stream:
            assert stream.get_final_text() == "Good morning."


def test_error_after_the_fork_is_the_providers(recorded: list[CallRecord]) -> None:
    with ScriptedProvider() as live, replay(recorded, until=0, then=live.openai_url.removesuffix("/v1")) as provider:
        live.reply(status=429, message="Slow down.")
        with pytest.raises(openai.RateLimitError, match="Slow down"):
            agent(provider.openai_url)


def test_provider_that_does_not_answer_is_said(recorded: list[CallRecord]) -> None:
    provider = replay(recorded, until=0, then="http://127.0.0.1:9")
    told = pytest.raises(ReplayError, match=r"no live answer by http://127\.0\.0\.1:9 to POST")
    with told, provider as forked, pytest.raises(openai.InternalServerError):
        agent(forked.openai_url)


def test_recorded_session_of_a_store_is_forked(tmp_path: Path) -> None:
    handle_store = f"sqlite:///{tmp_path / 'calls.db'}"
    with ScriptedProvider() as live:
        live.reply(tool_calls=[{"name": "sh", "arguments": {"command": "ls"}}])
        live.reply(text="Done.")
        with capture(stores=handle_store), callspan.session("agent", session_id="s-1"):
            assert agent(live.openai_url) == ("Done.", 2)
        live.reply(text="Done at once.")
        with replay(handle_store, session="s-1", until=1, then=live.openai_url.removesuffix("/v1")) as provider:
            assert agent(provider.openai_url) == ("Done at once.", 2)
