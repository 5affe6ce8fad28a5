"""Removal from SQLite, Postgres and ClickHouse: by filter, id or age, including waiting and late records."""

from __future__ import annotations

import fcntl
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.conftest import Read
from tests.support.identities import GONE, HERE
from tests.support.left_behind import leave_behind
from tests.support.records import keep
from tests.support.scale import scaled
from tests.support.waiting import HANG_MS, until

import callspan
from callspan import SettingError, erase, open_store
from callspan.records import FORMAT, CallRecord, ErrorInfo, EventRecord, Place, Record, Request, Timing, encode
from callspan.stores import CallFilter, StoreError, find_store
from callspan.testing import capture

from .conftest import (
    SECOND,
    START_NS,
    Deliver,
    Delivery,
    Records,
    RetentionTimes,
    clickhouse,
    event,
    left,
    message,
    on_disk,
    raw,
    reward,
    run,
    step,
)

CANARY = "the canary sings at dawn"


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def first(receipt: Any) -> Any:
    assert receipt.is_complete
    return receipt.stores[0]


def of_user(records: Records) -> list[Record]:
    """A session of the user, one in which only calls name her, a shared one, and a call outside of sessions."""
    hers = {"user_id": "u1"}
    return [
        records.session("hers", start_ns=START_NS, user_id="u1", metadata={"note": CANARY}),
        records.call(said(CANARY), call_id="a", session_id="hers"),
        message("m", CANARY, session_id="hers"),
        records.session("by-metadata", start_ns=START_NS),
        records.call(said(f"{CANARY} twice"), call_id="b", session_id="by-metadata", metadata=hers),
        event("e", session_id="by-metadata", data={"x": CANARY}, metadata=hers),
        records.session("mixed", start_ns=START_NS),
        records.call(said(f"{CANARY} here"), f"{CANARY} there", call_id="c", session_id="mixed", metadata=hers),
        reward("r", call_id="c", source="human", annotation=CANARY),
        records.call(said("another user"), call_id="d", session_id="mixed", metadata={"user_id": "u2"}),
        records.call(said(f"{CANARY} outside"), call_id="e", metadata=hers),
        records.call(said("nobody's"), call_id="f"),
    ]


def bytes_of(place: Path, what: str = CANARY) -> int:
    return sum(path.read_bytes().count(what.encode()) for path in place.rglob("*") if path.is_file())


def test_erase_removes_exactly_the_records_of_a_user(store: Delivery, records: Records, tmp_path: Path) -> None:
    store.write(*of_user(records))
    before = left(store.url)
    planned = erase(store.url, CallFilter(user_id="u1"), dry_run=True)
    assert left(store.url) == before
    assert rows_with(store.url, tmp_path)
    removed = first(erase(store.url, CallFilter(user_id="u1")))
    assert replace(removed, copies=False) == first(planned)
    assert removed.copies == store.url.startswith("sqlite")
    assert (removed.sessions, removed.calls, removed.messages, removed.events, removed.rewards) == (2, 4, 1, 1, 1)
    assert left(store.url) == ({"mixed"}, {"d", "f"})
    assert not rows_with(store.url, tmp_path)
    assert first(erase(store.url, CallFilter(user_id="u1"))).total == 0


def test_erased_id_does_not_match_longer_ids(store: Delivery, records: Records) -> None:
    store.write(records.session("s1", start_ns=START_NS), records.session("s10", start_ns=START_NS))
    store.write(records.call(call_id="c1"), records.call(call_id="c10"))
    for _ in range(2):
        run(store.url, "delete", "s1", "--yes")
        run(store.url, "delete", "--call", "c1", "--yes")
    run(store.url, "delete", "--call", "s1", "--yes", code=1)
    assert left(store.url) == ({"s10"}, {"c10"})


