"""Identity: types and introspection are as without callspan, also where hooks are removed during a stream."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import anthropic
import openai
import pytest

import callspan
from callspan.testing import Captured, ScriptedProvider, capture
from tests.intercept import sdks
from tests.intercept.calls import QUESTION, Run, text_of, the_call
from tests.intercept.mode import Mode

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION}
MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}


def test_streams_are_exactly_the_sdks_own_types(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        ours = await mode.wait(mode.openai().chat.completions.create(**CHAT, stream=True))
        theirs = await mode.wait(mode.anthropic().messages.create(**MESSAGE, stream=True))
        assert type(ours) is (openai.AsyncStream if mode.is_async else openai.Stream)
        assert type(theirs) is (anthropic.AsyncStream if mode.is_async else anthropic.Stream)
        assert type(ours.response) is sdks.http_of("openai").Response
        await mode.all(ours)
        await mode.all(theirs)

    run(body)
    assert len(seen.records) == 2


def test_results_are_exactly_the_sdks_own_types(mode: Mode, run: Run, seen: Captured) -> None:
    from anthropic.types import Message
    from openai.types.chat import ChatCompletion

    async def body() -> None:
        assert type(await mode.wait(mode.openai().chat.completions.create(**CHAT))) is ChatCompletion
        assert type(await mode.wait(mode.anthropic().messages.create(**MESSAGE))) is Message

    run(body)


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_coroutine_functions_and_signatures_stay_what_they_are(sdk: str) -> None:
    base = __import__(f"{sdk}._base_client", fromlist=["x"])

    def look() -> list[Any]:
        return [
            inspect.iscoroutinefunction(base.AsyncAPIClient.request),
            inspect.iscoroutinefunction(base.SyncAPIClient.request),
            inspect.iscoroutinefunction(sdks.http_of(sdk).AsyncClient.send),
            inspect.iscoroutinefunction(sdks.http_of(sdk).Response.aclose),
            inspect.signature(base.SyncAPIClient.request),
            inspect.signature(base.BaseClient._process_response_data),
            inspect.signature(sdks.http_of(sdk).Client.send),
            base.SyncAPIClient.request.__name__,
            base.AsyncAPIClient.request.__qualname__,
        ]

    before = look()
    with capture():
        assert look() == before


def test_clients_and_streams_have_no_callspan_attributes(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        client = mode.openai()
        before = set(vars(client))
        stream = await mode.wait(client.chat.completions.create(**CHAT, stream=True))
        await mode.all(stream)
        assert set(vars(client)) - before <= {"chat"}, "a cached property of the SDK's"
        assert [name for name in vars(stream) if "callspan" in name] == []

    run(body)


def test_uninstrumenting_in_the_middle_of_a_stream_lets_it_end(mode: Mode, run: Run) -> None:
    mode.provider.reply(text="one two three")

    async def body() -> str:
        stream = await mode.wait(mode.openai().chat.completions.create(**CHAT, stream=True))
        first = await mode.next(stream)
        callspan.uninstrument()
        chunks = [first, *await mode.all(stream)]
        held.append(stream)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    held: list[Any] = []
    with capture() as seen:
        assert run(body) == "one two three", "the caller's stream is whole"
        record = the_call(seen)
    assert record.stream is not None
    assert record.stream.end == "complete", "it was observed from before"
    assert text_of(record) == "one two three"
    assert len(seen.spans) == 1


def test_hooks_left_for_an_open_stream_are_removed_at_the_next_uninstrument(
    provider: ScriptedProvider, seen: Captured
) -> None:
    response = sdks.http_of("openai").Response
    callspan.uninstrument()
    bare = response.close
    for _ in range(2):
        callspan.instrument()
        with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
            stream = client.chat.completions.create(**CHAT, stream=True)
            callspan.uninstrument()
            assert response.close is not bare, "the stream is still to be read"
            assert response.close.__wrapped__ is bare, "and wrapped once"
            list(stream)
    callspan.instrument()
    callspan.uninstrument()
    assert response.close is bare


def test_hooks_left_for_a_stream_and_wrapped_by_others_are_not_touched(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    response, closed = sdks.http_of("openai").Response, []
    with capture() as seen, openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        stream = client.chat.completions.create(**CHAT, stream=True)
        callspan.uninstrument()
        left = response.close

        @functools.wraps(left)
        def close(self: Any) -> None:
            closed.append(self)
            left(self)

        monkeypatch.setattr(response, "close", close)
        list(stream)
        assert len(seen.records) == 1
    handle = callspan.instrument()
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        list(client.chat.completions.create(**CHAT, stream=True))
    handle.uninstrument()
    assert response.close is close
    assert len({id(each) for each in closed}) == 2
