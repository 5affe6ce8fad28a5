"""A record says where its span is: ids, parent, sampling, links; the same as the span that was exported."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, use_span

import callspan
from callspan import redact_texts
from callspan.record.events import record_key
from callspan.records import EventRecord, MessageRecord, Record, SessionRecord, SpanLink, Trace
from callspan.stores.columns import TABLES
from callspan.stores.payloads import row_of as present
from callspan.stores.rows import merge
from callspan.testing import Captured, capture

REMOTE = SpanContext(
    0xA << 120, 0xB << 56, is_remote=True, trace_flags=TraceFlags(3), trace_state=TraceState([("vendor", "1")])
)


def run_all() -> None:
    """A session with all that has a span of its own, and rewards after its end."""
    with callspan.session("s", session_id="own") as session:
        with session.timestep("t") as step:
            with step.tool("look", arguments={}) as tool:
                tool.result = 1
            with step.invoke_agent("a"), callspan.guardrail("g"):
                pass
            with step.environment_step() as environment:
                environment.set_result("sky", reward=1)
            step.action("north")
            callspan.handoff("other")
        with callspan.record_call(provider="vllm"):
            pass
    session.reward(0.5)
    callspan.reward(0.7, session_id=session.id, objective="late")


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
        whole = merge(versions)
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