def rows_with(url: str, place: Path, what: str = CANARY) -> bool:
    """Whether a text is in any row, or in files in any byte, used or not."""
    if url.startswith("clickhouse"):
        return what in on_disk(url)
    if not url.startswith("postgresql"):
        return bytes_of(place, what) > 0
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(url) as connection:
        sql = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        tables = connection.execute(sql).fetchall()
        texts = repr([connection.execute(f"SELECT t::text FROM {name} t").fetchall() for (name,) in tables])
    return what in texts or what.encode().hex() in texts


def test_late_records_are_rejected_and_new_ones_stored(store: Delivery, records: Records) -> None:
    store.write(*of_user(records))
    erase(store.url, CallFilter(user_id="u1"))
    unseen = records.call(said(CANARY), call_id="late", session_id="hers", at_s=5)
    begun = step("t", session_id="hers")
    rating = reward("r2", 0, call_id="e", source="human")
    answer = records.call(said(CANARY), CANARY, call_id="e", part="answered", seen_in="fetch", seen_ns=time.time_ns())
    assert answer.is_merged  # type: ignore[attr-defined]
    by_response = replace(rating, reward_id="r3", call_id="chatcmpl-1", annotation=CANARY)
    late = [*of_user(records), unseen, begun, rating, by_response, answer]
    store.write(*late)
    keep(store.url, *late)  # by another process
    assert list(store.read().rewards()) == []
    assert left(store.url) == ({"mixed"}, {"d", "f"})
    now_ns = time.time_ns()
    store.write(replace(rating, reward_id="r4", time_ns=now_ns))
    assert [one.reward_id for one in store.read().rewards()] == ["r4"]
    goes_on = records.call(said("new"), call_id="new", session_id="hers", at_s=(now_ns - START_NS) / SECOND + 60)
    store.write(goes_on, records.session("hers", version=now_ns, start_ns=now_ns, user_id="u1"), *late)
    store.write(*late)
    assert left(store.url) == ({"hers", "mixed"}, {"d", "f", "new"})
    reader = store.read()
    found = reader.session("hers")
    assert (found.session.seen_ns, found.session.metadata, found.calls) == (now_ns, {}, 1)
    assert list(reader.timesteps("hers")) == list(reader.events("hers")) == []
    assert bytes(next(reader.calls(CallFilter(session_id="hers"))).request.body) == bytes(goes_on.request.body)


def of_her_session(records: Records) -> list[Record]:
    """A session of the user that no store has yet, in which only the session itself names her."""
    return [
        records.session("waiting", start_ns=START_NS, user_id="u1"),
        records.call(said(CANARY), call_id="w", session_id="waiting"),
        step("t", session_id="waiting", seen_ns=START_NS, start_ns=START_NS),
        message("m", CANARY, session_id="waiting"),
        reward("of-call", call_id="w", source="human", annotation=CANARY),
        reward("of-step", timestep_id="t", source="human", annotation=CANARY),
    ]


def test_late_session_of_an_erased_user_is_rejected(store: Delivery, records: Records, tmp_path: Path) -> None:
    """In one batch and one by one."""
    store.write(records.call(call_id="nobody's"))
    erase(store.url, CallFilter(user_id="u1"))
    late = of_her_session(records)
    store.write(*late)
    for one in late:
        store.write(one)
    assert left(store.url) == (set(), {"nobody's"})
    assert not rows_with(store.url, tmp_path)


@pytest.mark.parametrize("order", [1, -1])
def test_waiting_session_of_a_user_is_erased(sqlite_url: str, records: Records, tmp_path: Path, order: int) -> None:
    """Also if what names the user was recorded last, as where another process continues the session."""
    keep(sqlite_url, records.call(call_id="nobody's"))
    hers = of_her_session(records)
    segment = leave_behind(sqlite_url, *hers[::order], records.call(call_id="another", answer="theirs"))
    with segment.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert erase(sqlite_url, CallFilter(user_id="u1")).is_complete
        assert bytes_of(tmp_path) == 0
    keep(sqlite_url, *hers[:0:-1])  # read by the running process before
    run(sqlite_url, "ship")
    assert left(sqlite_url) == (set(), {"nobody's", "another"})
    assert bytes_of(tmp_path) == 0


