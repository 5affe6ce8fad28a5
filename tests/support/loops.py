"""Tool loops of the SDKs for tests: runners of either colour with a scripted tool, and the tree of what they did."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from tests.support import sdks
from tests.support.mode import Colour, Mode

if TYPE_CHECKING:
    from callspan.testing import Capture

MESSAGE: dict[str, Any] = {
    "model": "claude-sonnet-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Which weather?"}],
}  # fmt: skip
_SENT: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text())
TOOL, DECISION = _SENT["tool"], _SENT["decision"]
(ANSWER,) = DECISION["answers"]
RESPONSES: dict[str, Any] = {"model": "gpt-5", "input": [{"role": "user", "content": "Which weather?"}]}


def request(city: str = "Paris", number: int = 1, name: str = "weather") -> dict[str, Any]:
    """A tool call for the script of a provider."""
    return {"name": name, "arguments": {"city": city}, "id": f"call_{number}"}


def of_anthropic(mode: Mode, run: Any, **options: Any) -> Any:
    """A tool runner of Messages of the mode's own client, whose tool `weather` is `run`."""
    sdks.needs("anthropic", "2.10", "these tool runners")
    return anthropic_runner(mode, mode.anthropic(), run, **options)


def anthropic_runner(colour: Colour, client: Any, run: Any, **options: Any) -> Any:
    """A tool runner of Messages of any version, whose tool `weather` is `run`."""

    def weather(city: str) -> str:
        """Say the weather."""
        return str(run(city))

    async def later(city: str) -> str:
        return str(await colour.wait(run(city)))

    make: Any = partial(anthropic.beta_tool, weather)
    if colour.is_async:
        make = partial(anthropic.beta_async_tool, later, name="weather", description="Say the weather.")
    # From Python 3.13 on, pydantic keeps the frames in which a tool is made, with all their variables.
    with ThreadPoolExecutor(1) as elsewhere:
        tool = elsewhere.submit(make).result()
    return client.beta.messages.tool_runner(**{**MESSAGE, **options, "tools": [tool]})


def of_openai(colour: Colour, run: Any, **options: Any) -> Any:
    """A tool runner of Responses whose function `weather` is `run`."""
    runners = pytest.importorskip("openai.lib.responses_tool_runner", reason="this openai has no tool runners")
    if not colour.is_async:
        function = runners.RegisteredFunction(tool=TOOL, execute=lambda given: run(given["city"]), **options)
        return runners.ResponsesToolRunner(functions=[function])

    async def later(given: dict[str, Any]) -> Any:
        return await colour.wait(run(given["city"]))

    function = runners.AsyncRegisteredFunction(tool=TOOL, execute=later, **options)
    return runners.AsyncResponsesToolRunner(functions=[function])


def of_decisions(colour: Colour) -> Any:
    """A runner of decisions at a fork, whose candidates are to go north and to stop."""
    runners = pytest.importorskip("openai.lib.decisions_tool_runner", reason="this openai has no tool runners")

    async def later(value: Any) -> Any:
        return value

    def of(value: Any) -> Any:
        return later(value) if colour.is_async else value

    def candidates(observation: object) -> Any:
        north = {"id": "north", "description": "Go north.", "execute": lambda: of(None)}
        return of([north, {"id": "done", "description": "Stop.", "done": True}])

    kind = runners.AsyncDecisionsToolRunner if colour.is_async else runners.DecisionsToolRunner
    return kind(observe=lambda: of("A fork."), candidates=candidates)


def tree(seen: Capture) -> dict[str, list[str]]:
    """The names of the spans below each span's name, in the order of their starts; no parent: ''."""
    names = {span.context.span_id: span.name for span in seen.spans if span.context is not None}
    found: dict[str, list[str]] = {}
    for span in sorted(seen.spans, key=lambda one: one.start_time or 0):
        above = "" if span.parent is None else names.get(span.parent.span_id, "elsewhere")
        found.setdefault(above, []).append(span.name)
    return found


def rows(seen: Capture, event_type: str) -> list[Any]:
    """The event rows of a type, each once."""
    found = [event for event in seen.events if event.event_type == event_type]
    assert len({event.event_id for event in found}) == len(found)
    return found
