"""Random programs over the session API: whatever they do, every scope has one end, one span and a place in the tree."""

from __future__ import annotations

import contextvars
import logging
from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest
from tests.sessions.conftest import failed, logged_misuse
from tests.sessions.random_programs import Program
from tests.support.scale import scaled

from callspan import Timestep
from callspan.records import EventRecord, SessionRecord, TimestepRecord, decode, encode
from callspan.testing import Capture, capture

pytest.importorskip("gymnasium", reason="needs gymnasium")

# Programs drop coroutines that nobody awaits, and generators whose end raises.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SEEDS = range(scaled(1, 400))
REMOTE = {"episode-9"}
"""Sessions of carriers, whose records another process has."""


def played(seed: int, **settings: Any) -> tuple[Program, Capture]:
    program = Program(seed, forget=nullcontext, tick=bool)
    with capture(**settings) as seen, logged_misuse():
        contextvars.Context().run(program.run)
        # Outside of a session, where nothing is raised, a timestep never starts and records nothing.
        assert seen.everything or all(scope.state == "new" for scope in program.scopes)
    return program, seen


@pytest.mark.parametrize("seed", SEEDS)
def test_every_scope_ends_once(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    failed()
    program, seen = played(seed, trace_per=("session", "timestep")[seed % 2])
    assert failed() == {}
    # asyncio logs what a program raises in two tasks at once.
    errors = [entry for entry in caplog.records if entry.levelno >= logging.ERROR and entry.name != "asyncio"]
    assert [entry.getMessage() for entry in errors] == []
    assert all(decode(encode(record)) == record for record in seen.everything)
    ends = Counter(key_of(record) for record in seen.everything if is_end(record))
    ended = {scope.id for scope in program.scopes if scope.state == "ended" and is_recorded(scope)}
    assert {key: ends[key] for key in ended} == dict.fromkeys(ended, 1)
    steps = [scope for scope in program.scopes if isinstance(scope, Timestep) and scope.session is not None]
    assert [step for step in steps if step.session.state == "ended" and step.state == "running"] == []
    assert {session.end_ns for session in seen.sessions if session.session_id in REMOTE} <= {None}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_record_has_its_place(seed: int) -> None:
    _, seen = played(seed)
    spans = Counter(f"{span.get_span_context().span_id:016x}" for span in seen.spans)
    ended = {record.span_id for record in seen.everything if is_end(record)}
    assert {span_id: spans[span_id] for span_id in ended} == dict.fromkeys(ended, 1)
    numbers = Counter((event.session_id, event.sequence) for event in seen.events if event.sequence is not None)
    assert set(numbers.values()) <= {1}
    sessions = {record.session_id for record in seen.everything if isinstance(record, SessionRecord)}
    assert {step.session_id for step in seen.timesteps} <= sessions | REMOTE


def is_recorded(scope: Any) -> bool:
    return isinstance(scope, Timestep) or hasattr(scope, "output")


def is_end(record: Any) -> bool:
    if isinstance(record, EventRecord):
        return record.duration_ns is not None
    return isinstance(record, TimestepRecord) and record.end_ns is not None


def key_of(record: Any) -> str:
    return str(record.timestep_id if isinstance(record, TimestepRecord) else record.event_id)