def test_user_is_erased_while_another_process_writes(url: str, deliver: Deliver, records: Records) -> None:
    writer, erased = deliver(url), threading.Event()

    def write() -> None:
        for number in takewhile(lambda _: not erased.is_set(), count()):
            hers = records.session(f"s{number}", start_ns=START_NS, user_id="u1")
            writer.write(hers, records.call(call_id=f"c{number}", session_id=f"s{number}"))

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        until(lambda: len(left(url)[1]) > 20)
        erase(url, CallFilter(user_id="u1"))
        erased.set()
        written.result()
    assert left(url) == (set(), set())


def alone(user: str) -> list[Record]:
    """Records with a user in their own metadata, outside of her sessions."""
    hers, judged = {"metadata": {"user_id": user}, "time_ns": START_NS}, {"source": "human", "annotation": CANARY}
    return [
        event("tool", event_type="tool", data={"arguments": CANARY}, **hers),
        event("in", session_id="s", event_type="guardrail", data={"x": CANARY}, **hers),
        message("m", CANARY, **hers),
        reward("r", call_id="c", **judged, **hers),
        reward("of-tool", event_id="tool", **judged),
    ]


@pytest.mark.parametrize("user", ["u1", 'a "quoted" o\'clock\\'])
def test_records_with_only_the_user_are_erased(store: Delivery, records: Records, tmp_path: Path, user: str) -> None:
    other = {"user_id": "another"}
    store.write(
        records.session("s", start_ns=START_NS),
        records.call(said("of nobody"), call_id="c", session_id="s"),
        event("theirs", event_type="tool", metadata=other),
        *alone(user),
    )
    planned = first(erase(store.url, CallFilter(user_id=user), dry_run=True))
    removed = first(erase(store.url, CallFilter(user_id=user)))
    assert (removed.events, removed.messages, removed.rewards, removed.calls, removed.sessions) == (2, 1, 2, 0, 0)
    assert replace(removed, copies=False) == planned
    store.write(*alone(user))
    assert not rows_with(store.url, tmp_path)
    assert [one.event_id for one in store.read().events(None) if isinstance(one, EventRecord)] == ["theirs"]
    store.write(event("later", event_type="tool", time_ns=time.time_ns(), metadata={"user_id": user}))
    assert first(erase(store.url, CallFilter(user_id=user), dry_run=True)).events == 1


def test_contents_shared_with_other_calls_are_kept(store: Delivery, records: Records) -> None:
    """Including large values to which only the skeleton of a request refers."""
    tools = [{"type": "function", "function": {"name": "f", "description": "y" * 300}}]

    def call(call_id: str, *texts: str) -> CallRecord:
        request = Request(body=raw({"messages": said(*texts), "tools": tools}))
        return records.call(call_id=call_id, session_id="s", request=request)

    kept, more = call("kept", "Hi"), ("Hi", "Hello there.", "More")
    store.write(call("gone", *more), kept)
    assert first(erase(store.url, calls=["gone"])).calls == 1
    store.write(again := call("again", *more))
    for one in (kept, again):
        assert bytes(store.read().call(one.call_id).request.body) == bytes(one.request.body)


