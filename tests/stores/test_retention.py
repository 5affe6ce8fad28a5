"""What `retain_days` and `retain_content_days` delete from SQLite and Postgres by themselves, and what stays."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

import callspan
from callspan import open_store
from callspan.records import EventRecord, Place, Record, RewardRecord, TimestepRecord, Timing
from callspan.stores import CallFilter, SqlStore, find_store
from callspan.stores.removal import Keep
from callspan.testing import ScriptedProvider

from .conftest import SECOND, START_NS, Delivery, Records, left

DAY = 86_400 * SECOND
NOW = START_NS + 100 * DAY
KEEP = Keep(NOW - 2 * DAY, NOW - 30 * DAY)
Deliver = Callable[[str], Delivery]


def retained(url: str, keep: Keep = KEEP) -> Any:
    """Delete what is old in steps; yields how much each deleted."""
    store = find_store(url)
    assert isinstance(store, SqlStore)
    return store.retain(keep)


def retain(url: str, keep: Keep = KEEP) -> int:
    return sum(retained(url, keep))


def at(days: float) -> int:
    return START_NS + int(days * DAY)


def call(records: Records, call_id: str, days: float, session_id: str | None = None, **fields: object) -> Record:
    timing = Timing(start_ns=at(days), duration_ns=None if "outcome" in fields else SECOND)
    return records.call(call_id=call_id, place=Place(session_id=session_id), timing=timing, **fields)


def session(records: Records, session_id: str, begun: float, ended: float | None = None, **fields: object) -> Record:
    end = {} if ended is None else {"end_ns": at(ended), "outcome": "success"}
    seen = at(begun if ended is None else ended)
    return records.session(session_id, version=seen, start_ns=at(begun), **end, **fields)


def test_what_is_over_goes_and_what_goes_on_stays(url: str, deliver: Deliver, records: Records, tmp_path: Path) -> None:
    """Also from the bytes of a file."""
    here = {"host": socket.gethostname(), "pid": os.getpid()}
    gone = {"host": socket.gethostname(), "pid": 2**22 - 1}
    running = {"part": "started", "outcome": "in_progress", "response": None, "usage": None}
    deliver(url).write(
        session(records, "old", 1, 2), call(records, "in-old", 1, "old"), call(records, "late-in-old", 3, "old"),
        TimestepRecord(timestep_id="t", session_id="old", seen_ns=at(1), index=0, start_ns=at(1)),
        EventRecord(event_id="e", session_id="old", event_type="x", time_ns=at(1)),
        RewardRecord(reward_id="of-event", event_id="e", value=1, source="human", time_ns=at(99)),
        session(records, "ended-lately", 1, 90), call(records, "in-lately", 1, "ended-lately"),
        session(records, "goes-on", 1, 2), call(records, "in-goes-on", 90, "goes-on"),
        session(records, "crashed", 1, **gone), call(records, "in-crashed", 1, "crashed"),
        session(records, "runs", 1, **here), call(records, "in-runs", 1, "runs"),
        session(records, "no-end", 1), call(records, "in-no-end", 99, "no-end"),
        call(records, "old-in-no-end", 1, "no-end"), call(records, "goes-on-in-no-end", 1, "no-end", seen_ns=at(99)),
        *(EventRecord(event_id=f"at-{day}", session_id="no-end", event_type="x", time_ns=at(day)) for day in (1, 99)),
        TimestepRecord(timestep_id="over", session_id="no-end", index=0, seen_ns=at(2), start_ns=at(1), end_ns=at(2)),
        TimestepRecord(timestep_id="open", session_id="no-end", index=1, seen_ns=at(1), start_ns=at(1)),
        call(records, "alone-old", 1, answer="the canary sings"), call(records, "alone-new", 90),
        call(records, "runs-alone", 1, **running),
        call(records, "orphan", 1, "never-recorded"), call(records, "orphan-new", 90, "never-recorded"),
        RewardRecord(reward_id="old-alone", value=1, source="human", time_ns=at(1)),
    )  # fmt: skip
    assert retain(url)
    sessions = {"ended-lately", "goes-on", "runs", "no-end", "never-recorded"}
    of_ended = {"in-lately", "in-goes-on"}
    assert left(url) == (sessions, of_ended | {"in-no-end", "goes-on-in-no-end", "alone-new", "orphan-new"})
    with closing(open_store(url)) as reader:
        assert list(reader.rewards()) == list(reader.events("old")) == list(reader.timesteps("old")) == []
        assert [one.event_id for one in reader.events("no-end")] == ["at-99"]  # type: ignore[union-attr]
        assert [one.timestep_id for one in reader.timesteps("no-end")] == ["open"]
    assert retain(url) == 0
    assert not any(b"canary" in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_it_is_done_in_batches_that_may_be_broken_off(url: str, deliver: Deliver, records: Records) -> None:
    store = deliver(url)
    for number in range(250):
        store.write(session(records, f"s{number}", 1, 2), call(records, f"c{number}", 1, f"s{number}"))
    steps = retained(url)
    while not next(steps):
        pass
    steps.close()
    assert 0 < len(left(url)[1]) < 250
    store.write(call(records, "meanwhile", 90))
    retain(url)
    assert left(url) == (set(), {"meanwhile"})
    reader = store.read()
    assert [bool(bytes(one.request.body)) for one in reader.calls()] == [True]
    assert list(reader._database.tuples("SELECT count(*) FROM contents")) == [(3,)]


def test_one_process_at_a_time_deletes_what_is_old(url: str, deliver: Deliver, records: Records) -> None:
    deliver(url).write(*(session(records, f"s{number}", 1, 2) for number in range(150)))
    mine = retained(url)
    next(mine)
    assert list(retained(url)) == []
    mine.close()
    assert len(left(url)[0]) in range(1, 151)
    assert sum(retained(url))
    assert left(url)[0] == set()


def test_only_content_goes_of_what_is_younger(url: str, deliver: Deliver, records: Records) -> None:
    store = deliver(url)
    store.write(
        session(records, "old", 50, 51, metadata={"seed": 7}),
        *(call(records, f"c{number}", 50, "old") for number in range(150)),
        EventRecord(event_id="e", session_id="old", event_type="x", time_ns=at(50), data={"text": "secret words"}),
        call(records, "new", 95),
    )
    keep = Keep(NOW - 2 * DAY, NOW - 90 * DAY, NOW - 30 * DAY)
    assert retain(url, keep) == 151
    assert retain(url, keep) == 0
    reader = store.read()
    assert reader.count_calls(CallFilter(text="hello there")) == 1
    old = reader.call("c1")
    assert (old.content_level, bytes(old.request.body), old.usage.input_tokens) == ("metadata", b"", 10)
    assert {one.why for one in old.redactions} == {"retention"}
    assert bytes(reader.call("new").request.body)
    (event,) = reader.events("old")
    assert event.data is None
    assert reader.session("old").session.metadata == {"seed": 7}


def test_the_thread_that_delivers_does_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"sqlite:///{tmp_path}/calls.db"
    store, records = Delivery(url), Records()
    store.write(records.call(call_id="old"))
    store.close()
    handle = callspan.instrument(stores=url, retain_days=30)
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        assert handle.force_flush(30_000)
        deadline = time.monotonic() + 30
        while "old" in left(url)[1] and time.monotonic() < deadline:
            time.sleep(0.05)
    handle.uninstrument()
    assert len(left(url)[1]) == 1
    assert "retention has begun to delete (retain_days=30" in caplog.text
