"""What stores delete by themselves: what is old or too much, whole sessions, bit by bit, one process at a time."""

from __future__ import annotations

import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import cast

import msgspec
import pytest
from tests.machine import slowness

from callspan import Settings
from callspan.cli import doctor
from callspan.delivery import retaining
from callspan.delivery.retaining import Retained, Retention, retained
from callspan.record import call, events
from callspan.record.content_level import at_level
from callspan.record.events import RECORD_TYPES, record_key
from callspan.records import EventRecord, MessageRecord, Record, RewardRecord, TimestepRecord
from callspan.stores import CallFilter
from callspan.stores.base import Keep
from callspan.stores.columns import TABLES
from callspan.stores.jsonl.store import files_of
from callspan.stores.protocol import Retainable
from callspan.stores.sql_reader import SqlReader
from callspan.stores.sql_rewards import record_of
from callspan.stores.urls import find_store

from .conftest import SECOND, START_NS, Delivery, Records, raw

ROOT = Path(__file__).parents[2]
DAY = 86_400 * SECOND
CANARY = "ein Kanarienvogel"
LONG = "the same long answer that a later request repeats, and then some more words of it"


SERVERS = ("postgres", "clickhouse")


@pytest.fixture(params=["sqlite", *(pytest.param(name, marks=getattr(pytest.mark, name)) for name in SERVERS)])
def store(request: pytest.FixtureRequest, tmp_path: Path, deliver: Callable[[str], Delivery]) -> Delivery:
    """A store with tables."""
    if request.param == "sqlite":
        return deliver(f"sqlite:///{tmp_path}/calls.db")
    return deliver(str(request.getfixturevalue(f"{request.param}_url")))


def passing(
    url: str,
    before_ns: int | None,
    counts: Counter[str],
    *,
    most_bytes: int | None = None,
    until_ns: int = 0,
    takes: str = "records",
) -> Iterator[None]:
    """The steps of one pass."""
    found = find_store(url)
    assert isinstance(found, Retainable)
    until = until_ns or START_NS + 1000 * DAY
    if takes == "records":
        return found.retention(Keep(until, until - 2 * DAY, before_ns, most_bytes), counts)
    keep = Keep(until, until - 2 * DAY, content_before_ns=before_ns, reduced=retaining._reduced)
    return found.retention(keep, counts)


def retain(url: str, before_ns: int | None = None, most_bytes: int | None = None, until_ns: int = 0) -> Counter[str]:
    """One pass."""
    counts = Counter[str]()
    for _ in passing(url, before_ns, counts, most_bytes=most_bytes, until_ns=until_ns):
        pass
    return counts


def retain_content(url: str, before_ns: int) -> Counter[str]:
    """One pass that takes contents only."""
    counts = Counter[str]()
    for _ in passing(url, before_ns, counts, takes="contents"):
        pass
    return counts


def session(
    records: Records, session_id: str, day: float, ended: float | None = None, **fields: object
) -> list[Record]:
    """A session with one record of each kind in it."""
    start = START_NS + int(day * DAY)
    end = None if ended is None else START_NS + int(ended * DAY)
    return [
        records.session(session_id, start_ns=start, end_ns=end, **fields),
        records.call(session_id=session_id, at_s=day * 86_400),
        TimestepRecord(timestep_id=f"t-{session_id}", session_id=session_id, seen_ns=1, index=0, start_ns=start),
        EventRecord(event_id=f"e-{session_id}", session_id=session_id, event_type="tool", time_ns=start),
        MessageRecord(message_id=f"m-{session_id}", session_id=session_id, message_type="observation", time_ns=start),
        RewardRecord(reward_id=f"r-{session_id}", session_id=session_id, time_ns=start),
    ]


def sessions_in(store: Delivery) -> set[str]:
    return {one.session.session_id for one in store.read().sessions()}


def calls_in(store: Delivery) -> set[str]:
    return {one.call_id for one in store.read().calls()}