def test_empty_selection_deletes_nothing(sqlite_url: str, records: Records) -> None:
    keep(sqlite_url, *of_user(records))
    before = left(sqlite_url)
    hers, nothing = CallFilter(user_id="u1"), "nothing is selected|the filter is invalid"
    for which, options, why in (
        (CallFilter(), {}, nothing),
        (CallFilter(limit=1), {}, nothing),
        (CallFilter(content="none", newest_first=False), {}, nothing),
        (CallFilter(text=""), {}, nothing),
        (CallFilter(objectives=("judge",), sort="score"), {}, nothing),
        (CallFilter(error_text=""), {}, nothing),
        (CallFilter(metadata=[]), {}, nothing),  # type: ignore[arg-type]
        (CallFilter(metadata={}), {}, nothing),  # type: ignore[arg-type]
        (hers, {"sessions": []}, nothing),
        (hers, {"calls": ()}, nothing),
        (hers, {"older_than_ns": time.time_ns()}, "older_than_ns cannot be combined"),
    ):
        with pytest.raises(SettingError, match=why):
            erase(sqlite_url, which, **options)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="a filter needs a SQLite, Postgres or ClickHouse store"):
        erase("unix:///nowhere.sock", hers)
    assert left(sqlite_url) == before
    assert first(erase(sqlite_url, sessions="hers")).sessions == 1
    assert first(erase(sqlite_url, CallFilter(session_id="by-metadata"))).sessions == 1
    keep(sqlite_url, records.session("failed", start_ns=START_NS, end_ns=START_NS, success=False, outcome="failure"))
    for failed in (CallFilter(success=False), CallFilter(session_outcome="failure")):
        assert first(erase(sqlite_url, failed, dry_run=True)).sessions == 1
    assert first(erase(sqlite_url, failed)).sessions == 1
    assert left(sqlite_url) == ({"mixed"}, {"c", "d", "e", "f"})


def test_store_without_erasing_is_named(sqlite_url: str, tmp_path: Path, records: Records) -> None:
    broken = tmp_path / "broken.db"
    keep(sqlite_url, *of_user(records))
    broken.write_bytes(b"no database at all" * 100)
    others = ["unix:///nowhere.sock"]
    receipt = erase([f"sqlite:///{broken}", sqlite_url, tmp_path / "mistyped.db", *others], CallFilter(user_id="u1"))
    assert receipt.by_hand == {"unix:///nowhere.sock": []}
    assert not receipt.is_complete
    assert [one.left is None for one in receipt.stores] == [False, True, False]
    mistyped = erase(tmp_path / "mistyped.db", older_than_ns=1)
    assert (mistyped.is_complete, "there is no such file" in str(mistyped.stores[0].left)) == (False, True)
    assert left(sqlite_url) == ({"mixed"}, {"d", "f"})


def test_open_reader_delays_overwriting(
    tmp_path: Path, deliver: Deliver, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callspan.stores.sqlite.database._READERS_S", 0.1)
    path = tmp_path / "calls.db"
    deliver(f"sqlite:///{path}").write(*of_user(records))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM calls").fetchone()
        receipt = erase(path, CallFilter(user_id="u1"))
        assert not receipt.is_complete
        assert "calls.db-wal still has the deleted records" in (receipt.stores[0].left or "")
    assert erase(path, CallFilter(user_id="u1")).is_complete
    assert bytes_of(tmp_path) == 0


def test_receipt_names_files_that_were_not_overwritten(sqlite_url: str, records: Records) -> None:
    leave_behind(sqlite_url, records.call(session_id="hers")).with_name("rejected.jsonl").mkdir()
    receipt = erase(sqlite_url, sessions="hers")
    assert (receipt.stores[0].calls, receipt.is_complete) == (1, False)
    assert (receipt.stores[1].store, "Is a directory" in receipt.stores[1].left) == ("spool", True)


@pytest.mark.parametrize("state", ["whole", "damaged", "of another format"])
@pytest.mark.parametrize("held", [False, True])
def test_waiting_records_are_erased(state: str, held: bool, sqlite_url: str, tmp_path: Path, records: Records) -> None:
    """Records of ended processes are delivered first; those held by a running one are overwritten."""
    hers = records.call(call_id="c", session_id="hers", answer=CANARY)
    keep(sqlite_url, hers)
    payload, formats = encode(hers), [f'"schema_version":{number}'.encode() for number in (FORMAT, FORMAT + 1)]
    if state == "of another format":
        payload = payload.replace(*formats)
    segment = leave_behind(sqlite_url, payload, records.call(session_id="others"))
    if state == "damaged":
        with segment.open("r+b") as file:
            file.write(b"damaged!")
    with segment.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX if held else fcntl.LOCK_UN)
        receipt = erase(sqlite_url, sessions=["hers"])
    assert (receipt.stores[0].calls, receipt.is_complete) == (1, True)
    assert bytes_of(tmp_path / "calls.db.spool") == 0
    assert "others" in (segment.read_text() if held else left(sqlite_url)[0])


