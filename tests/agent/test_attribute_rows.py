"""Attribute tables: every attribute on a span has a row, and the type that the row states."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import anthropic
import openai

import callspan
from callspan.semconv import call, events, gen_ai, llm, openinference, scope_messages, session
from callspan.semconv.table import Row, Table
from callspan.testing import ScriptedProvider, capture

VOCABULARIES = (scope_messages, gen_ai, llm, openinference)


def attributes_of_an_agent() -> list[tuple[str, Any]]:
    """Attributes as they are on the spans and events of a small agent, run here on a scripted provider.

    Each bag with what it is on: the first word of a span's name, or an event's name.
    """
    every = ("llm", "gen_ai", "openinference")
    with ScriptedProvider() as provider, capture(vocabularies=every, attempt_spans=True) as captured:
        client = openai.OpenAI(api_key="sk-any", base_url=provider.openai_url, max_retries=1)
        provider.reply(tool_calls=[{"name": "move", "arguments": {"to": "north"}, "id": "call_1"}], cache_read_tokens=2)
        provider.reply(status=429, retry_after_s=0.001)
        provider.reply(text="Done.", reasoning_tokens=1)
        provider.reply(status=400)
        request = {"model": "gpt-5", "messages": [{"role": "user", "content": "Go"}], "temperature": 0.5, "top_p": 1.0}
        known = {"user_id": "u", "group_id": "g", "task_id": "t", "experiment": "e", "metadata": {"seed": 7}}
        with callspan.session("tables", **known) as session, callspan.timestep("turn", 1) as step, client:
            client.chat.completions.create(**request, max_tokens=9, seed=1, stop=["."], user="u")
            list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
            try:
                client.chat.completions.create(**request)
            except openai.BadRequestError:
                step.action("north")
            shown = step.message("a wall", call="c")
            step.message("hm", causal_influence=[shown])
            step.event("thought", "why", "doubt", system="planner", call="c", error="lost")
            with step.tool("move", call="call_1", arguments={"to": "north"}) as tool:
                tool.result = "moved"
            with step.invoke_agent("planner", input="go", description="plans") as agent:
                agent.output = "north"
                with step.guardrail("walls", input="north") as check:
                    check.triggered = True
                step.handoff("actor", call="call_2")
            step.environment("a wall", reward=1.0, terminated=False, truncated=False, before="a hall", info={"n": 1})
            step.reward(0.5, label="good", source="judge", annotation="why", event=shown)
            with step.environment_step("a hall") as world, session.timestep("inner"):
                world.set_result("a wall", reward=1.0, terminated=False, truncated=True, info={"n": 2})
            session.outcome(success=True)
            with callspan.session("inner"):
                pass
        callspan.reward(0.5, session_id=session.id, call_id=captured.records[0].call_id, label="good")
        ask_anthropic(provider)
    bags = [(span.name.split(" ")[0], span.attributes) for span in captured.spans]
    return bags + [(event.name, event.attributes) for span in captured.spans for event in span.events]


def ask_anthropic(provider: ScriptedProvider) -> None:
    """A call with all that Anthropic's Messages have of their own."""
    usage = {
        "input_tokens": 1,
        "output_tokens": 1,
        "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 1},
        "service_tier": "standard",
        "iterations": [{"type": "compaction", "input_tokens": 1, "output_tokens": 1}],
    }
    provider.reply(usage=usage, headers={"anthropic-organization-id": "o", "anthropic-workspace-id": "w"})
    with anthropic.Anthropic(api_key="sk-any", base_url=provider.anthropic_url) as client:
        client.messages.create(
            model="claude-haiku-4-5", max_tokens=2000, messages=[{"role": "user", "content": "Go"}],
            service_tier="auto", thinking={"type": "enabled", "budget_tokens": 1024},
            extra_headers={"anthropic-beta": "one"},
        )  # fmt: skip


def rows(*modules: ModuleType) -> Iterator[Row]:
    for module in modules:
        for table in vars(module).values():
            if isinstance(table, Table):
                yield from table.rows


def kind(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"{kind(value[0])}[]" if value else "string[]"
    return {str: "string", bool: "boolean", int: "int", float: "double"}[type(value)]


def test_every_attribute_of_an_agents_spans_and_events_has_a_row_with_its_type() -> None:
    types: dict[str, set[str]] = {}
    for row in rows(call, events, session, *VOCABULARIES):
        types.setdefault(row.name, set()).add(row.type.partition(" ")[0])
    stars = {name.removesuffix("*"): found for name, found in types.items() if name.endswith("*")}
    seen = {name: kind(value) for _, bag in attributes_of_an_agent() for name, value in (bag or {}).items()}
    assert len(seen) > 150
    for name, found in seen.items():
        known = types.get(name) or next((each for star, each in stars.items() if name.startswith(star)), set())
        assert found in known or "any" in known, (name, found, known)


def test_attributes_of_sessions_and_events_stand_in_the_tables_of_their_vocabulary() -> None:
    of_vocabularies = {id(row) for row in rows(*VOCABULARIES)}
    others = [row.name for row in rows(session, events) if id(row) not in of_vocabularies]
    assert {name for name in others if name.startswith(("gen_ai.", "llm.", "openinference."))} == {call.CONVERSATION_ID}
