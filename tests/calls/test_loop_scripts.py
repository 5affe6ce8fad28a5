"""Generated scripts of tool loops: with callspan they do the same as without, and every run of a tool is recorded once.

40 are played, at full scale 1,000.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from callspan.testing import Captured, ScriptedProvider, capture
from tests.calls import loops
from tests.calls.loops import RESPONSES, rows
from tests.support import sdks
from tests.support.mode import Mode
from tests.support.scale import scaled

pytest.importorskip("openai.lib.responses_tool_runner", reason="this openai has no tool runners")
_SCRIPTS = scaled(40, 1_000)
_SEED = 1
_IDS = re.compile(r"\b(?:msg|resp|fc|req|toolu)_\w+")
_ACTS = ("return", "return", "return", "raise", "wait", "cancel", "hang", "time out", "interrupt")
_CUTS: tuple[dict[str, Any], ...] = ({}, {}, {}, {"cut_after": 3}, {"error_after": 4}, {"status": 500})
ASKED = {"type": "mcp_approval_request", "id": "mcpr_1", "name": "lookup", "arguments": "{}", "server_label": "atlas"}
ASKS: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5", "status": "completed", "output": [ASKED],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
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


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    sdks.needs("anthropic", "2.10", "these tool runners")
    logging.disable(logging.CRITICAL)  # the SDKs log each exception of a tool
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(1200)
def test_scripts_do_the_same_with_callspan_and_every_run_is_recorded_once() -> None:
    for seed in range(_SEED, _SEED + _SCRIPTS):
        bare = play(seed)
        with capture() as seen:
            observed = play(seed, lambda script: check(seen, script))
        assert observed == bare, f"seed {seed}"