@pytest.mark.parametrize("cut", [0, 5])
@pytest.mark.parametrize("ident", ["it's", 'a "b"', "back\\slash", "two\nlines"])
def test_rejected_records_are_erased(sqlite_url: str, records: Records, ident: str, cut: int) -> None:
    """A record that is invalid, or no JSON."""
    line = encode(records.call(answer=CANARY, session_id=ident)).replace(b'"schema_version":', b'"schema_version":9')
    rejected = leave_behind(sqlite_url, line[: len(line) - cut]).with_name("rejected.jsonl")
    run(sqlite_url, "ship")
    assert CANARY in rejected.read_text()
    assert erase(sqlite_url, sessions=ident).is_complete
    assert CANARY not in rejected.read_text()


def test_erased_records_do_not_return_beside_writers(url: str, deliver: Deliver, records: Records) -> None:
    """Both users share contents, so that those of one are erased while those of the other are written."""
    writer, kept, gone, over = deliver(url), set[str](), set[str](), threading.Event()
    permits = threading.Semaphore(0)  # a writer without a limit makes each round longer

    def write() -> None:
        for number in count():
            permits.acquire()
            if over.is_set():
                return
            texts = said(f"shared {number % 3}", "An answer", CANARY)
            hers = records.call(texts, call_id=f"hers {number}", session_id="s", metadata={"user_id": "u1"})
            theirs = records.call(texts[:2], call_id=f"theirs {number}", session_id="s", metadata={"user_id": "u2"})
            writer.write(hers, theirs)
            kept.add(theirs.call_id)

    def written() -> set[str]:
        with closing(open_store(url)) as reader:
            return {one.call_id for one in reader.calls(CallFilter(user_id="u1"))}

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for _ in range(scaled(3, 20)):
                permits.release(50)
                calls = until(written)
                gone |= calls
                assert erase(url, calls=calls).is_complete
                assert gone.isdisjoint(left(url)[1])
        finally:
            over.set()
            permits.release()
        writing.result()
    erase(url, CallFilter(user_id="u1"))
    assert left(url)[1] == kept
    for call in writer.read().calls():
        assert b"shared" in bytes(call.request.body)
        assert CANARY.encode() not in bytes(call.request.body)


IDS = ("a\"b'c", "a\\b\\", "a\0b", "a\ud800b", "a%_b", "a:b ? :id", "Straße\nς", "a'; DROP TABLE calls; --")


def record(url: str, ident: str) -> str:
    """Record a session with a call, an event and a reward, and a call outside of it; return the latter's id."""
    with capture(stores=url) as seen:
        with callspan.session("s", session_id=ident, user_id=ident, group_id=ident) as session:
            with callspan.record_call(provider="mine", model="m") as asked:
                asked.request({"model": "m", "messages": said("Where is it?")})
            session.event("seen", data={"at": 1})
        callspan.reward(1.0, session_id=ident)
        with callspan.metadata(user_id=ident), callspan.record_call(provider="mine", model="m"):
            pass
    return seen.records[-1].call_id


