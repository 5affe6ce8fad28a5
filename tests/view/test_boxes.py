"""Tool calls on the page: each is one box, with its result, however a framework writes the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.records import START_NS
from tests.support.world import World
from tests.view.conftest import Delivery, Open, ToolBoxes, boxes_of, faults

from callspan.records import EventRecord

ARGUMENTS = '{"city": "Oslo"}'
QUESTION = {"role": "user", "content": "Plan my day."}
BOX = ".box:has-text('call')"


def asking(*idents: str, arguments: str = ARGUMENTS, **fields: Any) -> dict[str, Any]:
    calls = [{"id": ident, "function": {"name": "weather", "arguments": arguments}} for ident in idents]
    return {"role": "assistant", "content": None, "tool_calls": calls, **fields}


def told(*idents: str) -> list[dict[str, Any]]:
    return [{"role": "tool", "tool_call_id": ident, "content": "sunny"} for ident in idents]


def chat(world: World, *sent: dict[str, Any], answer: dict[str, Any] | None = None) -> str:
    choice = {"index": 0, "message": answer or {"role": "assistant", "content": "Take the bicycle."}}
    return world.call("chat_completions", {"messages": [*sent]}, {"choices": [choice]}, "s1").call_id


def ran(world: World, call_id: str, ident: str | None, **fields: Any) -> None:
    data = {"arguments": {"city": "Oslo"}}
    world.event("s1", event_type="tool", name="weather", call_id=call_id, tool_call_id=ident, data=data, **fields)


def named(world: World) -> None:
    """LangGraph's agents have names."""
    chat(world, QUESTION, answer=asking("call_a8Xk2"))
    chat(world, QUESTION, asking("call_a8Xk2", name="planner"), *told("call_a8Xk2"))


def with_ids_of_its_own(world: World) -> None:
    """google-adk sends ids that Gemini has not given, and its tools have them."""
    asked = {"role": "user", "parts": [{"text": "Plan my day."}]}
    answers = [[{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}] * 2, [{"text": "Take the bicycle."}]]
    idents = [f"adk-{number}" for number in range(2)]
    sent = [{"functionCall": {"name": "weather", "args": {"city": "Oslo"}, "id": ident}} for ident in idents]
    results = [
        {"functionResponse": {"name": "weather", "id": ident, "response": {"result": "sunny"}}} for ident in idents
    ]
    later = [{"role": "model", "parts": sent}, {"role": "user", "parts": results}]
    for contents, parts in zip(([asked], [asked, *later]), answers, strict=True):
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
        call = world.call("generate_content", {"contents": contents}, {"candidates": [candidate]}, "s1")
        for ident in idents if len(contents) == 1 else ():
            ran(world, call.call_id, ident, time_ns=call.timing.start_ns + 1)


def of_an_earlier_turn(world: World) -> None:
    """The call before was in another session: strands begins one with each turn."""
    sent = [QUESTION, asking("call_a8Xk2", "call_b9Yl3"), *told("call_a8Xk2", "call_b9Yl3")]
    chat(world, *sent, {"role": "assistant", "content": "Take the bicycle."}, {"role": "user", "content": "And then?"})


def rewritten(world: World) -> None:
    """The history has begun with other words since the tool was asked for."""
    chat(world, QUESTION, answer=asking("call_a8Xk2"))
    chat(world, {"role": "user", "content": "Plan my day, please."}, asking("call_a8Xk2"), *told("call_a8Xk2"))


def two_agents(world: World) -> None:
    """Both count their ids, at once."""
    other = {"role": "user", "content": "Plan my evening."}
    chat(world, QUESTION, answer=asking("call_0"))
    chat(world, other, answer=asking("call_0", arguments='{"city": "Rome"}'))
    chat(world, QUESTION, asking("call_0"), *told("call_0"))
    chat(world, other, asking("call_0", arguments='{"city": "Rome"}'), *told("call_0"))


def not_told_by_its_span(world: World) -> None:
    """Autogen's spans of tools have no result."""
    ran(world, chat(world, QUESTION, answer=asking("call_a8Xk2")), "call_a8Xk2")
    chat(world, QUESTION, asking("call_a8Xk2"), *told("call_a8Xk2"))


WAYS: dict[Callable[[World], None], int] = {
    named: 1, with_ids_of_its_own: 2, of_an_earlier_turn: 2, rewritten: 1, two_agents: 2, not_told_by_its_span: 1,
}  # fmt: skip
"""What frameworks do, and how many tools they ask for."""


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def asked(request: pytest.FixtureRequest, store: Delivery) -> int:
    """A session with this number of tool calls, each with its result."""
    world = World()
    world.session("s1", start_ns=START_NS)
    request.param(world)
    store.write(*world.records)
    return WAYS[request.param]


def test_tool_call_is_one_box_with_its_result(store: Delivery, asked: int) -> None:
    assert boxes_of(store.url, "s1") == ToolBoxes(boxes=asked, without_result=0, stray_results=0, stray_runs=0)
    runs = [entry for entry in store.read().entries("s1") if isinstance(entry, EventRecord)]
    assert ["result" in run.data for run in runs] == [True] * len(runs)  # type: ignore[operator]


def test_session_and_calls_show_each_box_once(store: Delivery, asked: int, tab: Open) -> None:
    page = tab(store.url, "session/s1", "[data-entry]")
    text = page.tab.evaluate("document.body.textContent")
    assert (page.tab.locator(BOX).count(), text.count("no result is recorded")) == (asked, 0)
    assert faults(page.tab) == []
    for call in store.read().calls():
        page.open(f"call/{call.call_id}", "main.call .turn")
        assert "no result is recorded" not in page.tab.evaluate("document.body.textContent")
