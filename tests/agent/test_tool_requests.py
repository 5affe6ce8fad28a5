"""A tool without the id of a tool call: the request of the model that it runs is found by name and arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

import callspan
from callspan.records import EventRecord
from callspan.testing import Captured, ScriptedProvider, capture

ASKED: Any = {"model": "gpt-5", "messages": [{"role": "user", "content": "Where to?"}]}
EAST, WEST = {"to": "east"}, {"to": "west"}


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as scripted:
        yield scripted


def moves(*requested: tuple[str, dict[str, str]]) -> list[dict[str, Any]]:
    return [{"name": "move", "arguments": given, "id": name} for name, given in requested]


def ask(provider: ScriptedProvider, api: str = "chat") -> None:
    if api == "messages":
        with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url, max_retries=0) as claude:
            claude.messages.create(**ASKED, max_tokens=9)
        return
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        if api == "responses":
            client.responses.create(model="gpt-5", input="Where to?")
        elif api == "stream":
            list(client.chat.completions.create(**ASKED, stream=True))
        else:
            client.chat.completions.create(**ASKED)


def joined(seen: Captured) -> list[str | None]:
    """The tool call's id of each run; its start, its end and its span have the same."""
    events = [one for one in seen.events if isinstance(one, EventRecord)]
    ids = [one.tool_call_id for one in events if one.event_type == "tool"]
    assert sorted(map(str, ids)) == sorted(str(one.tool_call_id) for one in events if one.event_type == "tool_start")
    spans = [dict(one.attributes or {}) for one in seen.spans if one.name.startswith("execute_tool")]
    assert [one.get("gen_ai.tool.call.id") for one in spans] == ids
    return ids


@pytest.mark.parametrize("api", ["chat", "stream", "responses", "messages"])
def test_a_tool_is_joined_with_the_request_of_its_name_and_arguments(provider: ScriptedProvider, api: str) -> None:
    provider.reply(tool_calls=moves(("call_1", EAST), ("call_2", WEST)))
    with capture() as seen, callspan.session("gridworld") as session, session.timestep() as step:
        ask(provider, api)
        with step.tool("move", arguments=WEST), callspan.tool("move", arguments='{"to": "east"}'):
            pass
        with step.tool("move", arguments=EAST):
            pass
    assert joined(seen) == ["call_1", "call_2", None]


def test_a_decorated_function_is_joined_by_its_arguments(provider: ScriptedProvider) -> None:
    provider.reply(tool_calls=moves(("call_1", EAST)))

    @callspan.tool
    def move(to: str) -> str:
        return to

    with capture() as seen, callspan.session("gridworld"), callspan.timestep():
        ask(provider)
        move("east")
    assert joined(seen) == ["call_1"]


def test_a_tool_is_joined_only_where_one_request_is_open(provider: ScriptedProvider) -> None:
    provider.reply(tool_calls=moves(("call_1", EAST), ("call_2", EAST)))
    provider.reply(text="Done.")
    with capture() as seen, callspan.session("gridworld") as session:
        with session.timestep() as step:
            ask(provider)
            with step.tool("move", arguments=EAST):
                pass  # either may be meant
            with step.tool("move", call="call_1", arguments=EAST), step.tool("move", arguments=EAST):
                pass
            with step.tool("stay", arguments=EAST), step.tool("move", arguments=WEST):
                pass
        ask(provider)
        with session.tool("move", arguments=EAST):
            pass  # the model has gone on
    assert joined(seen) == [None, "call_2", "call_1", None, None, None]


def test_without_content_no_request_is_known(provider: ScriptedProvider) -> None:
    provider.reply(tool_calls=moves(("call_1", EAST)))
    with capture(content="off") as seen, callspan.session("gridworld") as session, session.timestep() as step:
        ask(provider)
        with step.tool("move", arguments=EAST):
            pass
    assert joined(seen) == [None]
