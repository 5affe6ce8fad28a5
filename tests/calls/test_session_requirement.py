"""`callspan.session(require=True)`: calls are recorded only below a session, and otherwise run as without callspan."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

import callspan
from callspan.testing import Captured, capture
from tests.support.calls import QUESTION, Run
from tests.support.mode import Mode


def ask(client: openai.OpenAI, model: str) -> str | None:
    return client.chat.completions.create(model=model, messages=QUESTION).choices[0].message.content


def models(seen: Captured) -> list[str | None]:
    return [call.request.model for call in seen.records]


def test_calls_and_streams_outside_a_session_run_unrecorded(mode: Mode, run: Run, seen: Captured) -> None:
    """Where a stream begins decides, wherever it is read."""

    async def call(model: str, **options: Any) -> Any:
        return await mode.wait(mode.openai().chat.completions.create(model=model, messages=QUESTION, **options))

    async def body() -> None:
        async with mode.entered(callspan.session(require=True)):
            assert (await call("none")).choices[0].message.content
            outside = await call("none", stream=True)
            with callspan.session("s"):
                await call("plain")
                inside = await call("stream", stream=True)
                assert await mode.all(outside)
            assert await mode.all(inside)
        await call("after")

    run(body)
    assert models(seen) == ["plain", "stream", "after"]
    assert [span.name for span in seen.spans if span.name.startswith("chat")] == [
        "chat plain",
        "chat stream",
        "chat after",
    ]
    assert len(mode.provider.requests) == 5


def test_a_step_tool_or_agent_counts_as_the_session_it_is_in(client: openai.OpenAI) -> None:
    with capture() as seen, callspan.session(require=True):
        with callspan.tool("t"), callspan.invoke_agent("a"):
            ask(client, "none")
        with callspan.session("s") as session, session.timestep() as step, step.tool("t"):
            ask(client, "step")
        joined = session.carrier()
        with callspan.session(carrier=joined):
            ask(client, "joined")
    assert models(seen) == ["step", "joined"]


def test_tasks_and_copied_contexts_follow_it_and_bare_threads_do_not(client: openai.OpenAI) -> None:
    async def tasks() -> None:
        async with callspan.session(require=True):
            await asyncio.to_thread(ask, client, "none")
            async with callspan.session("s"):
                await asyncio.gather(*(asyncio.to_thread(ask, client, "task") for _ in range(2)))
        await asyncio.to_thread(ask, client, "after")

    with capture() as seen, ThreadPoolExecutor() as pool:
        asyncio.run(tasks())
        with callspan.session(require=True):
            pool.submit(callspan.copy_context(ask), client, "none").result()
            pool.submit(ask, client, "bare").result()
            with callspan.session("s"):
                pool.submit(callspan.copy_context(ask), client, "copied").result()
    assert models(seen) == ["task", "task", "after", "bare", "copied"]


def test_it_opens_no_session_and_is_a_decorator_that_takes_nothing_else(client: openai.OpenAI) -> None:
    with capture() as seen:
        callspan.session(require=True)(ask)(client, "none")
        with callspan.session(require=True):
            assert callspan.current_session() is None
        assert seen.everything == []
    with pytest.raises(TypeError, match="accepts no other argument"):
        callspan.session("s", require=True)  # type: ignore[call-overload]