@pytest.mark.parametrize("ident", IDS)
def test_id_finds_and_erases_its_records(url: str, ident: str, reading: Read) -> None:
    outside, reader = record(url, ident), reading(url)
    found = reader.session(ident)
    whole = found.session.session_id
    assert (found.calls, found.reward, len(list(reader.events(ident)))) == (1, 1.0, 2)
    for which in (CallFilter(session_id=ident), CallFilter(group_id=ident), CallFilter(text="where IS")):
        assert whole in {one.place.session_id for one in reader.calls(which)}
    assert {one.call_id for one in reader.calls(CallFilter(user_id=ident))} >= {outside}
    assert [one.session.session_id for one in reader.sessions(CallFilter(user_id=ident))] == [whole]
    assert erase(url, sessions=ident).stores[0].sessions == 1
    assert (reader.session(ident), reader.is_erased("session", ident)) == (None, True)
    assert [one.call_id for one in reader.calls()] == [outside]
    receipt = erase(url, CallFilter(user_id=ident))
    assert (receipt.stores[0].calls, receipt.is_complete) == (1, True)
    assert list(reader.calls()) == list(reader.rewards()) == []


def test_metadata_assigns_a_session_to_its_user(sqlite_url: str) -> None:
    """Her own, or those of the block around it, such as a middleware's."""
    with capture(stores=sqlite_url):
        with callspan.metadata(user_id="u1"), callspan.session("inner"):
            pass
        with callspan.session("own", metadata={"user_id": "u1"}), callspan.record_call(provider="mine", model="m"):
            pass
    erased = first(erase(sqlite_url, CallFilter(user_id="u1")))
    assert (erased.sessions, erased.calls) == (2, 1)
    assert left(sqlite_url) == (set(), set())


DAY = 86_400 * SECOND
NOW = START_NS + 100 * DAY
KEEP = RetentionTimes(NOW - 2 * DAY, NOW - 30 * DAY)


def retained(url: str, keep: RetentionTimes = KEEP) -> Any:
    """Delete old records in steps; yield the number deleted in each."""
    return find_store(url).retain(keep)


def retain(url: str, keep: RetentionTimes = KEEP) -> int:
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


