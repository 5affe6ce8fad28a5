"""The spans of sessions, made of their records alone, equal byte for byte what OpenTelemetry's exporter sends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import openai
import pytest
from opentelemetry.trace import NonRecordingSpan, use_span
from tests.agent.test_span_ids import REMOTE, run_all
from tests.scale import scaled
from tests.spans_of_records import session_differences

import callspan
from callspan import open_store
from callspan.cli import demo_agent
from callspan.records import MessageRecord, Record
from callspan.settings_loader import load
from callspan.stores import CallFilter, Reader, SessionSummary
from callspan.testing import ScriptedProvider, capture

QUESTION: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as scripted:
        yield scripted


def support_desk(provider: ScriptedProvider) -> None:
    """Agents, tools that fail, a hosted tool's text as its error, messages, rewards and an environment."""
    client = openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=1)
    with client, callspan.session("desk", user_id="u", group_id="g", metadata={"a": 1, "tags": ["x"]}) as session:
        session.message("hello", sender="user", receiver="agent", metadata={"b": 2})
        with session.timestep("turn", turn=7, step_id="own") as step:
            with step.invoke_agent("triage", input={"q": 1}, description="Sorts.") as agent:
                client.chat.completions.create(model="m", messages=QUESTION)
                with session.invoke_agent("inner") as inner:
                    with pytest.raises(ZeroDivisionError), callspan.tool("bad", arguments={"x": 1}):
                        _ = 1 / 0
                    inner.output = "none"
                agent.output = "done"
            with step.tool("said", call="call_1", arguments={"x": "é" * 9}) as tool:
                tool.error = "no"
            with callspan.guardrail("safe", input="x") as check:
                check.triggered = True
            step.action("go", system="robot")
            step.environment("obs", reward=1.5, terminated=True)
            step.reward(0.5, "style", source="judge", annotation="fine", label="good")
            step.event("note", {"a": [1, None]}, name="n", error=ValueError("lost"))
        provider.reply(status=500, retry_after_s=0.001)
        list(client.chat.completions.create(model="m", messages=QUESTION, stream=True))
        with pytest.raises(RuntimeError), session.timestep("broken"):
            raise RuntimeError("half")
        session.outcome(reward=2, success=True, status="won")
    callspan.reward(0.7, session_id=session.id, objective="late", annotation="later")


def demo(provider: ScriptedProvider) -> None:
    """What `callspan demo` plays."""
    demo_agent.script_demo(provider)
    one, two, three, *rollouts = demo_agent.worlds()
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        demo_agent.play_with_openai(client, one)

    async def at_once() -> None:
        async with (
            anthropic.AsyncAnthropic(api_key="k", base_url=provider.anthropic_url) as claude,
            openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url) as policy,
        ):
            await asyncio.gather(
                demo_agent.play_with_anthropic(claude, two, hasty=False),
                demo_agent.play_with_anthropic(claude, three, hasty=True),
                *(
                    demo_agent.play_rollout(policy, world, model="m", number=number)
                    for number, world in enumerate(rollouts)
                ),
            )

    asyncio.run(at_once())


def everything(provider: ScriptedProvider) -> None:
    """All that has a span of its own, below a span of another process."""
    del provider
    with use_span(NonRecordingSpan(REMOTE)):
        run_all()


SETTINGS: list[dict[str, Any]] = [
    {}, {"content": "metadata"}, {"content": "off"}, {"content_on_spans": False}, {"trace_per": "timestep"},
    {"vocabularies": "gen_ai"}, {"max_attribute_bytes": 200, "max_span_bytes": 900},
]  # fmt: skip


@pytest.mark.parametrize("program", [support_desk, everything])
def test_a_span_is_a_function_of_its_record(provider: ScriptedProvider, program: Any) -> None:
    for settings in SETTINGS:
        assert differing(provider, program, settings) == [], settings


@pytest.mark.parametrize("settings", scaled(SETTINGS[:1], SETTINGS), ids=str)
def test_the_spans_of_the_demo_are_functions_of_its_records(provider: ScriptedProvider, settings: Any) -> None:
    assert differing(provider, demo, settings) == []


@pytest.mark.parametrize("program", [support_desk, demo])
def test_the_spans_of_a_session_are_made_of_what_a_store_has(
    provider: ScriptedProvider, tmp_path: Path, program: Any
) -> None:
    """But for costs computed at delivery, and rewards that came after its end: the span could not have them."""
    url, settings = f"sqlite:///{tmp_path}/calls.db", {}
    with capture(stores=url, spool_dir=tmp_path / "spool", **settings) as seen:
        program(provider)
    with closing(open_store(url)) as reader:
        records = [record for summary in reader.sessions() for record in stored(reader, summary)]
    found = [*session_differences(seen.spans, records, load(settings, {}))]
    assert not [one for one in found if "callspan.reward.late" not in one]
    assert len(found) == (1 if program is support_desk else 0)


def stored(reader: Reader, summary: SessionSummary) -> Iterator[Record]:
    """All records of a session, as a store has them, without costs: the trace of an event is its timestep's."""
    session, steps = summary.session, {step.timestep_id: step for step in reader.timesteps(summary.session.session_id)}
    yield session
    yield from steps.values()
    for call in reader.calls(CallFilter(session_id=session.session_id)):
        yield msgspec.structs.replace(call, cost=None)
    for event in reader.events(session.session_id):
        is_known = isinstance(event, MessageRecord) or event.span_id is None or event.trace_id is not None
        yield event if is_known else msgspec.structs.replace(event, trace_id=steps[str(event.timestep_id)].trace_id)


def differing(provider: ScriptedProvider, program: Any, settings: Any) -> list[str]:
    with capture(**settings) as seen:
        program(provider)
    assert len(seen.spans) > 8
    return [*session_differences(seen.spans, seen.everything, load(settings, {}))]
