"""Tools that the anthropic SDK runs for hosted sessions: each run is a span and a row, whatever ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.lib.tools import ToolError

import callspan
from callspan.testing import Captured, ScriptedProvider, capture
from tests.intercept import sdks
from tests.intercept.loops import rows, tree
from tests.intercept.mode import Mode
from tests.intercept.test_hosted_sessions import AGENT, message
from tests.intercept.test_native_tracing import native

runners = pytest.importorskip(
    "anthropic.lib.tools._beta_session_runner", reason="this anthropic runs no tools of sessions"
)
__all__ = ["native"]
CHAT = "chat claude-sonnet-4-5"
Run = Callable[[Callable[[], Awaitable[Any]]], Any]
Act = Callable[[str], Awaitable[str]]


@pytest.fixture
def mode(provider: ScriptedProvider) -> Mode:
    """The SDK has this runner for async clients alone."""
    sdks.needs("anthropic", "2.10", "these tool runners")
    return Mode("async", provider)


async def sunny(city: str) -> str:
    return f"Sunny in {city}"


async def fail(city: str) -> str:
    raise ValueError(f"no weather in {city}")


async def refuse(city: str) -> str:
    raise ToolError(f"no weather in {city}")


async def hang(city: str) -> str:
    await asyncio.sleep(60)
    return city


class Stopped(BaseException):
    """No exception that the SDK handles."""


async def interrupt(city: str) -> str:
    raise Stopped(city)


def asked(mode: Mode, *cities: str) -> None:
    mode.provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": city}} for city in cities])
    mode.provider.reply(text="That is the weather.")


async def served(mode: Mode, act: Act, *, tool: Any = None, leaves: bool = False) -> str:
    """Ask a hosted agent and run its tools until it is idle; the id of its session."""
    client = mode.anthropic()
    session_id = str((await client.beta.sessions.create(agent=AGENT, environment_id="env_1")).id)
    await client.beta.sessions.events.send(session_id, events=[message("Which weather?")])
    tool = tool or anthropic.beta_async_tool(act, name="weather", description="Say the weather.")
    async for _ in client.beta.sessions.events.tool_runner(session_id, tools=[tool], max_idle=0.05):
        if leaves:
            break
    return session_id


TEXT: dict[str, Any] = {"type": "text"}
ENDINGS: dict[str, tuple[Act, Any, str | None]] = {
    # the tool, its result, its error
    "returned": (sunny, [{**TEXT, "text": "Sunny in Rome"}], None),
    "raised": (fail, [{**TEXT, "text": "ValueError('no weather in Rome')"}], "tool_error"),
    "refused": (refuse, [{**TEXT, "text": "no weather in Rome"}], "tool_error"),
    "timed out": (hang, [{**TEXT, "text": "tool 'weather' timed out"}], "tool_error"),
    "interrupted": (interrupt, None, f"{__name__}.Stopped"),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("within", [False, True], ids=["alone", "session"])
def test_each_run_is_a_span_and_a_row_with_its_arguments_result_and_time(
    ending: str, within: bool, mode: Mode, run: Run, seen: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, result, error = ENDINGS[ending]
    monkeypatch.setattr(runners, "TOOL_TIMEOUT", 0.05 if act is hang else 60)
    asked(mode, "Rome")
    hosted: list[str] = []

    async def body() -> None:
        if not within:
            hosted.append(await served(mode, act))
            return
        with callspan.session("trip") as session, session.timestep():
            await served(mode, act)

    with pytest.raises(BaseException, match="unhandled errors") if act is interrupt else nullcontext():
        run(body)
    (tool,), (start,) = rows(seen, "tool"), rows(seen, "tool_start")
    data: dict[str, Any] = {"arguments": {"city": "Rome"}}
    assert (tool.name, tool.data) == ("weather", data if result is None else {**data, "result": result})
    assert (tool.error and tool.error.type) == error
    assert tool.duration_ns > 0
    assert start.data == data
    assert tool.metadata["description"] == "Say the weather."
    (used,) = [call.id for record in seen.records for call in record.tool_calls] or [tool.tool_call_id]
    assert tool.tool_call_id == used
    if within:
        assert (tool.session_id, tool.timestep_id) == (seen.sessions[0].session_id, seen.timesteps[0].timestep_id)
        assert "execute_tool weather" in tree(seen)["timestep"]
        assert seen.timesteps[-1].totals is not None
        assert seen.timesteps[-1].totals.tools == 1
    elif hosted:
        assert (tool.session_id, tool.timestep_id) == (hosted[0], None)
    assert [span.name for span in seen.spans].count("execute_tool weather") == 1


def test_sync_ones_run_in_threads_and_what_they_call_is_below_them(mode: Mode, run: Run, seen: Captured) -> None:
    asked(mode, "Rome", "Oslo")
    mode.provider.reply(text="Sunny.", on="/chat/completions", repeat=True)
    client = Mode("sync", mode.provider).openai()

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Say the weather."""
        question = {"role": "user", "content": city}
        return str(client.chat.completions.create(model="gpt-5", messages=[question]).choices[0].message.content)

    run(lambda: served(mode, sunny, tool=weather))
    assert [row.data["arguments"]["city"] for row in rows(seen, "tool")] == ["Rome", "Oslo"]
    assert tree(seen)["execute_tool weather"] == ["chat gpt-5"] * 2
    client.close()