@pytest.mark.transactional("its parts expire by themselves")
def test_old_sessions_are_deleted_and_running_ones_kept(store: Delivery, records: Records, tmp_path: Path) -> None:
    """Also from the bytes of a file."""
    here, gone = {"process": HERE}, {"process": GONE}
    running = {"part": "started", "outcome": "in_progress", "response": None, "usage": None}
    store.write(
        session(records, "old", 1, 2), call(records, "in-old", 1, "old"), call(records, "late-in-old", 3, "old"),
        step("t", session_id="old", seen_ns=at(1), start_ns=at(1)),
        event("e", session_id="old", time_ns=at(1)),
        reward("of-event", event_id="e", source="human", time_ns=at(99)),
        records.session("imported", version=at(99), start_ns=at(1), end_ns=at(2), outcome="success"),
        records.session("resumed", version=at(99), start_ns=at(1), end_ns=at(2), outcome="success", **here),
        records.session("loaded", version=at(99), start_ns=at(1), end_ns=at(2), outcome="success", **gone),
        session(records, "continued", 1, 2), message("m", session_id="continued", time_ns=at(99)),
        session(records, "killed", 1, **gone), event("lately", session_id="killed", time_ns=at(99)),
        session(records, "ended-lately", 1, 90), call(records, "in-lately", 1, "ended-lately"),
        session(records, "goes-on", 1, 2), call(records, "in-goes-on", 90, "goes-on"),
        session(records, "crashed", 1, **gone), call(records, "in-crashed", 1, "crashed"),
        session(records, "runs", 1, **here), call(records, "in-runs", 1, "runs"),
        session(records, "no-end", 1), call(records, "in-no-end", 99, "no-end"),
        call(records, "old-in-no-end", 1, "no-end"), call(records, "goes-on-in-no-end", 1, "no-end", seen_ns=at(99)),
        *(event(f"at-{day}", session_id="no-end", time_ns=at(day)) for day in (1, 99)),
        step("over", session_id="no-end", seen_ns=at(2), start_ns=at(1), end_ns=at(2)),
        step("open", session_id="no-end", index=1, seen_ns=at(1), start_ns=at(1)),
        call(records, "alone-old", 1, answer="the canary sings"), call(records, "alone-new", 90),
        call(records, "runs-alone", 1, **running),
        call(records, "orphan", 1, "never-recorded"), call(records, "orphan-new", 90, "never-recorded"),
        reward("old-alone", source="human", time_ns=at(1)),
    )  # fmt: skip
    assert retain(store.url)
    sessions = {"resumed", "continued", "killed", "ended-lately", "goes-on", "runs", "no-end", "never-recorded"}
    of_ended = {"in-lately", "in-goes-on"}
    assert left(store.url) == (sessions, of_ended | {"in-no-end", "goes-on-in-no-end", "alone-new", "orphan-new"})
    reader = store.read()
    assert list(reader.rewards()) == list(reader.events("old")) == list(reader.timesteps("old")) == []
    assert [one.event_id for one in reader.events("no-end")] == ["at-99"]  # type: ignore[union-attr]
    assert [one.timestep_id for one in reader.timesteps("no-end")] == ["open"]
    assert retain(store.url) == 0
    assert not any(b"canary" in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_what_a_process_loaded_from_the_past_is_old_once_it_has_ended(url: str, records: Records) -> None:
    """In ClickHouse too, where it is deleted on request."""
    past = {"version": time.time_ns(), "start_ns": at(1), "end_ns": at(2), "outcome": "success"}
    keep(url, *(records.session(name, process=of, **past) for name, of in (("loads", HERE), ("has loaded", GONE))))
    assert first(erase(url, older_than_ns=at(50))).sessions == 1
    assert left(url)[0] == {"loads"}


@pytest.mark.transactional("its parts expire by themselves")
def test_retention_works_in_interruptible_batches(store: Delivery, records: Records) -> None:
    for number in range(250):
        store.write(session(records, f"s{number}", 1, 2), call(records, f"c{number}", 1, f"s{number}"))
    with closing(retained(store.url)) as steps:
        next(filter(None, steps))
    assert 0 < len(left(store.url)[1]) < 250
    store.write(call(records, "meanwhile", 90))
    retain(store.url)
    assert left(store.url) == (set(), {"meanwhile"})
    reader = store.read()
    assert [bool(bytes(one.request.body)) for one in reader.calls()] == [True]
    assert list(reader._database.tuples("SELECT count(*) FROM contents")) == [(3,)]


@pytest.mark.transactional("its parts expire by themselves")
def test_no_transaction_deletes_more_than_2000_calls(url: str, records: Records) -> None:
    keep(url, session(records, "s", 1, 2), *(call(records, f"c{number}", 1, "s") for number in range(2_001)))
    assert max(retained(url)) == 2_000
    assert left(url) == (set(), set())


@pytest.mark.transactional("its parts expire by themselves")
def test_only_one_process_applies_retention(url: str, records: Records) -> None:
    keep(url, *(session(records, f"s{number}", 1, 2) for number in range(150)))
    with closing(retained(url)) as mine:
        next(mine)
        assert list(retained(url)) == []
    assert len(left(url)[0]) in range(1, 151)
    assert sum(retained(url))
    assert left(url)[0] == set()


@pytest.mark.transactional("its parts expire by themselves")
def test_content_retention_keeps_records(store: Delivery, records: Records) -> None:
    """Also of a session that failed, and of a call whose row is damaged."""
    store.write(
        session(records, "old", 50, 51, metadata={"seed": 7}, error=ErrorInfo(kind="unknown", type="E")),
        *(call(records, f"c{number}", 50, "old") for number in range(150)),
        event("e", session_id="old", time_ns=at(50), data={"text": "secret words"}),
        call(records, "new", 95),
    )
    store.sink._database.run("UPDATE calls SET params = '[1]' WHERE call_id = 'c7'")  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match=r"call c7 is damaged; restore it from a backup"):
        store.read().call("c7")
    keep = RetentionTimes(NOW - 2 * DAY, NOW - 90 * DAY, NOW - 30 * DAY)
    assert retain(store.url, keep) == 151
    assert retain(store.url, keep) == 0
    reader = store.read()
    assert reader.count_calls(CallFilter(text="hello there")) == 1
    assert bytes(reader.call("c7").request.body) == b""
    old = reader.call("c1")
    assert (old.content_level, bytes(old.request.body), old.usage.input_tokens) == ("metadata", b"", 10)
    assert {one.why for one in old.redactions} == {"retention"}
    assert bytes(reader.call("new").request.body)
    (found,) = reader.events("old")
    assert found.data is None
    assert reader.session("old").session.metadata == {"seed": 7}


