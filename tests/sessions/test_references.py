"""What may name a call, and what is kept of every argument: an id is an id, and nothing else becomes text."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any
from uuid import UUID

import anthropic
import openai
import pytest
from tests.sessions.conftest import logged_misuse

import callspan
from callspan.records import encode
from callspan.testing import Capture, ScriptedProvider, capture

SECRET = "the patient has gout"
ASKED: Any = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
TOOL = {"name": "find", "arguments": {"id": 7}}


class Hospital:
    """An object whose every text is content."""

    id = 7

    def __str__(self) -> str:
        return SECRET

    __repr__ = __str__


class Ward(Enum):
    EAST = "east"


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as scripted:
        scripted.reply(text=SECRET, tool_calls=[TOOL], repeat=True)
        yield scripted


def chat(provider: ScriptedProvider) -> Any:
    with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        return client.chat.completions.create(**ASKED)


def raw(provider: ScriptedProvider) -> Any:
    with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        return client.chat.completions.with_raw_response.create(**ASKED)


def respond(provider: ScriptedProvider) -> Any:
    with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        return client.responses.create(model="m", input="q")


def message(provider: ScriptedProvider) -> Any:
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k") as client:
        return client.messages.create(max_tokens=9, **ASKED)


def stream(provider: ScriptedProvider) -> Any:
    with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        chunks = client.chat.completions.create(**ASKED, stream=True)
        list(chunks)
    return chunks


TOOL_CALLS: dict[str, Callable[[Any], Any]] = {
    "chat": lambda answer: answer.choices[0].message.tool_calls[0],
    "respond": lambda answer: next(item for item in answer.output if item.type == "function_call"),
    "message": lambda answer: next(block for block in answer.content if block.type == "tool_use"),
}
NAMES: dict[str, Callable[[Any, Capture], object]] = {
    "the response": lambda answer, seen: answer,
    "its provider's id": lambda answer, seen: answer.id,
    "its dict": lambda answer, seen: answer.model_dump(),
    "the record": lambda answer, seen: seen.records[-1],
    "the call's id": lambda answer, seen: seen.records[-1].call_id,
    "a UUID": lambda answer, seen: UUID(seen.records[-1].call_id),
}


@pytest.mark.parametrize("named", NAMES)
@pytest.mark.parametrize("ask", [chat, respond, message], ids=lambda ask: ask.__name__)
def test_call_references_are_accepted_everywhere(provider: ScriptedProvider, ask: Any, named: str) -> None:
    with capture(content="off") as seen, callspan.session("s"), callspan.timestep() as step:
        answer = ask(provider)
        call = NAMES[named](answer, seen)
        step.message("x", call=call)
        step.event("e", call=call)
        callspan.reward(1, call_id=call)
        callspan.feedback(call, 1)
    (record,) = seen.records
    found = [seen.messages[-1].call_id, seen.events[-1].call_id, *(one.call_id for one in seen.rewards)]
    assert found == [record.call_id] * 4
    assert_nothing_said(seen)


@pytest.mark.parametrize("ask", [raw, stream], ids=lambda ask: ask.__name__)
def test_raw_response_and_stream_name_their_call(provider: ScriptedProvider, ask: Any) -> None:
    with capture(content="off") as seen, callspan.session("s") as session:
        session.event("e", call=ask(provider))
    assert seen.events[-1].call_id == seen.records[0].call_id


@pytest.mark.parametrize("ask", [chat, respond, message], ids=lambda ask: ask.__name__)
@pytest.mark.parametrize("form", ["object", "dict", "of the record"])
def test_tool_call_names_itself_and_its_call(provider: ScriptedProvider, ask: Any, form: str) -> None:
    with capture() as seen, callspan.session("s"), callspan.timestep() as step:
        tool_call = TOOL_CALLS[ask.__name__](ask(provider))
        identity = getattr(tool_call, "call_id", None) or tool_call.id
        if form == "dict":
            tool_call = tool_call.model_dump()
        elif form == "of the record":
            (tool_call,) = seen.records[0].tool_calls or ()
        step.message("x", call=tool_call)
        step.event("e", call=tool_call)
        callspan.feedback(tool_call, 1)
        callspan.handoff("billing", call=tool_call)
        with callspan.tool(call=tool_call) as tool:
            pass
    call_id = seen.records[0].call_id
    event = next(one for one in seen.events if one.event_type == "e")
    handoff = next(one for one in seen.events if one.event_type == "handoff")
    assert (event.call_id, event.tool_call_id) == (call_id, identity)
    assert (seen.messages[-1].call_id, seen.rewards[-1].call_id) == (call_id, call_id)
    assert (tool.name, tool.tool_call_id, handoff.tool_call_id) == ("find", identity, identity)
    requested = [one for one in seen.events if one.event_type in ("tool_start", "tool", "handoff")]
    assert [one.call_id for one in requested] == [call_id] * 3


def test_tool_call_keeps_its_id_without_content(provider: ScriptedProvider) -> None:
    with capture(content="off") as seen, callspan.session("s") as session:
        tool_call = TOOL_CALLS["chat"](chat(provider))
        session.event("e", call=tool_call)
    (event,) = seen.events
    assert (event.call_id, event.tool_call_id) == (None, tool_call.id)


@pytest.mark.parametrize("named", ["the response", "the record"])
def test_response_with_one_tool_call_names_it(provider: ScriptedProvider, named: str) -> None:
    with capture() as seen, callspan.session("s"), callspan.timestep() as step:
        answer = chat(provider)
        with step.tool(call=NAMES[named](answer, seen)) as tool:
            pass
    assert (tool.name, tool.tool_call_id) == ("find", answer.choices[0].message.tool_calls[0].id)
    assert {one.call_id for one in seen.events} == {seen.records[0].call_id}
    assert json.loads(json.dumps(tool.arguments)) == {"id": 7}


def test_records_and_scopes_are_accepted_as_ids() -> None:
    with capture() as seen, callspan.session("s") as session:
        with session.timestep() as step:
            event_id = step.event("e")
            event = seen.events[-1]
            step.reward(1, event=event)
            step.message("x", causal_influence=[event, event_id, session])
        callspan.reward(1, session_id=session)
        callspan.reward(1, timestep_id=step)
        callspan.reward(1, timestep_id=seen.timesteps[-1], event_id=event)
    first, of_session, of_step, of_event = seen.rewards
    assert (first.event_id, of_event.event_id) == (event_id, event_id)
    assert (of_session.session_id, of_step.timestep_id, of_event.timestep_id) == (session.id, step.id, step.id)
    assert seen.messages[0].causal_influence == [event_id, event_id, session.id]


MISNAMED: list[Any] = [
    Hospital(),
    f"{SECRET}\n",
    "x" * 201,
    "",
    " ",
    True,
    1.5,
    [SECRET],
    {"text": SECRET},
    b"gout",
    object,
]


@pytest.mark.parametrize("odd", MISNAMED, ids=lambda odd: type(odd).__name__)
def test_other_references_are_misuse_without_their_text(
    provider: ScriptedProvider, odd: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with capture(content="off") as seen, callspan.session("s") as session:
        for use in (session.event, session.message):
            with pytest.raises(callspan.UsageError, match=r"response, its tool call, a record, or an id") as raised:
                use("e", call=odd)
            assert "gout" not in str(raised.value)
        with logged_misuse(), caplog.at_level(logging.WARNING):
            session.event("e", call=odd)
            session.message("x", call=odd)
            callspan.handoff("to", call=odd)
            with callspan.tool("t", call=odd):
                pass
            callspan.feedback(odd, 1)
    assert {one.call_id for one in (*seen.events, *seen.messages)} == {None}
    assert {one.tool_call_id for one in seen.events} == {None}
    assert seen.rewards == []
    assert "gout" not in caplog.text
    assert_nothing_said(seen)


def _with(scope: Any) -> None:
    with scope:
        pass


KEPT: dict[str, Callable[[callspan.Session, Any], object]] = {
    **{
        f"session.{name}": lambda _, odd, name=name: _with(callspan.session(**{"name": "n", name: odd}))
        for name in ("name", "session_id", "user_id", "group_id", "task_id", "experiment", "parent", "metadata")
    },
    "session.metadata key": lambda _, odd: _with(callspan.session("n", metadata={odd: 1})),
    "session.carrier": lambda _, odd: _with(callspan.session("n", carrier={"callspan-session": odd})),
    "timestep.name": lambda own, odd: _with(own.timestep(odd)),
    "timestep.step_id": lambda own, odd: _with(own.timestep(step_id=odd)),
    "timestep.metadata": lambda own, odd: _with(own.timestep(metadata=odd)),
    **{
        f"message.{name}": lambda own, odd, name=name: own.message("x", **{name: odd})
        for name in ("kind", "sender", "receiver", "causal_influence", "metadata")
    },
    "message.causal_influence item": lambda own, odd: own.message("x", causal_influence=[odd]),
    **{
        f"event.{name}": lambda own, odd, name=name: own.event(**{"type": "e", name: odd})
        for name in ("type", "name", "system", "metadata")
    },
    **{
        f"reward.{name}": lambda own, odd, name=name: own.reward(1, **{name: odd})
        for name in ("objective", "source", "annotation", "label", "event")
    },
    **{
        f"callspan.reward.{name}": lambda _, odd, name=name: callspan.reward(1, **{name: odd})
        for name in ("session_id", "timestep_id", "event_id", "objective", "source", "annotation", "label")
    },
    **{
        f"feedback.{name}": lambda _, odd, name=name: callspan.feedback("c", 1, **{name: odd})
        for name in ("objective", "source", "annotation", "label")
    },
    "feedback.span": lambda _, odd: callspan.feedback(value=1, trace_id=odd, span_id=odd),
    "tool.name": lambda own, odd: _with(own.tool(odd)),
    "tool.system": lambda own, odd: _with(own.tool("t", system=odd)),
    "tool.metadata": lambda own, odd: _with(own.tool("t", metadata=odd)),
    "agent.name": lambda own, odd: _with(own.invoke_agent(odd)),
    "agent.description": lambda own, odd: _with(own.invoke_agent("a", description=odd)),
    "guardrail.name": lambda own, odd: _with(own.guardrail(odd)),
    "handoff.to": lambda own, odd: own.handoff(odd),
    "handoff.sender": lambda own, odd: own.handoff("a", odd),
    "update.status": lambda own, odd: own.update(status=odd),
    **{
        f"update.{name}": lambda own, odd, name=name: own.session.update(**{name: odd})
        for name in ("experiment", "task_id", "group_id", "user_id")
    },
    "update.metadata": lambda own, odd: own.update(metadata=odd),
    "outcome.status": lambda own, odd: own.outcome(status=odd),
    **{
        f"record_call.{name}": lambda _, odd, name=name: _with(callspan.record_call(**{"provider": "p", name: odd}))
        for name in ("provider", "model", "server", "client")
    },
    **{
        f"metadata.{name}": lambda _, odd, name=name: with_metadata(name, odd)
        for name in ("user_id", "run_id", "agent", "workflow_name", "prompt_id", "purpose", "tags")
    },
    "metadata.tags item": lambda _, odd: with_metadata("tags", [odd]),
}
"""Every public argument that is kept as a name or an id."""


def with_metadata(name: str, value: object) -> None:
    with callspan.metadata(**{name: value}), callspan.session("inside"):
        pass


def assert_nothing_said(seen: Capture) -> None:
    """Assert that no record and no span has the content."""
    for record in seen.everything:
        assert b"gout" not in encode(record)
    for span in seen.spans:
        assert "gout" not in span.to_json()


@pytest.mark.parametrize("place", KEPT)
@pytest.mark.parametrize("odd", ["response", "object"])
def test_invalid_name_becomes_none(
    provider: ScriptedProvider, place: str, odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    with capture(content="off") as seen, logged_misuse(), caplog.at_level(logging.WARNING):
        value = chat(provider) if odd == "response" and "key" not in place else Hospital()
        with callspan.session("s") as session:
            KEPT[place](session, value)
    assert_nothing_said(seen)
    assert "gout" not in caplog.text
    assert seen.sessions[-1].outcome == "success"


@pytest.mark.parametrize(
    ("given", "kept"), [("n", "n"), (7, "7"), (1.5, "1.5"), (UUID(int=7), str(UUID(int=7))), (Ward.EAST, "east")]
)
def test_text_numbers_and_uuids_are_names(given: Any, kept: str) -> None:
    with capture() as seen, callspan.session(given, session_id=given, metadata={"a": 1}) as session:
        session.event(given, name=given, system=given)
    (event,) = seen.events
    assert (session.id, session.name, event.event_type, event.name, event.system) == (kept,) * 5


def test_other_objects_are_not_calls() -> None:
    with capture() as seen, callspan.session("s") as session:
        session.event("e", call=None)
        session.message("x")
    assert (seen.events[0].call_id, seen.messages[0].call_id) == (None, None)
