"""The spans of sessions: made of records alone what OpenTelemetry's exporter sends; a row for each attribute."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import yaml
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from tests.support.programs import REMOTE, everything, robot, run_all, support_desk
from tests.support.spans_of_records import differences

import callspan
from callspan import open_store, redact_texts
from callspan.cli.demo import play_episodes, scripted_clients
from callspan.cli.demo.script import script_demo
from callspan.records import CallRecord, MessageRecord, Record, SpanLink, encode
from callspan.semconv import call, events, gen_ai, llm, openinference, scope_messages, session
from callspan.semconv.table import Row, Table
from callspan.stores import CallFilter, Reader, SessionSummary
from callspan.testing import ScriptedProvider, capture


def demo(provider: ScriptedProvider) -> None:
    """What `callspan demo` plays, without a voice."""
    script_demo(provider)
    play_episodes(scripted_clients(provider)._replace(speak=False))


SETTINGS: list[dict[str, Any]] = [
    {}, {"content": "metadata"}, {"content": "off"}, {"content_on_spans": False}, {"trace_per": "timestep"},
    {"vocabularies": "gen_ai"}, {"max_attribute_bytes": 200},
]  # fmt: skip


@pytest.mark.parametrize("program", [support_desk, everything])
def test_span_is_a_function_of_its_record(provider: ScriptedProvider, program: Any) -> None:
    for settings in SETTINGS:
        assert differing(provider, program, settings) == [], settings


AGENTS = Path(__file__).with_name("agents.yaml")
"""Spans and records of agents; null are times and places in code, #1 and so on ids, which differ from run to run.

Where they are to change: `AGENTS.write_text(as_text(found))`, and read the difference.
"""
VARYING = re.compile(r"_n?s$|^(frames|exception\.stacktrace)$")
OF_THE_PROCESS = ("schema_version", "service", "host", "pid", "process")
IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}|[0-9a-f]{16}|chatcmpl-\w+")


def stable(value: Any, ids: dict[str, str]) -> Any:
    """Each id by its number among those that were met so far."""
    if isinstance(value, Mapping):
        known = {name: one for name, one in value.items() if name not in OF_THE_PROCESS}
        return {name: None if VARYING.search(name) else stable(one, ids) for name, one in known.items()}
    if isinstance(value, list | tuple):
        return [stable(one, ids) for one in value]
    if isinstance(value, str):
        return IDS.sub(lambda found: ids.setdefault(found[0], f"#{len(ids) + 1}"), value)
    return value


def shown(spans: list[Any], ids: dict[str, str]) -> Iterator[dict[str, Any]]:
    names = {(span.context.trace_id, span.context.span_id): span.name for span in spans}
    for span in (one for one in spans if not one.name.startswith("chat")):
        yield {
            "name": span.name,
            "parent": names[span.parent.trace_id, span.parent.span_id] if span.parent else None,
            "kind": span.kind.name,
            "status": [span.status.status_code.name, span.status.description],
            "attributes": stable(span.attributes, ids),
            "events": [[event.name, stable(event.attributes, ids)] for event in span.events],
        }


def as_text(found: list[Any]) -> str:
    return yaml.safe_dump_all(
        found, width=110, sort_keys=False, default_flow_style=True, allow_unicode=True, explicit_start=True
    )


def test_agent_spans_and_records(provider: ScriptedProvider) -> None:
    with capture(vocabularies=("gen_ai", "openinference")) as seen:
        support_desk(provider)
        run_all()
        robot(provider)
    records = [json.loads(encode(record)) for record in seen.everything if not isinstance(record, CallRecord)]
    ids: dict[str, str] = {}
    assert [*shown(seen.spans, ids), *stable(records, ids)] == list(yaml.safe_load_all(AGENTS.read_text()))


@pytest.mark.parametrize("program", [support_desk, demo])
def test_session_spans_are_rebuilt_from_stored_records(
    provider: ScriptedProvider, tmp_path: Path, program: Any
) -> None:
    """But for costs computed at delivery, and rewards that came after its end: the span could not have them."""
    url = f"sqlite:///{tmp_path}/calls.db"
    with capture(stores=url, spool_dir=tmp_path / "spool") as seen:
        program(provider)
    with closing(open_store(url, deliver=True)) as reader:
        records = [record for summary in reader.sessions() for record in stored(reader, summary)]
    found = [*differences(seen.spans, records)]
    assert not [one for one in found if "callspan.reward.late" not in one]
    assert len(found) == (1 if program is support_desk else 0)


def stored(reader: Reader, summary: SessionSummary) -> Iterator[Record]:
    """All records of a session, as a store has them, without costs: the trace of an event is its timestep's."""
    session, steps = summary.session, {step.timestep_id: step for step in reader.timesteps(summary.session.session_id)}
    yield session
    yield from steps.values()
    for made in reader.calls(CallFilter(session_id=session.session_id)):
        yield msgspec.structs.replace(made, cost=None)
    for event in reader.events(session.session_id):
        is_known = isinstance(event, MessageRecord) or event.span_id is None or event.trace_id is not None
        yield event if is_known else msgspec.structs.replace(event, trace_id=steps[str(event.timestep_id)].trace_id)


