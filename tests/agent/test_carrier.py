"""Carriers: a session continues in another process; records after a process is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

from callspan.agent.api import session
from callspan.record.codec import decode
from callspan.record.events import EventRecord, Record, SessionRecord, TimestepRecord

if TYPE_CHECKING:
    from tests.agent.conftest import Seen

PRELUDE = """
import json, os, signal, sys, time
from opentelemetry.sdk.trace import TracerProvider
from callspan.agent.api import session
from callspan.agent.runtime import Runtime, install
from callspan.process.processors import Processors
from callspan.record.codec import encode
from callspan.spans.session import SessionSpans
out = open(sys.argv[1], "ab", buffering=0)
install(Runtime(write=lambda processed: out.write(encode(processed.record) + b"\\n"),
                processors=lambda _level: Processors(()), withheld=Processors(()),
                spans=SessionSpans(TracerProvider().get_tracer("child"))))
"""

WORKER = """
with session(carrier=json.loads(sys.argv[2])) as own:
    for _ in range(20):
        with own.timestep() as step:
            step.action(os.getpid())
    own.update(metadata={"worker": True})
"""

VICTIM = """
with session("doomed", session_id="doomed") as own:
    with own.timestep():
        pass
    with own.timestep() as step:
        step.action("last words")
        os.kill(os.getpid(), signal.SIGKILL)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PRELUDE + textwrap.dedent(program), *arguments])


def read(path: Path) -> list[Record]:
    return [decode(line) for line in path.read_bytes().splitlines()]


def test_two_processes_add_steps_to_one_session(seen: Seen, tmp_path: Path) -> None:
    with session("shared/ä", user_id="u1", metadata={"secret": "x"}) as own:
        with own.timestep():
            pass
        carrier = own.carrier()
        assert "secret" not in json.dumps(carrier)
        assert all(value.isascii() for value in carrier.values())
        paths = [tmp_path / "one", tmp_path / "two"]
        workers = [start(WORKER, str(path), json.dumps(carrier)) for path in paths]
        assert [worker.wait(60) for worker in workers] == [0, 0]
    root = seen.named("invoke_workflow shared/ä")[0]
    trace_id = f"{root.context.trace_id:032x}"
    records = [record for path in paths for record in read(path)]
    steps = [record for record in records if isinstance(record, TimestepRecord) and record.end_ns is not None]
    assert len({step.timestep_id for step in steps}) == 40
    assert {step.session_id for step in steps} == {own.id}
    assert sorted(step.index for step in steps) == sorted([*range(1, 21), *range(1, 21)])
    assert {step.trace_id for step in steps} == {trace_id}
    assert len({record.data for record in records if isinstance(record, EventRecord)}) == 2
    sessions = [record for record in records if isinstance(record, SessionRecord)]
    for record in sessions:
        assert record.start_ns is record.end_ns is record.outcome is record.totals is None
        assert record.name == "shared/ä"
    assert {"worker": True} in [record.metadata for record in sessions]
    assert seen.ended(SessionRecord)[0].outcome == "success"


def test_a_carrier_may_have_travelled_as_http_headers(seen: Seen) -> None:
    with session("s") as own:
        headers = {key.title(): value for key, value in own.carrier().items()}
        headers["Accept"] = "*/*"
    with session(carrier=headers) as again:
        assert again.id == own.id
        assert again.name == "s"


@pytest.mark.parametrize("sampled", [True, False])
def test_a_carrier_contains_the_sampling_decision(seen: Seen, sampled: bool) -> None:
    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON if sampled else ALWAYS_OFF))
    seen.tracer = provider.get_tracer("tests")
    seen.install()
    with session("s") as own:
        carrier = own.carrier()
    seen.tracer = seen.provider.get_tracer("tests")
    seen.install()
    with session(carrier=carrier) as again, again.timestep():
        pass
    assert len(seen.named("timestep")) == int(sampled)
    assert seen.ended(TimestepRecord)[0].session_id == own.id


def test_a_damaged_carrier_makes_a_new_session(seen: Seen) -> None:
    for carrier in ({}, {"traceparent": "nonsense"}, {"traceparent": "00-zz-zz-01", "callspan-session": "c9"}):
        with session("s", carrier=carrier) as own, own.timestep():
            pass
    assert len(seen.named("timestep")) == 3
    assert len({record.session_id for record in seen.ended(TimestepRecord)}) == 3


def test_a_killed_process_leaves_everything_so_far(tmp_path: Path) -> None:
    path = tmp_path / "records"
    assert start(VICTIM, str(path)).wait(60) == -signal.SIGKILL
    records = read(path)
    (own,) = [record for record in records if isinstance(record, SessionRecord)]
    assert (own.session_id, own.end_ns, own.outcome) == ("doomed", None, None)
    assert own.pid != os.getpid()
    steps = [record for record in records if isinstance(record, TimestepRecord)]
    assert [(step.index, step.end_ns is None) for step in steps] == [(0, True), (0, False), (1, True)]
    (event,) = [record for record in records if isinstance(record, EventRecord)]
    assert event.data == "last words"