def test_a_run_that_its_consumer_leaves_is_recorded(mode: Mode, run: Run, seen: Captured) -> None:
    asked(mode, "Rome", "Oslo")
    run(lambda: served(mode, sunny, leaves=True))
    ran = [row.data["result"][0]["text"] for row in rows(seen, "tool")]
    assert ran[0] == "Sunny in Rome"
    assert len(ran) == len(rows(seen, "tool_start"))


def test_tools_of_other_owners_are_not_recorded(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(tool_calls=[{"name": "other", "arguments": {}}])

    async def body() -> None:
        client = mode.anthropic()
        session_id = str((await client.beta.sessions.create(agent=AGENT, environment_id="env_1")).id)
        await client.beta.sessions.events.send(session_id, events=[message("Which weather?")])
        tool = anthropic.beta_async_tool(sunny, name="weather", description="Say the weather.")
        async for call in client.beta.sessions.events.tool_runner(session_id, tools=[tool], max_idle=0.05):
            assert (call.name, call.posted) == ("other", False)
            break

    run(body)
    assert rows(seen, "tool") == rows(seen, "tool_start") == []


def test_the_content_level_of_the_session_holds(mode: Mode, run: Run) -> None:
    asked(mode, "Atlantis")
    with capture(content="off") as seen:
        run(lambda: served(mode, sunny))
        (tool,) = rows(seen, "tool")
        assert (tool.name, tool.data) == ("weather", None)
        shown = str([span.attributes for span in seen.spans]) + str(seen.everything)
    assert "Atlantis" not in shown
    assert "Say the weather" not in shown


@pytest.mark.parametrize("setting", ["replace", "keep"])
def test_the_sdks_own_span_is_replaced_or_below(setting: Any, mode: Mode, run: Run, native: Any) -> None:
    asked(mode, "Rome")
    with capture(native=setting) as seen:
        run(lambda: served(mode, sunny))
        (ours,) = [span for span in seen.spans if span.name == "execute_tool weather"]
    theirs = [span for span in native() if "tool_use" in span.name]
    if setting == "replace":
        assert not theirs
        return
    (span,) = theirs
    assert span.parent is not None
    assert ours.context is not None
    assert span.parent.span_id == ours.context.span_id
    shown, expected = {**(ours.attributes or {})}, {**(span.attributes or {})}
    expected.pop("anthropic.tool_result.content", None)  # `gen_ai.tool.call.result`
    assert {key: shown.get(key) for key in expected} == expected


def test_a_worker_of_an_environment_records_the_tools_of_its_item(
    mode: Mode, run: Run, seen: Captured, tmp_path: Path
) -> None:
    asked(mode, "Rome")
    beat = {"last_heartbeat": "2026-01-01T00:00:00Z", "lease_extended": True, "state": "active", "ttl_seconds": 30}
    mode.provider.reply(raw=beat, on="/heartbeat", repeat=True)
    mode.provider.reply(raw={"id": "work_1", "type": "work"}, on="/stop", repeat=True)

    async def body() -> None:
        client = mode.anthropic()
        session_id = str((await client.beta.sessions.create(agent=AGENT, environment_id="env_1")).id)
        await client.beta.sessions.events.send(session_id, events=[message("Which weather?")])
        tool = anthropic.beta_async_tool(sunny, name="weather", description="Say the weather.")
        worker = client.beta.environments.work.worker(workdir=str(tmp_path), tools=[tool], max_idle=0.05)
        item = {"work_id": "work_1", "environment_id": "env_1", "session_id": session_id}
        await worker.handle_item(**item, environment_key="key")

    run(body)
    assert [row.data["arguments"] for row in rows(seen, "tool")] == [{"city": "Rome"}]
