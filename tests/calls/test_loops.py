"""Tool loops of the SDKs: each run is an agent, its calls and tools are below it, whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any, NamedTuple

import pytest
from tests.calls import loops
from tests.calls.loops import ANSWER, DECISION, RESPONSES, rows, tree
from tests.support import sdks
from tests.support.mode import Mode

import callspan
from callspan.testing import Captured, capture

CLAUDE = "claude-sonnet-5"


@pytest.fixture(autouse=True)
def _has_loops() -> None:
    sdks.needs("anthropic", "2.10", "these tool runners")


def sunny(city: str) -> str:
    return f"Sunny in {city}"


async def test_a_loop_is_an_agent_below_the_step_with_its_turns_and_tools(
    stream: bool, mode: Mode, seen: Captured
) -> None:
    mode.provider.reply(tool_calls=[loops.request(), loops.request("Oslo", 2)])
    mode.provider.reply(text="It is sunny.")
    with callspan.session("trip") as session, session.timestep():
        last = await mode.wait(loops.of_anthropic(mode, sunny, stream=stream).until_done())
    assert last.content[0].text == "It is sunny."
    agent, chat = f"invoke_agent {CLAUDE}", f"chat {CLAUDE}"
    assert tree(seen) == {
        "": ["invoke_workflow trip"], "invoke_workflow trip": ["timestep"], "timestep": [agent],
        agent: [chat, "execute_tool weather", "execute_tool weather", chat],
    }  # fmt: skip
    (row,) = rows(seen, "agent")
    assert (row.name, row.error) == (CLAUDE, None)
    paris, oslo = rows(seen, "tool")
    assert [tool.data for tool in (paris, oslo)] == [
        {"arguments": {"city": city}, "result": f"Sunny in {city}"} for city in ("Paris", "Oslo")
    ]
    assert [tool.tool_call_id for tool in (paris, oslo)] == ["call_1", "call_2"]
    for event in (row, paris, oslo):
        assert event.session_id == seen.sessions[0].session_id
        assert event.timestep_id == seen.timesteps[0].timestep_id
        assert event.duration_ns > 0
    assert paris.system == CLAUDE
    assert paris.metadata["provider"] == seen.records[0].provider
    assert len(seen.timesteps) == 2  # its start and its end: a loop is no timestep
    assert seen.timesteps[-1].totals is not None
    assert (seen.timesteps[-1].totals.calls, seen.timesteps[-1].totals.tools) == (2, 2)
    asking, last = seen.records
    # Later versions send a thread, and with it only what is new.
    sent = mode.provider.requests[-1].body.get("thread")
    assert asking.request.continues is None
    assert last.request.continues == (None if sent is None else asking.response and asking.response.id)


def _fail(city: str) -> str:
    raise ValueError(f"no weather in {city}")


def _interrupt(city: str) -> str:
    raise KeyboardInterrupt(city)


def _cancel(city: str) -> str:
    raise asyncio.CancelledError


async def drive(sdk: str, mode: Mode, tool: Any, how: str, heard: list[str], **options: Any) -> None:
    """Run a loop of an SDK to its end, or iterate over its turns and leave it so."""
    if sdk == "anthropic":
        turns = loops.of_anthropic(mode, tool, **options)
        if how == "run":
            await mode.wait(turns.until_done())
            return
    else:
        runner = loops.of_openai(mode, tool)
        options["on_diagnostic"] = lambda one: heard.append(one["stage"])
        if how == "run":
            await mode.wait(runner.run(mode.openai(), RESPONSES, **options))
            return
        turns = runner.iterate(mode.openai(), RESPONSES, **options)
    async for turn in mode.items(turns):
        is_final = turn.stop_reason == "end_turn" if sdk == "anthropic" else turn.final
        if how in ("break", "close") or (how == "final" and is_final):
            break
    if how == "close":
        await mode.wait(turns.aclose() if hasattr(turns, "aclose") else turns.close())
    del turns  # pydantic may keep this frame for as long as the tool, which the runner has: a cycle it shows to nobody


class Ending(NamedTuple):
    """How a loop is driven, and what its rows say. `tests/fuzz` compares loops with those without callspan."""

    how: str = "run"
    tool: Any = sunny
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    data: Any = None
    """Of the tool's row; None: there is none."""
    error: str | None = None
    raises: Any = ()
    calls: tuple[str, ...] = ("weather",)
    """The tools that the first answer requests; one that there is not runs nothing."""


