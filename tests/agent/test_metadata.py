"""`callspan.metadata` on every row and span, start rows of tools, and callbacks after the processors."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.agent.conftest import processing

import callspan
from callspan import add_callback, copy_context, metadata, session, tool
from callspan.record.events import METADATA_FIELDS, start_id
from callspan.records import EventRecord, MessageRecord, Record, RewardRecord, SessionRecord, TimestepRecord
from callspan.semconv.scope_spans import ScopeSpanOptions
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


def test_metadata_around_is_on_the_spans_as_llm_meta(seen: Seen) -> None:
    def walk() -> None:
        with (
            metadata(application="shop", step_index=3, colour="red"),
            session("s", user_id="u1") as own,
            own.timestep() as step,
            step.tool("t"),
            step.environment_step(),
        ):
            pass

    walk()
    assert len(seen.spans) == 4
    for span in seen.spans:
        assert span.attributes["llm.meta.application"] == "shop"
        assert span.attributes["llm.meta.step_index"] == 3
        assert "llm.meta.colour" not in span.attributes
        assert (span.attributes.get("llm.meta.user_id") == "u1") == (span.name != "invoke_workflow s")
    seen.exporter.clear()
    seen.install(ScopeSpanOptions(llm=False))
    walk()
    assert not any(name.startswith("llm.") for span in seen.spans for name in span.attributes)


def test_a_thread_without_context_still_has_the_metadata_of_its_session(seen: Seen) -> None:
    with metadata(run_id="r7"), session("s") as own:
        pass

    async def elsewhere() -> None:
        own.reward(1)

    asyncio.run(elsewhere())
    assert seen.of(RewardRecord)[0].metadata == {"run_id": "r7"}
    with metadata(run_id="r8"):
        copy_context(own.reward)(2)
    assert seen.of(RewardRecord)[1].metadata == {"run_id": "r8"}


def test_a_messages_own_metadata_overrides_that_around_it(seen: Seen) -> None:
    with metadata(purpose="play"), session("s") as own:
        own.message("x", metadata={"purpose": "test", "boundary": "tool", "nothing": None})
    assert seen.of(MessageRecord)[0].metadata == {"purpose": "test", "boundary": "tool"}


def test_a_tool_is_announced_before_it_runs(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step, step.tool("dig", arguments={"depth": 9}) as run:
        (start,) = seen.tool_starts
        assert (start.event_id, start.name, start.timestep_id) == (start_id(run.id), "dig", step.id)
        assert start.data == {"arguments": {"depth": 9}}
        assert (start.duration_ns, start.error) == (None, None)
        run.result = "gold"
    (ended,) = seen.of(EventRecord)
    assert ended.data == {"arguments": {"depth": 9}, "result": "gold"}
    assert start.sequence < ended.sequence


def test_totals_count_timesteps_once_for_each_level(seen: Seen) -> None:
    with session("s") as own:
        for _ in range(2):
            with own.timestep(), own.timestep():
                pass
    (ended,) = seen.ended(SessionRecord)
    assert ended.totals.timesteps == 4
    assert [step.totals.timesteps for step in seen.ended(TimestepRecord)] == [0, 1, 0, 1]
    assert seen.named("invoke_workflow s")[0].attributes["callspan.totals.timesteps"] == 4


def test_a_step_may_end_with_a_custom_outcome_and_be_updated_later(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step:
        step.update(status="paging", metadata={"page": 1})
        assert seen.of(TimestepRecord)[-1].outcome == "paging"
        step.update(status="skipped", metadata={"page": None})
    step.update(metadata={"judged": True})
    ended, *_ = seen.ended(TimestepRecord)
    assert (ended.outcome, ended.metadata) == ("skipped", {"page": 1})
    late = seen.of(TimestepRecord)[-1]
    assert (late.outcome, late.metadata) == ("skipped", {"page": 1, "judged": True})
    assert late.seen_ns > ended.seen_ns
    assert seen.named("timestep")[0].attributes["callspan.outcome"] == "skipped"


def test_each_record_is_processed_once_before_callbacks(seen: Seen) -> None:
    processed: list[Record] = []

    def process(record: Record) -> Record:
        processed.append(record)
        return msgspec.structs.replace(record, data=None) if isinstance(record, EventRecord) else record

    seen.install(processors=processing(process))
    received: list[Any] = []
    take_away = add_callback("event", lambda record: received.append(record.data))
    try:
        with session("s") as own, own.timestep() as step:
            step.action("secret")
    finally:
        take_away()
    assert len(processed) == len(seen.records) == 5
    assert received == [None]


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
    from callspan.fail_open import failures, forget_failures

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
    assert failures() != {}
    forget_failures()


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


def test_its_documentation_names_all_its_fields() -> None:
    named = re.search(r"Fields: (.*?)Unknown names", callspan.metadata.__doc__ or "", re.DOTALL)
    assert named is not None
    assert METADATA_FIELDS | {"extra"} <= set(re.findall(r"\w+", named[1]))
