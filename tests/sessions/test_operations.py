"""Several agents in one program: runs, guardrails, handoffs, tools joined to requests, and their messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.trace import StatusCode
from tests.sessions.conftest import Seen
from tests.support.calls import ask

import callspan
from callspan import current_session, current_timestep, guardrail, handoff, invoke_agent, reward, session, tool
from callspan.records import EventRecord, RewardRecord
from callspan.testing import Capture, ScriptedProvider, capture


@pytest.mark.parametrize("begin", [invoke_agent, tool, guardrail], ids=lambda begin: begin.__name__)
def test_failed_operation_marks_its_span_and_propagates(seen: Seen, begin: Any) -> None:
    """It fails alone where the exception is caught. Each says which agent is around it."""
    with session("s") as own, own.timestep() as step, invoke_agent("boss"):
        assert (current_session(), current_timestep()) == (own, step)
        with pytest.raises(KeyError), begin("a"):
            raise KeyError("door")
        with begin("b") as inner:
            inner.error = "gave up"
    raised, with_error, boss = seen.of(EventRecord)
    assert (raised.error.type, with_error.error.message, boss.error) == ("KeyError", "gave up", None)
    assert (raised.system, with_error.system, boss.system) == ("boss", "boss", None)
    failed = [span.name.split()[-1] for span in seen.spans if span.status.status_code is StatusCode.ERROR]
    assert failed == ["a", "b"]


def test_handoff_and_reward_return_their_record_id(seen: Seen) -> None:
    """Also a reward that comes after the end: its span has the id."""
    with session("s") as own:
        name, given = handoff("billing"), reward(1.0)
    late = reward(0.5, session_id=own.id, objective="novelty")
    assert [one.event_id for one in seen.of(EventRecord)] == [name]
    assert [one.reward_id for one in seen.of(RewardRecord)] == [given, late]
    assert seen.the("evaluation novelty").attributes["callspan.reward.id"] == late


def test_decorated_functions_record_arguments_and_results(seen: Seen) -> None:
    @invoke_agent
    def planner(goal: str, depth: int = 2) -> list[str]:
        return [goal] * depth

    @invoke_agent("actor", description="acts")
    async def act(plan: list[str]) -> int:
        return len(plan)

    @guardrail
    def is_long(text: str) -> bool:
        return len(text) > 3

    @guardrail("words")
    def words(**given: str) -> list[str]:
        return given["text"].split()

    with session("s"):
        assert asyncio.run(act(planner("win"))) == 2
        assert is_long("words") is True
        assert words(text="a b") == ["a", "b"]
    assert [(one.event_type, one.name, one.data, one.metadata) for one in seen.of(EventRecord)] == [
        ("agent", "planner", {"input": {"goal": "win"}, "output": ["win", "win"]}, {}),
        ("agent", "actor", {"input": {"plan": ["win", "win"]}, "output": 2}, {"description": "acts"}),
        ("guardrail", "is_long", {"input": {"text": "words"}, "output": True}, {"triggered": True}),
        ("guardrail", "words", {"input": {"text": "a b"}, "output": ["a", "b"]}, {}),
    ]


def test_input_is_recorded_as_at_the_start(seen: Seen) -> None:
    """As a list of messages that an agent extends, or the state of an environment."""
    with session("s") as own:
        for begin, word in ((own.tool, "arguments"), (own.invoke_agent, "input"), (own.guardrail, "input")):
            given: Any = {"history": ["hi"]}
            with begin("o", **{word: given}) as operation:
                assert operation.output is None
                given["history"].append("more")
        with own.environment_step(given) as world:
            given["history"].append("after")
            world.set_result(given)
    first = {"history": ["hi"]}
    assert [one.data for one in seen.of(EventRecord)] == [
        {"arguments": first},
        {"input": first},
        {"input": first},
        {"before": {"history": ["hi", "more"]}, "after": {"history": ["hi", "more", "after"]}},
    ]


@pytest.mark.parametrize("bound", [classmethod, staticmethod])
@pytest.mark.parametrize("decorate", [tool, invoke_agent("f"), session, callspan.timestep, session(require=True)])
def test_decorators_work_above_and_below_method_binding(seen: Seen, decorate: Any, bound: Any) -> None:
    def f(*args: object) -> tuple[object, ...]:
        return args

    class Desk:
        above, below = decorate(bound(f)), bound(decorate(f))

    received = {classmethod: (Desk, "a"), staticmethod: ("a",)}
    with session("s"):
        for owner in (Desk, Desk()):
            assert owner.above("a") == owner.below("a") == received[bound]


def test_tool_has_name_and_arguments_of_its_function(seen: Seen) -> None:
    class Desk:
        @tool
        @classmethod
        def add(cls, word: str) -> str:
            return word

    assert (Desk.add("a"), tool(partial(str.upper, "a"))()) == ("a", "A")
    with pytest.raises(TypeError, match=r"add\(\) missing 1 required"):
        Desk.add()  # type: ignore[call-arg]
    event, of_partial, wrong = seen.of(EventRecord)
    assert (event.name, event.data) == ("add", {"arguments": {"word": "a"}, "result": "a"})
    assert of_partial.name == "upper"
    assert (wrong.name, wrong.error.type) == ("add", "TypeError")


EAST, WEST, UP = {"to": "east"}, {"to": "west"}, {"to": "up"}


def moves(*requested: tuple[str, dict[str, str]]) -> list[dict[str, Any]]:
    return [{"name": "move", "arguments": given, "id": name} for name, given in requested]


def joined(seen: Capture) -> list[str | None]:
    """The tool call's id of each run; its start, its end and its span have the same."""
    events = [one for one in seen.events if isinstance(one, EventRecord)]
    ids = [one.tool_call_id for one in events if one.event_type == "tool"]
    assert sorted(map(str, ids)) == sorted(str(one.tool_call_id) for one in events if one.event_type == "tool_start")
    calls = {part.id: call.call_id for call in seen.records for part in call.tool_calls or ()}
    assert all(one.call_id == calls.get(one.tool_call_id) for one in events if one.event_type in ("tool", "tool_start"))
    spans = [dict(one.attributes or {}) for one in seen.spans if one.name.startswith("execute_tool")]
    assert [one.get("gen_ai.tool.call.id") for one in spans] == ids
    return ids