def test_retention_runs(sqlite_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a process that has run for longer than records are kept."""
    monkeypatch.setattr("callspan.delivery.store_sink._MAX_PAUSE_S", 0.05)
    began = time.time_ns() - 40 * DAY
    with monkeypatch.context() as clock:
        clock.setattr(time, "time_ns", lambda: began)
        handle = callspan.instrument(stores=sqlite_url, retain_days=30)
        with callspan.record_call(provider="mine", model="m"):
            pass
        assert handle.force_flush(HANG_MS)
    keep(sqlite_url, Records().call(call_id="old", timing=Timing(start_ns=began + 5 * DAY)))
    with callspan.record_call(provider="mine", model="m"):
        pass
    until(lambda: "old" not in left(sqlite_url)[1])
    handle.uninstrument()
    assert len(left(sqlite_url)[1]) == 1
    assert "retention has begun to delete (retain_days=30" in caplog.text


@pytest.mark.clickhouse
def test_nothing_of_deleted_calls_is_left_in_clickhouse(clickhouse_url: str, records: Records) -> None:
    """What other calls refer to stays."""
    shared, own = {"role": "user", "content": "Hi"}, {"role": "user", "content": CANARY}
    keep(
        clickhouse_url,
        records.session("s1"),
        records.call([shared], call_id="first", session_id="s1"),
        records.call([shared, own], call_id="second", session_id="s1"),
        records.call([shared, own], call_id="loose"),
    )
    assert CANARY in on_disk(clickhouse_url)
    assert first(erase(clickhouse_url, calls=["second", "loose"])).calls == 2
    assert CANARY not in on_disk(clickhouse_url)
    with closing(open_store(clickhouse_url)) as reader:
        assert [(call.call_id, call.conversation.input[0].text) for call in reader.calls()] == [("first", "Hi")]


@pytest.mark.clickhouse
def test_deletions_are_counted_in_one_row_of_clickhouse(clickhouse_url: str, records: Records) -> None:
    """A writer compares their number, which must never fall: also not when the server merges or expires rows."""
    keep(clickhouse_url, *(records.call(call_id=f"call-{number}") for number in range(3)))
    numbers = [0]
    for number in range(3):
        assert first(erase(clickhouse_url, calls=[f"call-{number}"])).calls == 1
        with clickhouse(clickhouse_url) as client:
            client.command("OPTIMIZE TABLE content_deletions FINAL")
            ((rows, total),) = client.query("SELECT count(), sum(number) FROM content_deletions").result_rows
        assert rows == 1
        numbers.append(total)
    assert numbers == sorted(set(numbers))


@pytest.mark.clickhouse
def test_call_that_is_erased_while_it_is_written_is_deleted_from_clickhouse(
    clickhouse_url: str, deliver: Deliver, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no transactions: the writer has asked what was erased before it was."""
    store = deliver(clickhouse_url)
    write = store.sink._write  # type: ignore[attr-defined]

    def erase_and_write(given: object) -> None:
        erase(clickhouse_url, sessions="hers")
        write(given)

    monkeypatch.setattr(store.sink, "_write", erase_and_write)
    store.write(records.session("hers", start_ns=START_NS), records.call(said(CANARY), session_id="hers"))
    assert left(clickhouse_url) == (set(), set())
    assert CANARY not in on_disk(clickhouse_url)