class TestWhatGoes:
    def test_sessions_go_whole_by_their_end_and_calls_outside_sessions_by_their_start(
        self, store: Delivery, records: Records
    ) -> None:
        loose = [records.call(at_s=0), records.call(at_s=20 * 86_400)]
        store.write(
            *session(records, "old", 0, 1),
            *session(records, "ended-late", 0, 20),
            *session(records, "new", 20, 20),
            *loose,
            RewardRecord(reward_id="of-old", call_id=loose[0].call_id, time_ns=START_NS + 30 * DAY),
            EventRecord(event_id="loose", event_type="tool", time_ns=START_NS),
        )
        counts = retain(store.url, START_NS + 10 * DAY)
        assert sessions_in(store) == {"ended-late", "new"}
        assert loose[1].call_id in calls_in(store)
        assert len(calls_in(store)) == 3
        assert (counts["sessions"], counts["calls"], counts["timesteps"], counts["messages"]) == (1, 2, 1, 1)
        assert (counts["events"], counts["rewards"]) == (2, 2)
        assert list(store.read().events("old")) == list(store.read().timesteps("old")) == []
        assert retain(store.url, START_NS + 10 * DAY).total() == counts["swept"] * 0

    @pytest.mark.parametrize(
        ("reason", "fields"),
        [
            ("a session without an end, of a running process", {"host": socket.gethostname(), "pid": os.getpid()}),
            ("one in which something happened just now", {"seen": 99.9}),
            ("one that has ended and goes on", {"ended": 1, "call": 50}),
            ("one that has ended, with a stream that runs", {"ended": 1, "runs": 99.9}),
        ],
    )
    def test_nothing_in_progress_goes(
        self, store: Delivery, records: Records, reason: str, fields: dict[str, float]
    ) -> None:
        fields = dict(fields)
        seen = fields.pop("seen", None)
        call_day, runs = fields.pop("call", None), fields.pop("runs", None)
        made = session(records, "s", 0, **fields)  # type: ignore[arg-type]
        store.write(*made)
        if seen is not None:
            store.write(records.session("s", version=START_NS + int(seen * DAY)))
        if call_day is not None:
            store.write(records.call(session_id="s", at_s=call_day * 86_400))
        if runs is not None:
            store.write(records.call(session_id="s", at_s=runs * 86_400, part="started", outcome="started"))
        retain(store.url, START_NS + 10 * DAY, until_ns=START_NS + 100 * DAY)
        assert sessions_in(store) == {"s"}, reason
        assert len(list(store.read().events("s"))) == 3

    def test_what_a_dead_process_left_without_an_end_goes_once_it_is_old(
        self, store: Delivery, records: Records
    ) -> None:
        dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
        gone = {"host": socket.gethostname(), "pid": int(dead.stdout)}
        running = {"host": socket.gethostname(), "pid": os.getpid()}
        calls = [records.call(part="started", outcome="started", **one) for one in (gone, running)]
        store.write(*session(records, "s", 0, **gone), *session(records, "elsewhere", 0, host="other", pid=1), *calls)
        retain(store.url, START_NS + 10 * DAY)
        assert sessions_in(store) == set()
        assert calls_in(store) == {calls[1].call_id}

    def test_nothing_goes_that_went_on_after_what_waits_for_another_store(
        self, store: Delivery, records: Records, tmp_path: Path
    ) -> None:
        """`until_ns` of the pass; the shipper gives since when something waits."""
        store.write(*session(records, "a", 0, 1), *session(records, "b", 2, 3))
        found = find_store(store.url)
        retention = Retention(found, Settings(retain_days=1.0), tmp_path)
        for _ in range(50):
            retention.step(lambda: START_NS + 2 * DAY)
            pass_time(tmp_path)
        retention.close()
        assert sessions_in(store) == {"b"}

    def test_a_call_that_was_read_after_that_stays(self, store: Delivery, records: Records) -> None:
        """The results of a batch, or of a background response, which may wait for another store."""
        late = {"seen_ns": START_NS + 60 * DAY, "part": "answered"}
        store.write(*session(records, "s", 0, 1), *session(records, "gone", 0, 1))
        store.write(*(records.call(session_id=name, call_id=f"c-{name}", **late) for name in ("s", None)))
        retain(store.url, START_NS + 10 * DAY, until_ns=START_NS + 50 * DAY)
        assert sessions_in(store) == {"s"}
        assert {"c-s", "c-None"} <= calls_in(store)
        retain(store.url, START_NS + 10 * DAY)
        assert calls_in(store) == set()

    def test_records_delivered_after_their_session_went_go_with_the_next_pass(
        self, store: Delivery, records: Records
    ) -> None:
        store.write(*session(records, "s", 0, 1))
        retain(store.url, START_NS + 10 * DAY)
        store.write(*session(records, "s", 0, 1)[1:], *session(records, "new", 0, 50))
        store.write(records.call(session_id="s", at_s=50 * 86_400))
        retain(store.url, START_NS + 10 * DAY)
        (left,) = store.read().calls(CallFilter(session_id="s"))
        assert left.timing.start_ns == START_NS + 50 * DAY
        assert list(store.read().events("s")) == []
        assert sessions_in(store) >= {"new"}

    def test_contents_go_with_the_last_call_that_refers_to_them(self, store: Delivery, records: Records) -> None:
        first = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a canary"}]
        longer = [*first, {"role": "assistant", "content": LONG}, {"role": "user", "content": "And?"}]
        later = records.call(longer, session_id="new", at_s=50 * 86_400)
        store.write(
            records.call(first, LONG, session_id="old"), records.session("old", start_ns=START_NS, end_ns=START_NS)
        )
        store.write(later, records.session("new", start_ns=START_NS + 50 * DAY, end_ns=START_NS + 50 * DAY))
        assert retain(store.url, START_NS + 10 * DAY)["contents"] == 1  # the request's own skeleton is shared
        (left,) = store.read().calls()
        assert bytes(left.request.body) == bytes(later.request.body)
        assert retain(store.url, START_NS + 60 * DAY)["contents"] > 0
        assert list(store.read().calls(CallFilter(text="canary"))) == []
        if store.url.startswith("sqlite"):
            path = Path(store.url.removeprefix("sqlite:///"))
            assert all(b"a canary" not in file.read_bytes() for file in path.parent.glob("calls.db*") if file.is_file())

    def test_what_is_written_again_during_a_pass_stays(self, store: Delivery, records: Records) -> None:
        """The contents of calls that go, in calls that come after each step."""
        asked = [[{"role": "user", "content": f"question {number}"}] for number in range(200)]
        store.write(records.session("old", start_ns=START_NS, end_ns=START_NS))
        store.write(*(records.call(one, f"answer {one}", session_id="old", at_s=0) for one in asked))
        written: list[call.CallRecord] = []
        for _, one in zip(passing(store.url, START_NS + 10 * DAY, Counter()), asked, strict=False):
            written.append(records.call(one, f"answer {one}", at_s=50 * 86_400))
            store.write(written[-1])
        there = {one.call_id: one for one in store.read().calls()}
        for one in written:
            assert one.request is not None
            assert one.response is not None
            assert bytes(there[one.call_id].request.body) == bytes(one.request.body)
            assert bytes(there[one.call_id].response.body) == bytes(one.response.body)
        retain(store.url, START_NS + 10 * DAY)
        assert calls_in(store) == {one.call_id for one in written}
        assert len(written) < len(asked)

    def test_of_long_sessions_no_more_goes_than_has_to(self, store: Delivery, records: Records) -> None:
        for number in range(20):
            at = START_NS + number * DAY
            in_it = {"session_id": f"s{number}", "at_s": number * 86_400}
            made = [records.call(answer=os.urandom(2_000).hex(), **in_it) for _ in range(50)]  # type: ignore[arg-type]
            store.write(records.session(f"s{number}", start_ns=at, end_ns=at), *made)
        counts = retain(store.url, most_bytes=int(used_bytes(store) * 0.9))
        assert 1 <= counts["sessions"] <= 5

    @pytest.mark.parametrize("takes", ["records", "contents"])
    def test_two_hosts_at_once_take_what_one_would(self, store: Delivery, records: Records, takes: str) -> None:
        old = [one for number in range(20) for one in session(records, f"old-{number}", 0, 1)]
        new = [records.call([{"role": "user", "content": f"{one}"}], f"{one}", at_s=50 * 86_400) for one in range(20)]
        store.write(*old, *new, records.call([{"role": "user", "content": CANARY}], CANARY, session_id="old-1"))
        counts, pace = Counter[str](), random.Random(1)
        turns = [passing(store.url, START_NS + 10 * DAY, counts, takes=takes) for _ in range(2)]
        while turns:
            one = pace.choice(turns)
            for _ in range(pace.randrange(1, 30)):
                if next(one, one) is one:
                    turns.remove(one)
                    break
        assert canaries(store) == 0
        there = {one.call_id: one for one in store.read().calls()}
        assert len(there) == (20 if takes == "records" else 41)
        for one in new:
            assert bytes(there[one.call_id].response.body) == bytes(one.response.body)  # type: ignore[union-attr]
        assert sum(bool(one.response and one.response.body) for one in there.values()) == 20

    @pytest.mark.postgres
    @pytest.mark.parametrize("first", range(8))
    def test_of_two_sweeps_the_later_one_goes_on(
        self, postgres_url: str, deliver: Callable[[str], Delivery], records: Records, first: int
    ) -> None:
        """Wherever the first one is: it may not delete by marks that the second one has taken away."""
        from callspan.stores.postgres.connection import connect
        from callspan.stores.postgres.retention import _Engine

        store = deliver(postgres_url)
        store.write(*(records.call([{"role": "user", "content": f"{number}"}], f"{number}") for number in range(20)))
        execute(store, "INSERT INTO content (hash, size, text) VALUES ('garbage', 1, 'garbage')")
        for second in range(1, 8):
            with closing(connect(postgres_url)) as one, closing(connect(postgres_url)) as other:
                sweeps = [_Engine(connection, "").sweep(Counter()) for connection in (one, other)]
                for sweep, number in zip(sweeps, (first, second), strict=True):
                    for _ in zip(range(number), sweep, strict=False):
                        pass
                for sweep in sweeps:
                    for _ in sweep:
                        pass
            assert all(call.response is not None and call.response.body for call in store.read().calls()), second
        with pytest.importorskip("psycopg").connect(postgres_url) as connection:
            assert connection.execute("SELECT count(*) FROM content WHERE text = 'garbage'").fetchone() == (0,)
            assert connection.execute("SELECT count(*) FROM in_use").fetchone() == (0,)

    def test_rejected_records_go_when_they_are_old(self, store: Delivery, records: Records) -> None:
        (entry,) = store.entries([b"a canary, no record"])
        store.sink.set_aside(entry, "no record")
        retain(store.url, START_NS + 10 * DAY)
        assert rejected(store) == 1
        retain(store.url, time.time_ns() + DAY)
        assert rejected(store) == 0

    def test_beyond_the_bytes_the_oldest_ended_go_first(self, store: Delivery, records: Records) -> None:
        for number in range(40):
            big = f"{number} " + os.urandom(10_000).hex()
            at = (39 - number) * 86_400
            end = START_NS + at * SECOND
            store.write(records.call(answer=big, session_id=f"s{39 - number:02}", at_s=at))
            store.write(records.session(f"s{39 - number:02}", start_ns=end, end_ns=end))
        # An empty SQLite file has 250,000 bytes; the servers compress what is written in hexadecimal.
        most = 700_000 if store.url.startswith("sqlite") else 400_000
        counts = retain(store.url, most_bytes=most)
        left = sorted(sessions_in(store))
        assert left == [f"s{number:02}" for number in range(40 - len(left), 40)]
        assert 10 <= len(left) <= 30, counts
        assert retain(store.url, most_bytes=most).total() == 0