WAYS: dict[str, Callable[[openai.OpenAI, anthropic.Anthropic], object]] = {
    "chat": lambda client, _: ask(client),
    "stream": lambda client, _: list(ask(client, stream=True)),
    "responses": lambda client, _: client.responses.create(model="gpt-5", input="Where to?"),
    "messages": lambda _, claude: ask(claude),
}


@pytest.mark.parametrize("way", WAYS)
def test_tool_is_matched_by_name_and_arguments(
    way: str, provider: ScriptedProvider, client: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    provider.reply(tool_calls=moves(("call_1", EAST), ("call_2", WEST), ("call_3", UP)))

    @callspan.tool
    def move(to: str) -> str:
        return to

    with capture() as seen, callspan.session("gridworld") as session, session.timestep() as step:
        WAYS[way](client, claude)
        with step.tool("move", arguments=WEST), callspan.tool("move", arguments='{"to": "east"}'):
            pass
        move("up")
        with step.tool("move", arguments=EAST):
            pass
    assert joined(seen) == ["call_1", "call_2", "call_3", None]


def test_tool_is_matched_only_to_a_single_open_request(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    provider.reply(tool_calls=moves(("call_1", EAST), ("call_2", EAST)))
    provider.reply(text="Done.")
    with capture() as seen, callspan.session("gridworld") as session:
        with session.timestep() as step:
            ask(client)
            with step.tool("move", arguments=EAST):
                pass  # either may be meant
            with step.tool("move", call="call_1", arguments=EAST), step.tool("move", arguments=EAST):
                pass
            with step.tool("stay", arguments=EAST), step.tool("move", arguments=WEST):
                pass
        ask(client)
        with session.tool("move", arguments=EAST):
            pass  # the model has gone on
    assert joined(seen) == [None, "call_2", "call_1", None, None, None]


def test_call_inside_a_tool_keeps_outer_requests_open(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    provider.reply(tool_calls=moves(("call_1", EAST), ("call_2", WEST)))
    provider.reply(text="Done.")
    with capture() as seen, callspan.session("gridworld") as session, session.timestep() as step:
        ask(client)
        with step.tool("move", arguments=EAST):
            ask(client)
        with step.tool("move", arguments=WEST):
            pass
    assert joined(seen) == ["call_1", "call_2"]
