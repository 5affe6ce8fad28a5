"""Which call made what the application holds, and which was begun last: for feedback from a page."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import openai
import pytest

import callspan
from callspan.testing import Captured, ScriptedProvider, capture

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
CHAT: Any = {"model": "gpt-5", "messages": MESSAGES}
MESSAGE: Any = {"model": "claude-sonnet-5", "max_tokens": 9, "messages": MESSAGES}


@pytest.fixture
def provider() -> Any:
    with ScriptedProvider() as scripted:
        scripted.reply(text="Fine.", repeat=True)
        yield scripted


@pytest.fixture
def client(provider: ScriptedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as opened:
        yield opened


@pytest.fixture
def claude(provider: ScriptedProvider) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="k", base_url=provider.url, max_retries=0)


def read(stream: Any) -> Any:
    """Read a stream to its end while its call is asked for, and return it."""
    early = callspan.call_id(stream)
    assert early is not None
    for _ in stream:
        assert callspan.call_id(stream) == early
    return stream


def read_late(stream: Any) -> Any:
    """Read a stream whose first event says what its call is named."""
    list(stream)
    return stream


def helper(manager: Any, final: Callable[[Any], Any]) -> Any:
    """Use a stream helper; its stream, the HTTP response and the final object are of one call."""
    with manager as stream:
        stream_id = callspan.call_id(read(stream))
        made = final(stream)
    assert stream_id == callspan.call_id(made) is not None
    return stream


def raw(response: Any) -> Any:
    assert callspan.call_id(response) == callspan.call_id(response.parse()) == callspan.call_id(response.http_response)
    return response


WAYS: dict[str, Callable[[openai.OpenAI, anthropic.Anthropic], Any]] = {
    "chat": lambda client, _: client.chat.completions.create(**CHAT),
    "chat stream": lambda client, _: read(client.chat.completions.create(**CHAT, stream=True)),
    "responses helper": lambda client, _: helper(
        client.responses.stream(model="gpt-5", input="Hi"), lambda stream: stream.get_final_response()
    ),
    "responses background": lambda client, _: client.responses.create(model="gpt-5", input="Hi", background=True),
    "responses background stream": lambda client, _: read_late(
        client.responses.create(model="gpt-5", input="Hi", background=True, stream=True)
    ),
    "embeddings raw": lambda client, _: raw(client.embeddings.with_raw_response.create(model="e", input="Hi")),
    "messages": lambda _, claude: claude.messages.create(**MESSAGE),
    "messages stream": lambda _, claude: read(claude.messages.create(**MESSAGE, stream=True)),
    "messages helper": lambda _, claude: helper(
        claude.messages.stream(**MESSAGE), lambda stream: stream.get_final_message()
    ),
}


def test_what_a_call_returned_tells_its_id_on_every_way(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    """Exactly, also beside calls of the same kind, in another thread, and after its end."""
    with capture() as seen:
        for name, way in WAYS.items():
            way(client, claude)
            made = way(client, claude)
            own, newest = seen.records[-1], callspan.last_call_id()
            way(client, claude)
            with ThreadPoolExecutor(1) as threads:
                assert threads.submit(callspan.call_id, made).result() == own.call_id == newest, name
    assert callspan.call_id("no call") is None
    assert callspan.call_id(object()) is None
    assert callspan.last_call_id() is not None


def test_a_call_made_in_tasks_and_threads_is_the_last_one_of_its_session(provider: ScriptedProvider) -> None:
    async def ask(client: openai.AsyncOpenAI) -> str | None:
        await client.chat.completions.create(**CHAT)
        return callspan.last_call_id()

    async def main(seen: Captured) -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
            assert callspan.last_call_id() is None
            with callspan.session("s") as session:
                with session.timestep():
                    await asyncio.gather(ask(client), ask(client))
                    assert callspan.last_call_id() == max(seen.records, key=lambda one: one.timing.start_ns).call_id
                mine = await ask(client)
                other = await asyncio.create_task(ask(client))
                assert mine != other == callspan.last_call_id()
                with session.timestep():
                    assert callspan.last_call_id() == other, "nothing was begun below this step"
            with callspan.session("without calls"):
                assert callspan.last_call_id() is None
            last = await ask(client)
            assert last is not None
            await asyncio.create_task(ask(client))
            assert callspan.last_call_id() == last, "outside of sessions only this context counts"

    with capture() as seen:
        contextvars.Context().run(asyncio.run, main(seen))


TARGETS: dict[str, Callable[[Any, Any], Any]] = {
    "object": lambda answer, _: answer,
    "response id": lambda answer, _: answer.id,
    "request id": lambda _, own: own.request_id,
    "call id": lambda _, own: own.call_id,
}


def test_feedback_takes_what_the_application_holds(client: openai.OpenAI) -> None:
    with capture() as seen:
        answer = client.chat.completions.create(**CHAT)
        own = seen.records[0]
        for name, target in TARGETS.items():
            callspan.feedback(target(answer, own), 1.0, objective=name)
            callspan.reward(1.0, call_id=target(answer, own), objective=f"reward {name}")
        callspan.feedback(trace_id=own.trace_id, span_id=own.span_id, value=1.0, objective="span")
        numbers = {"trace_id": int(own.trace_id or "", 16), "span_id": int(own.span_id or "", 16)}
        callspan.feedback(**numbers, label="as OpenTelemetry has them")
        stream = client.chat.completions.create(**CHAT, stream=True)
        callspan.feedback(stream, label="while it is read")
        list(stream)
        callspan.reward(0.5, event_id="0b5e2f66-5a2e-7d1c-8e29-6b7e8c1c1d10", objective="event")
        callspan.feedback("of another process", 1.0)
    *of_calls, streamed, event, foreign = seen.rewards
    assert len(of_calls) == 2 * len(TARGETS) + 2
    assert {one.call_id for one in of_calls} == {own.call_id}
    assert (streamed.call_id, foreign.call_id) == (seen.records[1].call_id, "of another process")
    assert (event.event_id, event.scope) == ("0b5e2f66-5a2e-7d1c-8e29-6b7e8c1c1d10", "event")
