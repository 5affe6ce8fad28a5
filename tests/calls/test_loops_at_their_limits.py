"""Tool loops used in unusual ways: ids used again, tools run after the end, suppressed blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation

import callspan
from callspan.testing import Captured, ScriptedProvider
from tests.calls import loops
from tests.calls.loops import request, rows
from tests.support import sdks
from tests.support.mode import Mode

INPUT: dict[str, Any] = {"model": "gpt-5", "input": [{"role": "user", "content": "Which weather?"}]}


@pytest.fixture(autouse=True)
def _has_loops() -> None:
    sdks.needs("anthropic", "2.10", "these tool runners")


@pytest.fixture
def mode(provider: ScriptedProvider) -> Iterator[Mode]:
    with Mode("sync", provider) as mode:
        yield mode


def sunny(city: str) -> str:
    return f"Sunny in {city}"


def runs(seen: Captured) -> list[tuple[Any, Any]]:
    """City and result of each recorded run; each has a start, and a span of its own."""
    found = rows(seen, "tool")
    assert len(rows(seen, "tool_start")) == len(found) == len([span for span in seen.spans if "weather" in span.name])
    return [((one.data.get("arguments") or {}).get("city"), one.data.get("result")) for one in found]


def again(mode: Mode) -> None:
    mode.provider.reply(tool_calls=[request()])
    runner = loops.of_anthropic(mode, sunny)
    for turn in runner:
        if turn.stop_reason == "tool_use":
            runner.generate_tool_call_response()
            runner.append_messages({"role": "user", "content": "Hurry."})
            runner.generate_tool_call_response()


def twice_in_a_turn(mode: Mode) -> None:
    mode.provider.reply(tool_calls=[request("Paris"), request("Oslo")])
    loops.of_anthropic(mode, sunny).until_done()


def eagerly_in_each_turn(mode: Mode) -> None:
    mode.provider.reply(tool_calls=[request("Paris", 1), request("Bonn", 2)])
    mode.provider.reply(tool_calls=[request("Oslo", 1), request("Rome", 2)])
    loops.of_anthropic(mode, sunny, stream=True, run_tools_eagerly=True).until_done()


@pytest.mark.parametrize(
    ("use", "cities"),
    [
        (again, ["Paris", "Paris"]),
        (twice_in_a_turn, ["Paris", "Oslo"]),
        (eagerly_in_each_turn, ["Paris", "Bonn", "Oslo", "Rome"]),
    ],
)
def test_each_run_of_an_id_that_is_used_again_is_recorded_with_its_own_result(
    use: Callable[[Mode], None], cities: list[str], mode: Mode, seen: Captured
) -> None:
    use(mode)
    assert sorted(runs(seen)) == sorted((city, f"Sunny in {city}") for city in cities)


def suppressed_tool(mode: Mode) -> None:
    runner = loops.of_anthropic(mode, sunny, max_iterations=1)
    next(runner)
    with suppress_instrumentation():
        list(runner)


def suppressed_run(mode: Mode) -> None:
    turns = loops.of_openai(mode, sunny).iterate(mode.openai(), INPUT)
    with suppress_instrumentation():
        list(turns)


@pytest.mark.parametrize("use", [suppressed_tool, suppressed_run])
def test_what_runs_in_a_suppressed_block_is_recorded_without_a_span(
    use: Callable[[Mode], None], mode: Mode, seen: Captured
) -> None:
    mode.provider.reply(tool_calls=[request("Atlantis")])
    use(mode)
    assert [one.data.get("result") for one in rows(seen, "tool")] == ["Sunny in Atlantis"]
    assert len(rows(seen, "agent")) == 1
    assert [span.name for span in seen.spans if "tool" in span.name] == []
    assert use is suppressed_tool or seen.spans == []


def test_a_loop_that_was_not_started_does_not_hide_the_one_that_runs(mode: Mode, seen: Captured) -> None:
    mode.provider.reply(tool_calls=[request()])
    runner = loops.of_openai(mode, sunny)
    turns = runner.iterate(mode.openai(), INPUT)
    runner.run(mode.openai(), INPUT)
    turns.close()
    assert runs(seen) == [("Paris", "Sunny in Paris")]
    assert rows(seen, "tool")[0].duration_ns


def test_a_loop_that_outlives_its_block_stays_below_its_span(mode: Mode, seen: Captured) -> None:
    mode.provider.reply(tool_calls=[request()])
    with callspan.invoke_agent("forecaster"):
        runner = loops.of_anthropic(mode, sunny)
        next(runner)
    runner.until_done()
    assert loops.tree(seen)["invoke_agent forecaster"] == ["invoke_agent claude-sonnet-5"]
    assert runs(seen) == [("Paris", "Sunny in Paris")]
