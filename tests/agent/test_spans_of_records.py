"""The spans of sessions, made of their records alone, equal byte for byte what OpenTelemetry's exporter sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.agent.programs import demo, everything, support_desk
from tests.scale import scaled
from tests.spans_of_records import session_differences

from callspan import open_store
from callspan.records import MessageRecord, Record
from callspan.settings_loader import load
from callspan.stores import CallFilter, Reader, SessionSummary
from callspan.testing import ScriptedProvider, capture


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as scripted:
        yield scripted


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
