"""Tool loops of the SDKs: each run is an agent, its calls and tools are below it, whatever ends it.

Generated scripts do the same with callspan as without: 8, at full scale 1,000.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import random
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import callspan
from callspan.testing import Captured, ScriptedProvider, capture
from tests.calls import loops
from tests.calls.loops import ANSWER, DECISION, RESPONSES, rows, tree
from tests.support import sdks
from tests.support.calls import Run
from tests.support.mode import Mode
from tests.support.scale import scaled

CLAUDE = "claude-sonnet-5"


@pytest.fixture(autouse=True)
def _has_loops() -> None:
    sdks.needs("anthropic", "2.10", "these tool runners")


def sunny(city: str) -> str:
    return f"Sunny in {city}"


def test_a_loop_is_an_agent_below_the_step_with_its_turns_and_tools(
    stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(tool_calls=[loops.request(), loops.request("Oslo", 2)])
    mode.provider.reply(text="It is sunny.")

    async def body() -> Any:
        with callspan.session("trip") as session, session.timestep():
            return await mode.wait(loops.of_anthropic(mode, sunny, stream=stream).until_done())

    assert run(body).content[0].text == "It is sunny."
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


class Ending(NamedTuple):
    """How a loop is driven, and what its rows say."""

    how: str = "run"
    tool: Any = sunny
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    data: Any = None
    """Of the tool's row; None: there is none."""
    error: str | None = None
    raises: Any = ()


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
    "openai eager": Ending(options={"stream": True, "eager": True}, data=SUNNY),
    "openai final turn": Ending("final", data=SUNNY),
    "openai iterated": Ending("all", data=SUNNY),
    "openai step limit": Ending(options={"max_steps": 1}, raises=RuntimeError),
    "openai cancelled": Ending(tool=_cancel, data=ASKED, error=CANCELLED, raises=asyncio.CancelledError),
    "openai tool error": Ending(tool=_fail, data=ASKED, error="ValueError", raises=RuntimeError),
    "openai break": Ending("break"),
    "openai close": Ending("close"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_loop_ends_with_its_error_and_every_run_of_a_tool_is_recorded_once(
    name: str, mode: Mode, run: Run, seen: Captured
) -> None:
    ending, sdk = ENDINGS[name], name.partition(" ")[0]
    if sdk == "openai":
        pytest.importorskip("openai.lib.responses_tool_runner", reason="this openai has no tool runners")
    mode.provider.reply(tool_calls=[loops.request()])
    mode.provider.reply(text="It is sunny.")
    heard: list[str] = []

    async def body() -> None:
        with callspan.session("trip"), callspan.timestep(), contextlib.suppress(ending.raises):
            await drive(sdk, mode, ending.tool, ending.how, heard, **ending.options)
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)  # an abandoned async generator is closed by the event loop

    run(body)
    gc.collect()
    (agent,) = rows(seen, "agent")
    model = "claude-sonnet-5" if sdk == "anthropic" else "gpt-5"
    assert (agent.name, agent.error is not None) == (model, ending.raises != ())
    tools = rows(seen, "tool")
    assert [one.data for one in tools] == [ending.data] * (ending.data is not None)
    assert [one.error and one.error.type for one in tools] == [ending.error] * len(tools)
    assert all(one.duration_ns > 0 for one in tools)
    assert len(tools) == len(rows(seen, "tool_start"))
    found = tree(seen)
    assert found["timestep"] == [f"invoke_agent {model}"]
    turns = [f"chat {model}"] * len(mode.provider.requests)
    assert found[f"invoke_agent {model}"] == [*turns[:1], *["execute_tool weather"] * len(tools), *turns[1:]]
    assert ("request" in heard) == (sdk == "openai")


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
    assert [row.error for row in rows(seen, "agent")] == [None]


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
    assert (tool.name, tool.tool_call_id) == ("north", f"{seen.records[0].call_id}:north")
    call = "decisions gpt-6-luna"
    assert tree(seen)[f"invoke_agent {agent.name}"] == [call, "execute_tool north", call]


_SCRIPTS = scaled(8, 1_000)
_IDS = re.compile(r"\b(?:msg|resp|fc|req|toolu)_\w+")
_ACTS = ("return", "return", "return", "raise", "wait", "cancel", "hang", "time out", "interrupt")
_CUTS: tuple[dict[str, Any], ...] = ({}, {}, {}, {"cut_after": 3}, {"error_after": 4}, {"status": 500})
APPROVAL = {
    "type": "mcp_approval_request",
    "id": "mcpr_1",
    "name": "lookup",
    "arguments": "{}",
    "server_label": "atlas",
}
ASKS: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5", "status": "completed",
    "output": [APPROVAL], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
}  # fmt: skip


