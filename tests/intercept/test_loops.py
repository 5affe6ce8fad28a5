"""Tool loops of the SDKs: each run is an agent, its calls and tools are below it, whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from typing import Any

import pytest

import callspan
from callspan.intercept import patching, tool_loops
from callspan.testing import Captured, capture
from tests.intercept import loops, sdks
from tests.intercept.calls import Run
from tests.intercept.loops import ANSWER, DECISION, RESPONSES, rows, tree
from tests.intercept.mode import Mode

CHAT = "chat claude-sonnet-5"
plain_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest.fixture(autouse=True)
def _has_loops() -> None:
    sdks.needs("anthropic", "2.10", "these tool runners")


def sunny(city: str) -> str:
    return f"Sunny in {city}"


CLAUDE = "claude-sonnet-5"


@plain_and_streamed
def test_a_loop_is_an_agent_below_the_step_with_its_turns_and_tools(
    stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(tool_calls=[loops.request(), loops.request("Oslo", 2)])
    mode.provider.reply(text="It is sunny.")

    async def body() -> Any:
        with callspan.session("trip") as session, session.timestep():
            return await mode.wait(loops.of_anthropic(mode, sunny, stream=stream).until_done())

    assert run(body).content[0].text == "It is sunny."
    name = CLAUDE
    agent = f"invoke_agent {name}"
    assert tree(seen) == {
        "": ["invoke_workflow trip"], "invoke_workflow trip": ["timestep"], "timestep": [agent],
        agent: [CHAT, "execute_tool weather", "execute_tool weather", CHAT],
    }  # fmt: skip
    (row,) = rows(seen, "agent")
    assert (row.name, row.metadata["outcome"], row.metadata["model"]) == (name, "success", "claude-sonnet-5")
    paris, oslo = rows(seen, "tool")
    assert [tool.data for tool in (paris, oslo)] == [
        {"arguments": {"city": city}, "result": f"Sunny in {city}"} for city in ("Paris", "Oslo")
    ]
    assert [tool.tool_call_id for tool in (paris, oslo)] == ["call_1", "call_2"]
    for event in (row, paris, oslo):
        assert event.session_id == seen.sessions[0].session_id
        assert event.timestep_id == seen.timesteps[0].timestep_id
        assert event.duration_ns > 0
    assert paris.system == name
    assert paris.metadata["provider"] == row.metadata["provider"] == seen.records[0].provider
    assert len(seen.timesteps) == 2  # its start and its end: a loop is no timestep
    assert seen.timesteps[-1].totals is not None
    assert (seen.timesteps[-1].totals.calls, seen.timesteps[-1].totals.tools) == (2, 2)
    asking, last = seen.records
    # Later versions send a thread, and with it only what is new.
    sent = mode.provider.requests[-1].body.get("thread")
    assert asking.request.continues is None
    assert last.request.continues == (None if sent is None else asking.response and asking.response.id)


def test_a_newer_sdk_may_use_more_of_the_block_of_a_tool(
    mode: Mode, run: Run, seen: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode.provider.reply(tool_calls=[loops.request()])
    mode.provider.reply(text="It is sunny.")
    entered = tool_loops._ToolBlock.__enter__

    def enter(block: Any) -> Any:
        made = entered(block)
        made.progress(0.5, of=block)  # not in ToolRun today
        return made

    monkeypatch.setattr(tool_loops._ToolBlock, "__enter__", enter)

    async def body() -> Any:
        return await mode.wait(loops.of_anthropic(mode, sunny).until_done())

    assert run(body).content[0].text == "It is sunny."
    assert [tool.data["result"] for tool in rows(seen, "tool")] == ["Sunny in Paris"]


async def _to_the_end(mode: Mode, runner: Any) -> None:
    await mode.wait(runner.until_done())


async def _closed(mode: Mode, runner: Any) -> None:
    async for _ in mode.items(runner):
        break
    await mode.wait(runner.close())


async def _left(mode: Mode, runner: Any) -> None:
    async for _ in mode.items(runner):
        break


async def _left_at_the_last_turn(mode: Mode, runner: Any) -> None:
    async for turn in mode.items(runner):
        if turn.stop_reason == "end_turn":
            break


def _fail(city: str) -> str:
    raise ValueError(f"no weather in {city}")


def _interrupt(city: str) -> str:
    raise KeyboardInterrupt(city)


SUNNY: dict[str, Any] = {"arguments": {"city": "Paris"}, "result": "Sunny in Paris"}
ENDINGS: dict[str, tuple[Any, Any, dict[str, Any], str, Any, Any]] = {
    # how it is driven, the tool, options, outcome of the loop, data and error of the tool
    "final turn": (_to_the_end, sunny, {}, "success", SUNNY, None),
    "step limit": (_to_the_end, sunny, {"max_iterations": 1}, "step_limit", SUNNY, None),
    "tool error": (
        _to_the_end, _fail, {}, "success", {**SUNNY, "result": "ValueError('no weather in Paris')"}, "tool_error",
    ),
    "close": (_closed, sunny, {}, "cancelled", None, None),
    "break": (_left, sunny, {}, "cancelled", None, None),
    "break at the last turn": (_left_at_the_last_turn, sunny, {}, "success", SUNNY, None),
    "interrupt": (_to_the_end, _interrupt, {}, "cancelled", {"arguments": {"city": "Paris"}}, "KeyboardInterrupt"),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_has_its_outcome_and_every_run_of_a_tool_is_recorded_once(
    ending: str, mode: Mode, run: Run, seen: Captured
) -> None:
    drive, tool, options, outcome, data, error = ENDINGS[ending]
    is_left = drive in (_left, _left_at_the_last_turn)
    mode.provider.reply(tool_calls=[loops.request()])
    mode.provider.reply(text="It is sunny.")

    async def body() -> None:
        try:
            await drive(mode, loops.of_anthropic(mode, tool, **options))
        except KeyboardInterrupt:
            assert ending == "interrupt"
        for _ in range(3 * is_left):
            gc.collect()
            await asyncio.sleep(0)  # an abandoned async generator is closed by the event loop

    run(body)
    if is_left:
        gc.collect()
    (agent,) = rows(seen, "agent")
    assert agent.metadata["outcome"] == outcome
    tools = rows(seen, "tool")
    assert [one.data for one in tools] == [data] * (data is not None)
    assert [one.error and one.error.type for one in tools] == [error] * len(tools)
    spans = [span.name for span in seen.spans]
    assert len(tools) == spans.count("execute_tool weather") == len(rows(seen, "tool_start"))
    assert spans.count(f"invoke_agent {agent.name}") == 1
    assert len(mode.provider.requests) == spans.count(CHAT)


def test_a_loop_that_is_cancelled_in_its_tool_ends_with_it(mode: Mode, run: Run, seen: Captured) -> None:
    if not mode.is_async:
        pytest.skip("a task is cancelled")
    mode.provider.reply(tool_calls=[loops.request()])
    tasks: list[asyncio.Task[Any]] = []

    async def hang(city: str) -> str:
        tasks[0].cancel()
        await asyncio.sleep(60)
        return ""

    async def body() -> None:
        tasks.append(asyncio.ensure_future(loops.of_anthropic(mode, hang).until_done()))
        await asyncio.gather(*tasks, return_exceptions=True)

    run(body)
    (agent,), (tool,) = rows(seen, "agent"), rows(seen, "tool")
    assert agent.metadata["outcome"] == "cancelled"
    assert tool.error.kind == agent.error.kind == "cancelled"
    assert tool.data == {"arguments": {"city": "Paris"}}


def test_a_loop_whose_caller_raises_at_a_stream_is_closed_by_its_event_loop(
    mode: Mode, run: Run, seen: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not mode.is_async:
        pytest.skip("a generator is closed where it is dropped")
    mode.provider.reply(text="It is sunny.")
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    async def use() -> None:
        async for stream in loops.of_anthropic(mode, sunny, stream=True):
            async for _ in stream:
                raise ValueError("of the application")

    async def body() -> None:
        with contextlib.suppress(ValueError):  # whose frames are released here
            await use()
        for _ in range(3):
            gc.collect()  # the runner refers to its generators, which refer to it
            await asyncio.sleep(0)

    run(body)
    gc.collect()
    assert [one.exc_value for one in unraisable] == []
    assert [row.metadata["outcome"] for row in rows(seen, "agent")] == ["cancelled"]


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_no_content_is_kept_of_a_loop_where_the_setting_forbids_it(content: Any, mode: Mode, run: Run) -> None:
    mode.provider.reply(tool_calls=[loops.request("Atlantis")])
    mode.provider.reply(text="It is sunny.")
    with capture(content=content) as seen:
        run(lambda: mode.wait(loops.of_anthropic(mode, sunny).until_done()))
        (tool,) = rows(seen, "tool")
        assert (tool.name, tool.tool_call_id, tool.data) == ("weather", "call_1", None)
        shown = str([(span.name, span.attributes) for span in seen.spans]) + str(seen.everything)
    assert "Atlantis" not in shown
    assert "Say the weather" not in shown


@pytest.mark.parametrize("sdk", ["anthropic", "openai"])
def test_without_the_private_names_of_tools_the_loop_is_an_agent_still(
    sdk: str, mode: Mode, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = {"_tool_use_span", "_start_tool_runner_span", "_execute_function"}
    monkeypatch.setattr(patching, "HOOKS", tuple(hook for hook in patching.HOOKS if hook.attribute not in lost))
    mode.provider.reply(tool_calls=[loops.request()])
    mode.provider.reply(text="It is sunny.")

    async def body() -> None:
        if sdk == "anthropic":
            await mode.wait(loops.of_anthropic(mode, sunny).until_done())
        else:
            await drive_openai(mode, loops.of_openai(mode, sunny), "run")

    with capture() as seen:
        run(body)
        (agent,) = rows(seen, "agent")
    assert agent.metadata["outcome"] == "success"
    assert rows(seen, "tool") == []


# Runners of openai.


CANCELLED = "asyncio.exceptions.CancelledError"
GPT = "chat gpt-5"


async def drive_openai(mode: Mode, runner: Any, how: str, **options: Any) -> None:
    client = mode.openai()
    if how == "run":
        await mode.wait(runner.run(client, RESPONSES, **options))
        return
    turns = runner.iterate(client, RESPONSES, **options)
    async for turn in mode.items(turns):
        if how == "final" and turn.final:
            break
        if how in {"break", "close"}:
            break
    if how == "close":
        await mode.wait(turns.aclose() if mode.is_async else turns.close())


def _cancel(city: str) -> str:
    raise asyncio.CancelledError


OF_OPENAI: dict[str, tuple[str, Any, dict[str, Any], str, Any, Any]] = {
    "run": ("run", sunny, {}, "success", SUNNY, None),
    "streamed": ("run", sunny, {"stream": True}, "success", SUNNY, None),
    "eager": ("run", sunny, {"stream": True, "eager": True}, "success", SUNNY, None),
    "final turn": ("final", sunny, {}, "success", SUNNY, None),
    "iterated": ("all", sunny, {}, "success", SUNNY, None),
    "step limit": ("run", sunny, {"max_steps": 1}, "step_limit", None, None),
    "cancelled": ("run", _cancel, {}, "cancelled", {"arguments": {"city": "Paris"}}, CANCELLED),
    "tool error": ("run", _fail, {}, "error", {"arguments": {"city": "Paris"}}, "ValueError"),
    "break": ("break", sunny, {}, "cancelled", None, None),
    "close": ("close", sunny, {}, "cancelled", None, None),
}  # fmt: skip


@pytest.mark.parametrize("ending", OF_OPENAI)
def test_a_loop_of_responses_is_an_agent_whatever_ends_it(ending: str, mode: Mode, run: Run, seen: Captured) -> None:
    pytest.importorskip("openai.lib.responses_tool_runner", reason="this openai has no tool runners")
    how, tool, options, outcome, data, error = OF_OPENAI[ending]
    mode.provider.reply(tool_calls=[loops.request()])
    mode.provider.reply(text="It is sunny.")
    heard: list[str] = []

    async def body() -> None:
        with callspan.session("trip"), callspan.timestep():
            try:
                await drive_openai(
                    mode,
                    loops.of_openai(mode, tool),
                    how,
                    **options,
                    on_diagnostic=lambda one: heard.append(one["stage"]),
                )
            except (RuntimeError, asyncio.CancelledError):
                assert ending in {"step limit", "tool error", "cancelled"}

    run(body)
    if ending in ("final turn", "break"):
        gc.collect()
    (agent,) = rows(seen, "agent")
    name = "gpt-5"
    assert (agent.name, agent.metadata["outcome"]) == (name, outcome)
    tools = rows(seen, "tool")
    assert [one.data for one in tools] == [data] * (data is not None)
    assert [one.error and one.error.type for one in tools] == [error] * len(tools)
    assert all(one.duration_ns > 0 for one in tools)
    found = tree(seen)
    assert found["timestep"] == [f"invoke_agent {name}"]
    turns = [GPT] * len(mode.provider.requests)
    assert found[f"invoke_agent {name}"] == [*turns[:1], *["execute_tool weather"] * len(tools), *turns[1:]]
    assert "request" in heard


@pytest.mark.parametrize("refuses", [False, True])
def test_a_candidate_of_a_decision_is_a_tool(refuses: bool, mode: Mode, run: Run, seen: Captured) -> None:
    runners = pytest.importorskip("openai.lib.decisions_tool_runner", reason="this openai has no tool runners")
    refused = {**DECISION, "answers": [{"type": "refusal", "name": "next_action"}]}
    done = {**DECISION, "answers": [{**ANSWER, "choice": "done"}]}
    mode.provider.reply(raw=DECISION, on="/decisions")
    mode.provider.reply(raw=refused if refuses else done, on="/decisions")

    async def later(value: Any) -> Any:
        return value

    def of(value: Any) -> Any:
        return later(value) if mode.is_async else value

    def candidates(observation: object) -> Any:
        north = {"id": "north", "description": "Go north.", "execute": lambda: of(None)}
        return of([north, {"id": "done", "description": "Stop.", "done": True}])

    kind = runners.AsyncDecisionsToolRunner if mode.is_async else runners.DecisionsToolRunner
    runner = kind(observe=lambda: of("A fork."), candidates=candidates)
    run(lambda: mode.wait(runner.run(mode.openai(), {"model": "gpt-6-luna", "input": "Find the exit."})))
    (agent,), (tool,) = rows(seen, "agent"), rows(seen, "tool")
    assert agent.metadata["outcome"] == ("refused" if refuses else "success")
    assert (tool.name, tool.tool_call_id) == ("north", f"{seen.records[0].call_id}:north")
    call = "decisions gpt-6-luna"
    assert tree(seen)[f"invoke_agent {agent.name}"] == [call, "execute_tool north", call]
