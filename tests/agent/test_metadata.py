"""Metadata on every row and span, callbacks at their points, and carriers to other processes."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from tests.agent.conftest import failed, processing

import callspan
from callspan import add_callback, metadata, session, tool
from callspan.records import EventRecord, MessageRecord, Record, RewardRecord, SessionRecord, TimestepRecord
from callspan.testing import capture

if TYPE_CHECKING:
    from tests.agent.conftest import Seen


def test_metadata_around_is_on_every_row_and_the_innermost_wins(seen: Seen) -> None:
    with (
        metadata(application="shop", purpose="outer", colour="red"),
        session("s", metadata={"seed": 7}) as own,
        own.timestep(metadata={"purpose": "mine"}) as step,
    ):
        with metadata(purpose="inner"):
            step.observation("x")
            step.event("e", metadata={"own": 1})
            step.environment("y", reward=1)
            step.reward(1)
        with tool("t"):
            pass
    around = {"application": "shop", "purpose": "outer", "extra": {"colour": "red"}}
    inner = {**around, "purpose": "inner"}
    assert seen.ended(SessionRecord)[0].metadata == {**around, "seed": 7}
    assert seen.ended(TimestepRecord)[0].metadata == {**around, "purpose": "mine"}
    assert seen.of(MessageRecord)[0].metadata == inner
    event, world, run = seen.of(EventRecord)
    assert event.metadata == {**inner, "own": 1}
    assert (world.metadata, run.metadata) == (inner, around)
    assert seen.of(RewardRecord)[0].metadata == inner


def test_what_a_callback_returns_is_processed_too(seen: Seen) -> None:
    def treat(record: Record) -> Record:
        return msgspec.structs.replace(record, metadata={}) if "password" in record.metadata else record

    def enrich(record: Record) -> Record:
        return msgspec.structs.replace(record, metadata={"password": "hunter2"})

    seen.install(processors=processing(treat))
    take_away = add_callback("before_record", enrich, kinds=["action"])
    try:
        with session("s") as own:
            own.action(1)
            own.event("other")
    finally:
        take_away()
    assert [event.metadata for event in seen.of(EventRecord)] == [{}, {}]


def test_a_processor_that_fails_costs_content_and_no_record(seen: Seen) -> None:
    def fail(record: Record) -> Record:
        raise ValueError("odd record")

    seen.install(processors=processing(fail))
    with session("s") as own, own.timestep() as step, step.tool("t") as run:
        step.action("SESAME")
        run.result = "SESAME"
    assert (own.state, step.state, step.index) == ("ended", "ended", 0)
    assert len(seen.records) == 7
    assert all("processor_failed" in {note.why for note in record.redactions} for record in seen.records)
    assert "SESAME" not in repr(seen.records) + "".join(span.to_json() for span in seen.spans)
    assert failed() != {}


@pytest.mark.parametrize("trace_per", ["session", "timestep"])
def test_one_trace_for_a_session_or_for_each_step_as_set(trace_per: str) -> None:
    with capture(trace_per=trace_per) as captured, callspan.session("s") as own:
        for _ in range(3):
            with own.timestep() as step:
                step.action(1)
    steps = [span for span in captured.spans if span.name == "timestep"]
    (root,) = [span for span in captured.spans if span.name == "invoke_workflow s"]
    assert {span.attributes["session.id"] for span in captured.spans} == {own.id}
    if trace_per == "session":
        assert {span.context.trace_id for span in captured.spans} == {root.context.trace_id}
        return
    assert len({span.context.trace_id for span in captured.spans}) == 4
    assert [span.parent for span in steps] == [None] * 3
    before = [root, *steps[:-1]]
    assert [span.links[0].context.span_id for span in steps] == [other.context.span_id for other in before]
    written = {record.timestep_id: record.trace_id for record in captured.timesteps}
    assert set(written.values()) == {f"{span.context.trace_id:032x}" for span in steps}


def test_each_point_is_called_with_its_record(seen: Seen) -> None:
    expected = {
        "session_start": 1,
        "session_end": 1,
        "timestep_start": 2,
        "timestep_end": 2,
        "event": 2,
        "message": 1,
        "before_record": 10,
        "after_record": 10,
    }
    called: list[str] = []
    with ExitStack() as added:
        for point in expected:
            added.callback(add_callback(point, lambda _, point=point: called.append(point)))  # type: ignore[call-overload]
        with session("s") as own:
            own.observation("x")
            own.timestep().start()  # left open: closed with its session, and its callback called
            with own.timestep() as step, step.tool("t"):
                step.action(1)
    assert Counter(called) == expected
    assert len(seen.records) == 10
    with pytest.raises(ValueError, match="'nowhere'; one of session_start"):
        add_callback("nowhere", print)  # type: ignore[arg-type]


@pytest.mark.parametrize("sampled", [True, False])
def test_a_carrier_contains_the_sampling_decision(seen: Seen, sampled: bool) -> None:
    """It may have travelled as HTTP headers."""
    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON if sampled else ALWAYS_OFF))
    seen.tracer = provider.get_tracer("tests")
    seen.install()
    with session("shared/ä", metadata={"secret": "x"}) as own:
        headers = {key.title(): value for key, value in own.carrier().items()}
    assert "secret" not in str(headers)
    assert all(value.isascii() for value in headers.values())
    seen.tracer = seen.provider.get_tracer("tests")
    seen.install()
    with session(carrier={**headers, "Accept": "*/*"}) as again, again.timestep():
        assert (again.id, again.name) == (own.id, "shared/ä")
    assert len(seen.named("timestep")) == int(sampled)
    assert seen.ended(TimestepRecord)[0].session_id == own.id