def differing(provider: ScriptedProvider, program: Any, settings: Any) -> list[str]:
    with capture(**settings) as seen:
        program(provider)
    assert len(seen.spans) > 8
    return [*differences(seen.spans, seen.everything, **settings)]


def link_to(span: ReadableSpan) -> SpanLink:
    return SpanLink(trace_id=f"{span.context.trace_id:032x}", span_id=f"{span.context.span_id:016x}")


def test_span_links_are_kept() -> None:
    """A timestep in a trace of its own is linked to the one before; a reward to the code that gives it."""
    with capture(trace_per="timestep") as captured, callspan.session("s") as session:
        with session.timestep("first"):
            pass
        with session.timestep("second"), session.tool("look"):
            pass
    of_session, first, second, _ = sorted(captured.spans, key=lambda span: span.start_time or 0)
    links = {record.name: record.trace and record.trace.links for record in captured.timesteps}
    assert links == {"first": [link_to(of_session)], "second": [link_to(first)]}
    for tool in captured.events:
        assert tool.trace is None
        assert tool.trace_id == link_to(second).trace_id
    assert len({span.context.trace_id for span in captured.spans}) == 3
    assert [span.parent for span in (of_session, first, second)] == [None] * 3
    assert {span.attributes["session.id"] for span in captured.spans} == {session.id}


@pytest.mark.parametrize("sampled", [True, False])
def test_records_have_span_ids_and_sampling(sampled: bool) -> None:
    above = SpanContext(REMOTE.trace_id, REMOTE.span_id, is_remote=True, trace_flags=TraceFlags(int(sampled)))
    with capture() as captured, use_span(NonRecordingSpan(above)):
        run_all()
    assert bool(captured.spans) is sampled
    kept = [record for record in captured.everything if not isinstance(record, MessageRecord) and record.span_id]
    assert {record.sampled for record in kept} == {sampled}
    kinds = {type(record).__name__ for record in kept}
    assert kinds >= {"CallRecord", "EventRecord", "SessionRecord", "TimestepRecord"}


def test_failing_redactor_removes_frames_and_masking_keeps_ids() -> None:
    with capture(redact=lambda _: 1 / 0) as captured, pytest.raises(KeyError), callspan.tool("run"):
        raise KeyError
    assert {event.error and event.error.frames for event in captured.events} == {None}
    with capture(redact=redact_texts(lambda text: "[gone]"), trace_per="timestep") as captured:
        run_all()
    links = [record.trace.links for record in captured.timesteps if record.trace]
    assert links
    assert "[gone]" not in str(links)


VOCABULARIES = (scope_messages, gen_ai, llm, openinference)


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


def test_agent_attributes_have_typed_rows(provider: ScriptedProvider) -> None:
    types: dict[str, set[str]] = {}
    for row in rows(call, events, session, *VOCABULARIES):
        types.setdefault(row.name, set()).add(row.type.partition(" ")[0])
    stars = {name.removesuffix("*"): found for name, found in types.items() if name.endswith("*")}
    with capture(vocabularies=("llm", "gen_ai", "openinference"), attempt_spans=True) as captured:
        support_desk(provider)
        demo(provider)
        run_all()
    bags = [one.attributes or {} for span in captured.spans for one in (span, *span.events)]
    seen = {name: kind(value) for bag in bags for name, value in bag.items()}
    assert len(seen) > 150
    assert all("callspan.outcome" in (span.attributes or {}) for span in captured.spans if span.name.startswith("chat"))
    for name, found in seen.items():
        known = types.get(name) or next((each for star, each in stars.items() if name.startswith(star)), set())
        assert found in known or "any" in known, (name, found, known)


@pytest.mark.parametrize("settings", [{"content": "off"}, {"content": "metadata"}, {}])
def test_frames_contain_no_source_lines(settings: Any, tmp_path: Path) -> None:
    """A model may have written it."""
    made = tmp_path / "made.py"
    made.write_text("patient = 'Jane Roe'; raise KeyError(len(patient))  # " + "x" * 100_000)
    with capture(**settings) as captured, pytest.raises(KeyError), callspan.tool("run"):
        exec(compile(made.read_text(), str(made), "exec"), {})
    event = captured.events[-1]
    assert str(made) in (event.error.frames or "")
    shown = [str((one.attributes or {})["exception.stacktrace"]) for one in captured.spans[0].events]
    assert "Jane" not in str(captured.events) + str(shown)
    assert shown == [event.error.frames]