class TestContents:
    """`retain_content_days`: texts go, numbers stay."""

    def talkative(self, records: Records, session_id: str | None = "old") -> list[Record]:
        """A record of each kind with the canary wherever it may have content; outside of sessions those that can be."""
        error = call.ErrorInfo(kind="api", type="APIError", message=f"{CANARY} message", body={"a": f"{CANARY} body"})
        asked = [{"role": "system", "content": f"{CANARY} system"}, {"role": "user", "content": f"{CANARY} {LONG}"}]
        name, who = f"of-{session_id}", {"user_id": "u1"}
        given = records.call(asked, f"{CANARY} answer", call_id=name, session_id=session_id, error=error, metadata=who)
        tools = [{"type": "function", "function": {"name": "f", "description": f"{CANARY} tool"}}]
        body = json.loads(bytes(given.request.body)) | {"tools": tools}
        of_session: list[Record] = [
            records.session("old", start_ns=START_NS, end_ns=START_NS, outcome="error", error=error, user_id="u1"),
            TimestepRecord(
                timestep_id="t", session_id="old", seen_ns=1, index=0, start_ns=START_NS, error=error, name="step"
            ),
        ]
        return [
            *(of_session if session_id else []),
            msgspec.structs.replace(given, request=msgspec.structs.replace(given.request, body=raw(body))),
            EventRecord(
                event_id=f"e-{name}", session_id=session_id, event_type="tool", time_ns=START_NS, error=error,
                data={"arguments": CANARY},
            ),
            MessageRecord(
                message_id=f"m-{name}", session_id=session_id, message_type="observation", time_ns=START_NS,
                content=f"{CANARY} in the grid",
            ),
            RewardRecord(
                reward_id=f"r-{name}", session_id=session_id, call_id=name, time_ns=START_NS, value=0.5,
                annotation=f"{CANARY} comment",
            ),
        ]  # fmt: skip

    @pytest.mark.parametrize("session_id", ["old", None])
    def test_each_record_keeps_what_content_metadata_keeps(
        self, store: Delivery, records: Records, session_id: str | None
    ) -> None:
        made = self.talkative(records, session_id)
        new = [*session(records, "new", 20, 20), records.call([{"role": "user", "content": LONG}], at_s=20 * 86_400)]
        store.write(*made, *new, *([records.session("old", 0, name="first")] if session_id else []))
        before, stamps = stored(store), versions(store)
        assert str(before).count(CANARY) >= len(made)
        counts = retain_content(store.url, START_NS + 10 * DAY)
        assert counts["reduced"] == len(made)
        assert counts.total() - counts["reduced"] == counts["contents"] + counts["ctxs"]
        after = stored(store)
        assert versions(store) == stamps
        for key, record in before.items():
            is_old = key in {record_key(one) for one in made}
            assert after[key] == (at_level(record, "metadata", why="retention") if is_old else record), key
        found = after["call", f"of-{session_id}"]
        assert isinstance(found, call.CallRecord)
        assert (found.content_level, found.usage, found.user) == ("metadata", made[-4].usage, "u1")  # type: ignore[union-attr]
        assert list(store.read().calls(CallFilter(text=CANARY))) == []
        assert canaries(store) == 0
        assert retain_content(store.url, START_NS + 10 * DAY)["reduced"] == 0

    @pytest.mark.parametrize("newer", [False, True])
    def test_what_is_delivered_again_loses_its_content_in_the_next_pass(
        self, store: Delivery, records: Records, newer: bool
    ) -> None:
        made = self.talkative(records)
        store.write(*made)
        retain_content(store.url, START_NS + 10 * DAY)
        reduced = stored(store)
        later = [msgspec.structs.replace(one, **newer_version(one)) for one in made] if newer else made
        store.write(*later)
        back = {kind for (kind, _), one in stored(store).items() if CANARY in str(one)}
        # In ClickHouse the last row of a version counts. Elsewhere a call keeps the level that it was reduced to.
        assert bool(back) == (newer or store.url.startswith("clickhouse"))
        assert ("call" in back) == (newer and store.url.startswith("clickhouse"))
        retain_content(store.url, START_NS + 10 * DAY)
        assert canaries(store) == 0
        again = stored(store)
        assert newer or again == reduced
        assert {key: one.redactions for key, one in again.items()}.keys() == reduced.keys()

    @pytest.mark.clickhouse
    def test_every_row_of_a_record_loses_its_content_also_where_a_step_ends_between_them(
        self, clickhouse_url: str, deliver: Callable[[str], Delivery], records: Records, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from callspan.stores.clickhouse import retention

        monkeypatch.setattr(retention, "_MOST", 2)
        store = deliver(clickhouse_url)
        made = [*self.talkative(records), *self.talkative(records, None)]
        for _ in range(3):
            store.write(*made)
        store.write(*[msgspec.structs.replace(one, **newer_version(one)) for one in made])
        rows = [len(every_row(store, table.name)) for table in TABLES.values()]
        assert sum(rows) > len(made), "ClickHouse has replaced none yet"
        before = stored(store)
        retain_content(store.url, START_NS + 10 * DAY)
        assert canaries(store) == 0
        assert stored(store) == {key: at_level(one, "metadata", why="retention") for key, one in before.items()}

    def test_what_goes_on_keeps_its_content_and_rejected_records_go(self, store: Delivery, records: Records) -> None:
        store.write(*session(records, "s", 0, 1), records.call(session_id="s", at_s=50 * 86_400))
        (entry,) = store.entries([f"{CANARY}, no record".encode()])
        store.sink.set_aside(entry, "no record")
        before = stored(store)
        retain_content(store.url, START_NS + 10 * DAY)
        assert stored(store) == before
        retain_content(store.url, time.time_ns() + DAY)
        assert rejected(store) == canaries(store) == 0

    def test_a_damaged_record_loses_its_content_too(self, store: Delivery, records: Records) -> None:
        store.write(*self.talkative(records))
        execute(store, "UPDATE events SET metadata = '7'")
        damage = "data = x'00', text = NULL" if store.url.startswith("sqlite") else "data = '7', text = NULL"
        execute(store, f"UPDATE content SET {damage} WHERE text LIKE '%answer%'")
        retain_content(store.url, START_NS + 10 * DAY)
        assert canaries(store) == 0
        (left,) = store.read().calls()
        assert (left.content_level, left.usage is None) == ("metadata", False)

    @pytest.mark.clickhouse
    def test_a_newer_version_that_comes_between_a_read_and_its_write_counts(
        self, clickhouse_url: str, deliver: Callable[[str], Delivery], records: Records
    ) -> None:
        """Elsewhere a transaction locks what it reads."""
        store = deliver(clickhouse_url)
        made = self.talkative(records)
        newer = [msgspec.structs.replace(one, **newer_version(one)) for one in made]
        store.write(*made)
        coming = {record_key(one): one for one in newer}

        def reduced(record: Record) -> Record:
            if one := coming.pop(record_key(record), None):
                store.write(one)
            return retaining._reduced(record)

        until = START_NS + 1000 * DAY
        keep = Keep(until, until, content_before_ns=START_NS + 10 * DAY, reduced=reduced)
        for _ in cast("Retainable", find_store(store.url)).retention(keep, Counter()):
            pass
        assert not coming
        there = stored(store)
        for one in newer:
            found = there[record_key(one)]
            assert {name: getattr(found, name) for name in newer_version(one)} == newer_version(one), one
        retain_content(store.url, START_NS + 10 * DAY)
        assert stored(store) == {record_key(one): retaining._reduced(one) for one in newer}

    def test_doctor_names_the_stores_that_cannot(self, tmp_path: Path) -> None:
        urls = (*(f"{kind}:///{tmp_path}/calls.{kind}" for kind in ("sqlite", "jsonl")), "clickhouse://u@h/d")
        found = doctor._retention(Settings(stores=urls, retain_content_days=1.0), tmp_path)
        names = {one.name for one in found}
        assert names == {f"content in {urls[1]}"}

    def test_a_pass_takes_contents_once_an_hour_and_says_so(
        self, tmp_path: Path, deliver: Callable[[str], Delivery], records: Records, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = deliver(f"sqlite:///{tmp_path}/calls.db")
        store.write(*self.talkative(records))
        retention = Retention(find_store(store.url), Settings(retain_content_days=1.0), tmp_path)
        levels = []
        for _ in range(10):
            retention.step(nothing_waits)
            levels += [retention._content_ns, bool(canaries(store))]
            pass_time(tmp_path)
        retention.close()
        assert levels[-2:] == [levels[0], False]
        found = known_of(store, tmp_path)
        assert found.content_ns == levels[0] > 0
        assert found.what == "0 sessions, 0 calls, 0 other records, the content of 6 records"
        assert any("retain_content_days=1.0" in message for message in caplog.messages)
        store.write(*self.talkative(records, None))
        again = Retention(find_store(store.url), Settings(retain_content_days=1.0), tmp_path)
        again._me = found.by
        again.step(nothing_waits)
        again.close()
        assert canaries(store) > 0, "the next pass that takes contents begins in an hour"


def newer_version(record: Record) -> dict[str, object]:
    """What makes a version of a record newer; those of which the first one stays have none."""
    if isinstance(record, events.SCOPE_TYPES):
        return {"seen_ns": 2}
    return {"stage": "completed"} if hasattr(record, "stage") else {}


def stored(store: Delivery) -> dict[tuple[str, str], Record]:
    """All records in a store by kind and id, without what readers derive."""
    reader = store.read()
    assert isinstance(reader, SqlReader)
    found: list[Record] = [msgspec.structs.replace(one, conversation=None) for one in reader.calls()]
    for kind, table in TABLES.items():
        if kind != "call":
            found += [record_of(table, row, RECORD_TYPES[kind]) for row in reader._rows(f"SELECT * FROM {table.name}")]
    return {record_key(one): one for one in found}


def versions(store: Delivery) -> set[object]:
    """What a later version of a session is compared with."""
    reader = store.read()
    assert isinstance(reader, SqlReader)
    if store.url.startswith("clickhouse"):
        return {row["seen_ns"] for row in every_row(store, "session_versions")}
    return {row["stamps"] for row in reader._rows("SELECT stamps FROM sessions WHERE session_id = 'old'")}


def canaries(store: Delivery) -> int:
    """How often the canary stands in records, contents, and the bytes of the file and its WAL."""
    reader = store.read()
    assert isinstance(reader, SqlReader)
    found = 0
    for table in (*(table.name for table in TABLES.values()), "content"):
        for row in every_row(store, table):
            found += str(dict(row)).count(CANARY)
            if table == "content":
                found += reader._json_of(row).count(CANARY.encode())
    if store.url.startswith("sqlite"):
        path = Path(store.url.removeprefix("sqlite:///"))
        found += sum(path.with_name(path.name + end).read_bytes().count(CANARY.encode()) for end in ("", "-wal"))
    return found


def every_row(store: Delivery, table: str) -> list[Mapping[str, object]]:
    """The rows of a table; in ClickHouse also those that a later one replaces."""
    reader = store.read()
    assert isinstance(reader, SqlReader)
    if not store.url.startswith("clickhouse"):
        return list(reader._rows(f"SELECT * FROM {table}"))
    from callspan.stores.clickhouse.connection import connect

    written = {one.name: f"{one.kind}_versions" for one in TABLES.values() if one.merges}.get(table, table)
    found = connect(store.url).query(f"SELECT * FROM {written}", settings={"final": 0})
    return [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]


def used_bytes(store: Delivery) -> int:
    if store.url.startswith("clickhouse"):
        from callspan.stores.clickhouse.connection import connect
        from callspan.stores.clickhouse.retention import _Retention

        return _Retention(connect(store.url), Keep(0, 0), Counter()).used_bytes()
    if store.url.startswith("postgresql"):
        from callspan.stores.postgres.connection import connect as connect_postgres
        from callspan.stores.postgres.retention import _Engine

        with closing(connect_postgres(store.url)) as connection:
            return _Engine(connection, "").used_bytes()
    with closing(sqlite3.connect(store.url.removeprefix("sqlite:///"))) as connection:
        pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return int(pages * size)


def execute(store: Delivery, sql: str) -> None:
    if store.url.startswith("clickhouse"):
        from callspan.stores.clickhouse.connection import connect

        _, table, change = sql.split(" ", 2)
        changed = change.removeprefix("SET ") if " WHERE " in change else f"{change.removeprefix('SET ')} WHERE 1"
        connect(store.url).command(f"ALTER TABLE {table} UPDATE {changed} SETTINGS mutations_sync = 2")
        return
    if store.url.startswith("postgresql"):
        with pytest.importorskip("psycopg").connect(store.url) as connection:
            connection.execute(sql)
        return
    with sqlite3.connect(store.url.removeprefix("sqlite:///")) as connection:
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute(sql)
    connection.close()


class TestJsonLines:
    """File by file: a rotated one goes as a whole, the one in use is not touched."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "calls.jsonl"

    @pytest.fixture
    def write(self, path: Path, deliver: Callable[[str], Delivery]) -> Callable[..., None]:
        """Write each batch to a file of its own, last changed on this day."""
        store = deliver(f"jsonl:///{path}?max_bytes=1")

        def write(day: float, *batch: Record) -> None:
            store.write(*batch)
            os.utime(path, ns=(0, START_NS + int(day * DAY)))

        return write

    def retain(self, path: Path, *, before: int | None = None, most_bytes: int | None = None) -> Counter[str]:
        return retain(f"jsonl:///{path}?max_bytes=1", None if before is None else START_NS + before * DAY, most_bytes)

    def test_a_rotated_file_goes_when_everything_in_it_is_old(
        self, path: Path, write: Callable[..., None], records: Records
    ) -> None:
        for day in (1, 2, 20):
            write(day, *session(records, f"s{day}", day, day))
        write(0, *session(records, "in-use", 0, 0))
        counts = self.retain(path, before=10)
        assert (counts["sessions"], counts["calls"], counts["events"]) == (2, 2, 2)
        assert [file.name for file in files_of(path)] == ["calls.jsonl.3", "calls.jsonl"]

    def test_beyond_the_bytes_the_oldest_rotated_files_go(
        self, path: Path, write: Callable[..., None], records: Records
    ) -> None:
        for day in range(5):
            write(day, *session(records, f"s{day}", day, day))
        size = path.stat().st_size
        self.retain(path, most_bytes=3 * size + size // 2)
        assert [file.name for file in files_of(path)] == ["calls.jsonl.3", "calls.jsonl.4", "calls.jsonl"]

    @pytest.mark.parametrize(
        ("ended", "process", "goes"),
        [(2, {}, True), (20, {}, False), (None, {"host": socket.gethostname(), "pid": os.getpid()}, False)],
    )
    def test_a_file_stays_while_a_session_in_it_goes_on(
        self,
        path: Path,
        write: Callable[..., None],
        records: Records,
        ended: int | None,
        process: dict[str, object],
        goes: bool,
    ) -> None:
        write(1, *session(records, "s", 1, **process))
        write(20, *session(records, "s", 1, ended, version=2, **process)[:1])
        write(20, *session(records, "another", 20, 20))
        self.retain(path, before=10)
        assert path.with_name("calls.jsonl.1").exists() != goes


class TestSlices:
    """What the delivering thread does of it."""

    @pytest.fixture
    def full(self, tmp_path: Path, deliver: Callable[[str], Delivery], records: Records) -> Delivery:
        store = deliver(f"sqlite:///{tmp_path}/calls.db")
        for number in range(60):
            day = number / 100
            store.write(*[one for part in range(5) for one in session(records, f"{number}-{part}", day, day)])
        return store

    def retention(self, store: Delivery, directory: Path) -> Retention:
        return Retention(find_store(store.url), Settings(retain_days=1.0), directory)

    def test_a_slice_works_50_ms_in_each_second_and_all_are_counted(
        self, full: Delivery, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        retention, slices = self.retention(full, tmp_path), []
        while retention._pass is not None or not slices:
            before, retention._next = time.thread_time(), 0.0
            retention.step(nothing_waits)
            slices.append(time.thread_time() - before)
            assert retention.due_s() > 0.5
            pass_time(tmp_path)
        assert sum(slices) / len(slices) < 0.06 * slowness()
        assert sessions_in(full) == set()
        found = known_of(full, tmp_path)
        assert (found.counts["sessions"], found.counts["calls"]) == (300, 300)
        first = [message for message in caplog.messages if "retention has begun to delete" in message]
        assert len(first) == 1
        assert "retain_days=1.0" in first[0]
        retention.step(nothing_waits)
        assert len([message for message in caplog.messages if "retention" in message]) == 1

    def test_one_process_at_a_time_and_another_one_once_that_has_ended(
        self, full: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also if it has another spool, and names the file otherwise."""
        monkeypatch.setattr(retaining, "_LAST_STEP_S", 1.0)  # one step is a slice
        link = tmp_path / "link.db"
        link.symlink_to(tmp_path / "calls.db")
        one = self.retention(full, tmp_path)
        other = Retention(find_store(f"sqlite:///{link}"), Settings(retain_days=1.0), tmp_path / "another")
        one.step(nothing_waits)
        after_one = known_of(full, tmp_path)
        other.step(nothing_waits)
        assert known_of(full, tmp_path) == after_one
        assert other.due_s() > 0
        pass_time(tmp_path, last_s=6)
        for _ in range(20):
            other.step(nothing_waits)
            pass_time(tmp_path)
        after_other = known_of(full, tmp_path)
        assert after_other.by != after_one.by
        assert after_other.counts["calls"] > after_one.counts["calls"]
        one.step(nothing_waits)
        assert known_of(full, tmp_path).by == after_other.by
        one.close()
        other.close()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    def test_a_fork_and_a_killed_process_leave_nothing_locked(self, full: Delivery, tmp_path: Path) -> None:
        code = f"""
import os, signal, sys, time
from pathlib import Path
from callspan.delivery import retaining
from callspan.delivery.retaining import Retention
from callspan.settings import Settings
from callspan.stores.urls import find_store
retention = Retention(find_store({full.url!r}), Settings(retain_days=1.0), Path({str(tmp_path)!r}))
with retention._locked():
    if os.fork() == 0:
        print(retention._descriptor, os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
"""
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            descriptor, child = process.stdout.readline().split()
            process.wait()
            try:
                assert descriptor == "None"
                with self.retention(full, tmp_path)._locked() as found:
                    assert found is not None
            finally:
                os.kill(int(child), 9)

    def test_what_waits_goes_before_and_a_broken_store_costs_a_pass(
        self, full: Delivery, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        retention = self.retention(full, tmp_path)
        retention._path.mkdir()
        retention.step(nothing_waits)
        assert any("delete what is old" in message for message in caplog.messages)
        assert retention.due_s() > 1
        assert len(sessions_in(full)) == 300

    def test_a_recording_process_deletes_and_doctor_counts(self, full: Delivery, tmp_path: Path) -> None:
        full.close()
        code = """
import sys, time
import callspan, openai
from callspan.testing import ScriptedProvider
with ScriptedProvider() as provider:
    provider.reply(text="All is well.", repeat=True)
    handle = callspan.instrument()
    client = openai.OpenAI(base_url=provider.openai_url, api_key="x")
    client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and len(list(callspan.open_store(sys.argv[1]).sessions())):
        time.sleep(0.1)
"""
        url = f"{full.url},console://"
        environment = {**os.environ, "CALLSPAN_STORES": url, "CALLSPAN_RETAIN_DAYS": "30", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code, full.url], env=environment, capture_output=True, text=True, check=True
        )
        assert "retention has begun to delete" in done.stderr
        assert sessions_in(full) == set()
        assert len(calls_in(full)) == 1
        said = subprocess.run(
            [Path(sys.executable).parent / "callspan", "doctor", "--json"],
            check=False,
            env=environment,
            capture_output=True,
            text=True,
        )
        details = {one["name"]: one["detail"] for one in json.loads(said.stdout)["checks"]}
        assert details[f"retention of {full.url}"].startswith("300 sessions, 300 calls, 1,200 other records deleted")
        assert "nothing is deleted from it by itself" in details["retention of console://"]


def nothing_waits() -> None:
    """There is nothing that waits for a store."""


def known_of(store: Delivery, directory: Path) -> Retained:
    """What was deleted from a store by itself."""
    known = retained(find_store(store.url), directory)
    assert known is not None
    return known


def pass_time(directory: Path, last_s: float = 0) -> None:
    """Let so many seconds pass after the time at which the next slice may begin."""
    (path,) = directory.glob("*.retained")
    known = json.loads(path.read_bytes())
    path.write_text(json.dumps(known | {"next_ns": time.time_ns() - int(last_s * 1e9)}))


def rejected(store: Delivery) -> int:
    sql = "SELECT count(*) FROM dead_letter"
    if store.url.startswith("postgresql"):
        with pytest.importorskip("psycopg").connect(store.url) as connection:
            return int(connection.execute(sql).fetchone()[0])
    if store.url.startswith("clickhouse"):
        from callspan.stores.clickhouse.connection import connect

        return int(str(connect(store.url).query(sql).result_rows[0][0]))
    with sqlite3.connect(store.url.removeprefix("sqlite:///")) as connection:
        return int(connection.execute(sql).fetchone()[0])
