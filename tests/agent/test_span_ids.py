"""Spans of sessions: their ids on records, and attributes by their tables."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from types import ModuleType
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from tests.agent.programs import REMOTE, run_all

import callspan
from callspan import redact_texts
from callspan.record.events import record_key
from callspan.records import EventRecord, MessageRecord, Record, SessionRecord, SpanLink, Trace
from callspan.semconv import call, events, gen_ai, llm, openinference, scope_messages, session
from callspan.semconv.table import Row, Table
from callspan.stores.call_rows import record_of
from callspan.stores.columns import SESSIONS, TABLES
from callspan.stores.payloads import row_of as present
from callspan.stores.rows import merged_row
from callspan.testing import Captured, ScriptedProvider, capture


def ids_of(span: ReadableSpan) -> dict[str, Any]:
    context, parent = span.get_span_context(), span.parent
    assert context is not None
    return {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_span_id": None if parent is None else f"{parent.span_id:016x}",
        "sampled": True,
    }


def recorded(captured: Captured) -> list[dict[str, Any]]:
    last: dict[str, Any] = {}
    for record in captured.everything:
        if not isinstance(record, MessageRecord) and record.span_id is not None:
            last[record.span_id] = record
    names = ("trace_id", "span_id", "parent_span_id", "sampled")
    return [{name: getattr(record, name) for name in names} for record in last.values()]


@pytest.mark.parametrize("trace_per", ["session", "timestep"])
def test_every_span_is_that_of_one_record(trace_per: Any) -> None:
    with capture(trace_per=trace_per) as captured:
        run_all()
    spans = sorted(map(ids_of, captured.spans), key=lambda ids: ids["span_id"])
    assert len(spans) >= 9
    assert sorted(recorded(captured), key=lambda ids: ids["span_id"]) == spans


def test_what_a_span_is_linked_to_is_kept() -> None:
    """A timestep in a trace of its own is linked to the one before; a reward to the code that gives it."""
    with capture(trace_per="timestep") as captured, callspan.session("s") as session:
        with session.timestep("first"):
            pass
        with session.timestep("second"), session.tool("look"):
            pass
    of_session, first, second, _ = sorted(captured.spans, key=lambda span: span.start_time or 0)
    links = {record.name: record.trace and record.trace.links for record in captured.timesteps}
    above = {span.name: ids_of(span) for span in (of_session, first)}
    assert links == {
        "first": [SpanLink(trace_id=above[of_session.name]["trace_id"], span_id=above[of_session.name]["span_id"])],
        "second": [SpanLink(trace_id=above[first.name]["trace_id"], span_id=above[first.name]["span_id"])],
    }
    for tool in captured.events:
        assert isinstance(tool, EventRecord)
        assert tool.trace is None
        assert tool.trace_id == ids_of(second)["trace_id"]


def test_spans_that_are_not_sampled_have_ids_too() -> None:
    unsampled = SpanContext(REMOTE.trace_id, REMOTE.span_id, is_remote=True, trace_flags=TraceFlags(0))
    with capture() as captured, use_span(NonRecordingSpan(unsampled)):
        run_all()
    assert not captured.spans
    kept = [record for record in captured.everything if not isinstance(record, MessageRecord) and record.span_id]
    assert {record.sampled for record in kept} == {False}
    assert {type(record).__name__ for record in kept} == {
        "CallRecord",
        "EventRecord",
        "SessionRecord",
        "TimestepRecord",
    }


def test_the_row_of_a_session_that_is_opened_again_names_one_span() -> None:
    """The newer one whole: its root has no parent, though the one before had."""
    remote = Trace(is_parent_remote=True)
    first = SessionRecord(
        session_id="s",
        seen_ns=1,
        trace_id="a" * 32,
        span_id="b" * 16,
        parent_span_id="c" * 16,
        sampled=True,
        trace=remote,
    )
    last = SessionRecord(session_id="s", seen_ns=2, trace_id="d" * 32, span_id="e" * 16, sampled=True)
    later = SessionRecord(session_id="s", seen_ns=3, name="n")
    for versions in permutations((first, last, later)):
        row = merged_row(SESSIONS, None, versions[0])
        for version in versions[1:]:
            row = merged_row(SESSIONS, row, version)
        whole = record_of(SESSIONS, row, SessionRecord)
        assert (whole.name, whole.trace_id, whole.span_id) == ("n", last.trace_id, last.span_id)
        assert (whole.parent_span_id, whole.trace) == (None, None)


def row_of(record: Record) -> dict[str, object]:
    table = TABLES[record_key(record)[0]]
    return dict.fromkeys(table.names) | present(record)


def test_a_redactor_that_fails_takes_frames_and_one_that_masks_leaves_ids() -> None:
    with capture(redact=lambda _: 1 / 0) as captured, pytest.raises(KeyError), callspan.tool("run"):
        raise KeyError
    assert {event.error and event.error.frames for event in captured.events} == {None}
    with capture(redact=redact_texts(lambda text: "[gone]"), trace_per="timestep") as captured:
        run_all()
    links = [record.trace.links for record in captured.timesteps if record.trace]
    assert links
    assert "[gone]" not in str(links)


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
        for found in vars(module).values():
            for table in found if isinstance(found, tuple) else (found,):
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


@pytest.mark.parametrize("settings", [{"content": "off"}, {"content": "metadata"}, {}])
def test_frames_have_no_line_of_source(settings: Any, tmp_path: Path) -> None:
    """A model may have written it."""
    made = tmp_path / "made.py"
    made.write_text("patient = 'Jane Roe'; raise KeyError(len(patient))  # " + "x" * 100_000)
    with capture(**settings) as captured, pytest.raises(KeyError), callspan.tool("run"):
        exec(compile(made.read_text(), str(made), "exec"), {})
    event = captured.events[-1]
    assert isinstance(event, EventRecord)
    assert event.error is not None
    assert str(made) in (event.error.frames or "")
    shown = [str((one.attributes or {})["exception.stacktrace"]) for one in captured.spans[0].events]
    assert "Jane" not in str(captured.events) + str(shown)
    assert shown == [event.error.frames]