class Play:
    """One script, played once."""

    def __init__(self, seed: int, provider: ScriptedProvider) -> None:
        chance, self.seed = random.Random(seed), seed
        self.sdk = chance.choice(["anthropic", "openai"])
        self.mode = Mode(chance.choice(["sync", "async"]), provider)
        self.stream = chance.random() < 0.4
        self.eager = self.stream and chance.random() < 0.5
        self.drive = chance.choice(["run", "run", "all", "break", "close"])
        self.steps = chance.choice([None, None, 1, 2])
        self.acts: dict[str, str] = {}
        self.approves = chance.choice([None, True, False])
        if self.sdk == "openai" and not self.stream and self.approves is not None:
            provider.reply(raw=ASKS)
        number = 0
        for _ in range(chance.randrange(3)):
            calls = []
            for _ in range(chance.randrange(1, 4)):
                number += 1
                self.acts[f"city {number}"] = chance.choice(_ACTS)
                calls.append(loops.request(f"city {number}", number, chance.choice(["weather"] * 9 + ["unknown"])))
            provider.reply(tool_calls=calls, **(chance.choice(_CUTS) if self.stream else {}))
        provider.reply(text="It is sunny.", **(chance.choice(_CUTS) if self.stream else {}))
        self.told: list[Any] = []
        self.ran: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._lock = threading.Lock()

    def tool(self, city: str) -> Any:
        with self._lock:
            self.ran.append(city)
        act = self.acts[city]
        if act == "raise":
            raise ValueError(city)
        if act == "interrupt":
            raise asyncio.CancelledError
        return self._later(city, act) if self.mode.is_async else f"Sunny in {city}"

    async def _later(self, city: str, act: str) -> str:
        if act == "cancel":
            self._tasks[0].cancel()
        if act == "hang":
            asyncio.get_running_loop().call_later(0.02, self._tasks[0].cancel)
            await asyncio.sleep(60)
        if act == "time out":
            await asyncio.wait_for(asyncio.sleep(60), 0.01)
        if act in {"cancel", "wait"}:
            await asyncio.sleep(0)
        return f"Sunny in {city}"

    def _approve(self, asked: Any) -> bool:
        self.told.append(asked.name)
        return bool(self.approves)

    async def _approved(self, asked: Any) -> bool:
        return self._approve(asked)

    async def played(self) -> None:
        """Play it in a task of its own, which a tool may cancel."""
        self._tasks.append(asyncio.ensure_future(self._drive()))
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, BaseException):
                self.told.append((type(result).__qualname__, _IDS.sub("id", str(result))))
        self._tasks.clear()  # an exception keeps the frames in which it was raised, and with them the loop
        await self.mode.close()

    async def _drive(self) -> None:
        if self.sdk == "anthropic":
            options: dict[str, Any] = {"run_tools_eagerly": True} if self.eager else {}
            turns: Any = loops.of_anthropic(
                self.mode, self.tool, stream=self.stream, max_iterations=self.steps or 9, **options
            )
        else:
            runner = loops.of_openai(self.mode, self.tool)
            options = {"max_steps": self.steps or 9, "stream": self.stream, "eager": self.eager}
            if self.approves is not None:
                options["approve_mcp"] = self._approved if self.mode.is_async else self._approve
            if self.drive == "run":
                self.told.append(
                    (await self.mode.wait(runner.run(self.mode.openai(), RESPONSES, **options))).output_text
                )
                return
            turns = runner.iterate(self.mode.openai(), RESPONSES, **options)
        await self._iterate(turns)

    async def _iterate(self, turns: Any) -> None:
        if self.drive == "run":
            self.told.append((await self.mode.wait(turns.until_done())).stop_reason)
            return
        async for turn in self.mode.items(turns):
            self.told.append(type(turn).__name__)
            if self.sdk == "anthropic" and self.stream:
                async for event in self.mode.items(turn):
                    self.told.append(event.type)
            if self.drive != "all":
                break
        if self.drive == "close":
            await self.mode.wait(turns.aclose() if hasattr(turns, "aclose") else turns.close())


def play(seed: int, seen: Callable[[Play], None] | None = None) -> tuple[Any, ...]:
    """What a script does: what the application gets, the tools that run in order, and the requests."""
    with ScriptedProvider() as provider:
        script = Play(seed, provider)
        asyncio.run(script.played())
        gc.collect()
        if seen is not None:
            seen(script)
        sent = [json.loads(_IDS.sub("id", json.dumps(request.body))) for request in provider.requests]
        # Functions that run in threads of a pool may begin in any order.
        ran = sorted(script.ran) if script.eager else script.ran
        return script.told, ran, sent


def check(seen: Captured, script: Play) -> None:
    spans = Counter(span.name.partition(" ")[0] for span in seen.spans)
    tools, agents = rows(seen, "tool"), rows(seen, "agent")
    assert spans["invoke_agent"] == len(agents) == len(rows(seen, "agent_start")) == 1
    assert spans["execute_tool"] == len(tools)
    assert spans["chat"] == len(seen.records) == len(script.mode.provider.requests)
    # A call of a tool that there is not is answered, but runs nothing.
    ran = Counter(tool.data["arguments"]["city"] for tool in tools if tool.data and tool.name == "weather")
    assert ran == Counter(script.ran), script.seed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(1200)
def test_scripts_do_the_same_with_callspan_and_every_run_is_recorded_once(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("openai.lib.responses_tool_runner", reason="this openai has no tool runners")
    caplog.set_level(logging.CRITICAL)  # the SDKs log each exception of a tool
    for seed in range(1, 1 + _SCRIPTS):
        bare = play(seed)
        with capture() as seen:
            observed = play(seed, lambda script: check(seen, script))
        assert observed == bare, f"seed {seed}"