SUNNY: dict[str, Any] = {"arguments": {"city": "Paris"}, "result": "Sunny in Paris"}
ASKED: dict[str, Any] = {"arguments": {"city": "Paris"}}
FAILED = {**SUNNY, "result": "ValueError('no weather in Paris')"}
CANCELLED = "asyncio.exceptions.CancelledError"
ENDINGS: dict[str, Ending] = {
    "anthropic run": Ending(data=SUNNY),
    "anthropic step limit": Ending(options={"max_iterations": 1}, data=SUNNY),
    "anthropic tool error": Ending(tool=_fail, data=FAILED, error="tool_error"),
    "anthropic final turn": Ending("final", data=SUNNY),
    "anthropic close": Ending("close"),
    "anthropic break": Ending("break"),
    "anthropic interrupt": Ending(tool=_interrupt, data=ASKED, error="KeyboardInterrupt", raises=KeyboardInterrupt),
    "openai run": Ending(data=SUNNY),
    "openai streamed": Ending(options={"stream": True}, data=SUNNY),
    "openai eager": Ending(options={"stream": True, "eager": True}, data=SUNNY, calls=("weather",) * 3),
    "openai unknown tool": Ending(calls=("unknown",), raises=RuntimeError),
    "anthropic unknown tool": Ending(calls=("unknown",)),
    "openai final turn": Ending("final", data=SUNNY),
    "openai iterated": Ending("all", data=SUNNY),
    "openai step limit": Ending(options={"max_steps": 1}, raises=RuntimeError),
    "openai cancelled": Ending(tool=_cancel, data=ASKED, error=CANCELLED, raises=asyncio.CancelledError),
    "openai tool error": Ending(tool=_fail, data=ASKED, error="ValueError", raises=RuntimeError),
    "openai break": Ending("break"),
    "openai close": Ending("close"),
}


@pytest.mark.filterwarnings("ignore:Tool 'unknown' not found:UserWarning")
@pytest.mark.parametrize("name", ENDINGS)
async def test_a_loop_ends_with_its_error_and_every_run_of_a_tool_is_recorded_once(
    name: str, mode: Mode, seen: Captured
) -> None:
    ending, sdk = ENDINGS[name], name.partition(" ")[0]
    if sdk == "openai":
        pytest.importorskip("openai.lib.responses_tool_runner", reason="this openai has no tool runners")
    requests = [loops.request(number=number, name=name) for number, name in enumerate(ending.calls)]
    mode.provider.reply(tool_calls=requests)
    mode.provider.reply(text="It is sunny.")
    heard: list[str] = []
    with callspan.session("trip"), callspan.timestep(), contextlib.suppress(ending.raises):
        await drive(sdk, mode, ending.tool, ending.how, heard, **ending.options)
    await mode.collect()
    (agent,) = rows(seen, "agent")
    model = "claude-sonnet-5" if sdk == "anthropic" else "gpt-5"
    assert (agent.name, agent.error is not None) == (model, ending.raises != ())
    tools = rows(seen, "tool")
    assert [one.data for one in tools] == [ending.data] * (len(ending.calls) if ending.data is not None else 0)
    assert [one.error and one.error.type for one in tools] == [ending.error] * len(tools)
    assert all(one.duration_ns > 0 for one in tools)
    assert len(tools) == len(rows(seen, "tool_start"))
    found = tree(seen)
    assert found["timestep"] == [f"invoke_agent {model}"]
    turns = [f"chat {model}"] * len(mode.provider.requests)
    assert found[f"invoke_agent {model}"] == [*turns[:1], *["execute_tool weather"] * len(tools), *turns[1:]]
    assert ("request" in heard) == (sdk == "openai")


async def test_a_loop_whose_caller_raises_at_a_stream_is_closed_by_its_event_loop(
    mode: Mode, seen: Captured, monkeypatch: pytest.MonkeyPatch
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

    with contextlib.suppress(ValueError):  # whose frames are released here
        await use()
    await mode.collect()
    assert [one.exc_value for one in unraisable] == []
    assert [row.error for row in rows(seen, "agent")] == [None]


@pytest.mark.parametrize("content", ["metadata", "off"])
async def test_no_content_is_kept_of_a_loop_where_the_setting_forbids_it(content: Any, mode: Mode) -> None:
    mode.provider.reply(tool_calls=[loops.request("Atlantis")])
    mode.provider.reply(text="It is sunny.")
    with capture(content=content) as seen:
        await mode.wait(loops.of_anthropic(mode, sunny).until_done())
        (tool,) = rows(seen, "tool")
        assert (tool.name, tool.tool_call_id, tool.data) == ("weather", "call_1", None)
        shown = str([(span.name, span.attributes) for span in seen.spans]) + str(seen.everything)
    assert "Atlantis" not in shown
    assert "Say the weather" not in shown


@pytest.mark.parametrize("refuses", [False, True])
async def test_a_candidate_of_a_decision_is_a_tool(refuses: bool, mode: Mode, seen: Captured) -> None:
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
    await mode.wait(runner.run(mode.openai(), {"model": "gpt-6-luna", "input": "Find the exit."}))
    (agent,), (tool,) = rows(seen, "agent"), rows(seen, "tool")
    assert (tool.name, tool.tool_call_id) == ("north", f"{seen.records[0].call_id}:north")
    call = "decisions gpt-6-luna"
    assert tree(seen)[f"invoke_agent {agent.name}"] == [call, "execute_tool north", call]
