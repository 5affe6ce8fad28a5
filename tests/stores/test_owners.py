"""Whose a record is, its newest version decides: for a dry run, a deletion, and what is delivered late."""

from __future__ import annotations

import fcntl
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.left_behind import (
    Retention,
    StoreSink,
    cursors_of,
    directory_of,
    leave_behind,
    lines_of,
    open_spool,
    record_key,
    segments_in,
    target_of,
)
from tests.support.records import keep
from tests.support.scale import scaled
from tests.support.waiting import HANG_MS

import callspan
from callspan import Settings, erase, open_store
from callspan.records import (
    CallRecord,
    Cost,
    EventRecord,
    MessageRecord,
    Place,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Timing,
    decode,
    encode,
)  # fmt: skip
from callspan.stores import CallFilter, Reader, find_store

from .conftest import SECOND, START_NS, Delivery, Records, event, left, message, reward, step

EXAMPLES = count(1)
"""Examples share a store: each has ids and users of its own."""
HERS, OTHER = "visitor", "other"
RANKS = ("started", "requested", "ended", "answered")
TEN_DAYS = Settings(retain_days=10)
TYPES: dict[str, type[Record]] = {
    "session": SessionRecord,
    "call": CallRecord,
    "timestep": TimestepRecord,
    "event": EventRecord,
    "message": MessageRecord,
    "reward": RewardRecord,
}
KINDS = tuple(TYPES)
MAX_VERSIONS = 14


class Version(NamedTuple):
    """What decides about one version of a record."""

    kind: str
    number: int
    user: str | None
    session: int | None
    seen: int
    process: int
    part: str = "ended"
    target: int | None = None
    """The call that an event or message names; the call, timestep or event, by the remainder of 3, of a reward."""


@st.composite
def histories(draw: Any) -> list[Version]:
    """The versions that two processes write, in order; each has a clock of its own."""
    users = st.sampled_from([HERS, OTHER, None])
    size = draw(st.integers(2, MAX_VERSIONS))
    clock = draw(st.permutations(range(10, 10 + size)))
    versions = []
    for place in range(size):
        kind, part = draw(st.sampled_from([*KINDS, "session", "call"])), draw(st.sampled_from(RANKS))
        is_filled = kind in ("session", "timestep") or (kind == "call" and part == "answered")
        user = draw(users if not is_filled or kind != "call" else st.sampled_from([HERS, OTHER]))
        version = Version(
            kind,
            draw(st.integers(0, 2)) if kind in ("session", "call", "timestep") else place,
            user,
            draw(st.integers(0, 2) if kind != "session" and is_filled else st.none() | st.integers(0, 2)),
            # A version that names no user says nothing of it: a store keeps what it has, were that newer or not.
            place - size if is_filled and user is None else clock[place],
            draw(st.integers(0, 1)),
            part if kind == "call" else "ended",
            draw(st.none() | st.integers(0, 2 if kind != "reward" else 8)),
        )
        versions.append(version)
    return versions


def as_record(version: Version, name: str, records: Records) -> Record:
    """The record of a version; `name` is in every id and user."""
    user = None if version.user is None else f"{version.user}-{name}"
    metadata = {} if user is None else {"user_id": user}
    session_id = None if version.session is None else f"s{version.session}-{name}"
    ident, seen_ns = f"{version.kind[0]}{version.number}-{name}", START_NS + 100 * version.seen
    at: dict[str, Any] = {"session_id": session_id, "metadata": metadata}
    target = version.target
    if version.kind == "session":
        return records.session(ident, version=seen_ns, start_ns=START_NS, user_id=user, metadata=metadata)
    if version.kind == "call":
        place, timing = Place(session_id=session_id), Timing(start_ns=START_NS, duration_ns=1)
        seen: dict[str, Any] = {"part": version.part, "seen_ns": seen_ns}
        return records.call(call_id=ident, place=place, timing=timing, metadata=metadata, **seen)
    if version.kind == "timestep":
        return step(ident, seen_ns=seen_ns, start_ns=START_NS, **at)
    if version.kind == "reward":
        name_of = {} if target is None else {("call_id", "timestep_id", "event_id")[target % 3]: target // 3}
        kinds = {"call_id": "c", "timestep_id": "t", "event_id": "e"}
        return reward(ident, **{key: f"{kinds[key]}{number}-{name}" for key, number in name_of.items()}, **at)
    at["call_id"] = None if target is None else f"c{target}-{name}"
    return event(ident, **at) if version.kind == "event" else message(ident, **at)


def newest(versions: Sequence[Version]) -> dict[tuple[str, int], Version]:
    """The newest version of each record, with the user of the newest one that names any."""
    decisive: dict[tuple[str, int], Version] = {}
    for version in sorted(versions, key=lambda one: (RANKS.index(one.part), one.seen)):
        earlier = decisive.get((version.kind, version.number))
        if earlier is not None and version.user is None and version.kind != "call":
            version = version._replace(user=earlier.user)  # noqa: PLW2901
        decisive[version.kind, version.number] = version
    return decisive


def sessions_of_her(versions: Iterable[Version]) -> tuple[set[int], set[int]]:
    """The sessions that these versions name the user in, and those in which only she is named."""
    named = [one for one in versions if one.user is not None and one.kind != "reward"]
    at = [(one.number if one.kind == "session" else one.session, one) for one in named]
    hers = {
        session for session, one in at if session is not None and one.user == HERS and one.kind in ("session", "call")
    }
    return hers, hers - {session for session, one in at if one.user == OTHER}


def erased_of(versions: Sequence[Version]) -> set[tuple[str, int]]:
    """What the erasure of the user deletes, by definition."""
    decisive = newest(versions)
    _, sessions = sessions_of_her(decisive.values())
    gone = {key for key, one in decisive.items() if one.user == HERS and one.kind != "session"}
    gone |= {key for key, one in decisive.items() if (key[1] if key[0] == "session" else one.session) in sessions}
    gone |= {key for key, one in decisive.items() if key[0] in ("event", "message") and ("call", one.target) in gone}
    for key, one in decisive.items():
        if key[0] == "reward" and one.target is not None:
            target = ("call", "timestep", "event")[one.target % 3], one.target // 3
            gone |= {key} if target in gone else set()
    return gone


@pytest.fixture
def reader(store: Delivery) -> Reader:
    """One connection for all examples: Postgres starts a process for each."""
    return store.read()


def stored(reader: Reader, name: str) -> dict[str, Record]:
    """The stored records of an example by id. It asks for these alone: a store has those of hundreds of examples."""
    found = {
        kind: reader.stored(type_, [f"{kind[0]}{number}-{name}" for number in range(MAX_VERSIONS)])
        for kind, type_ in TYPES.items()
    }
    return {getattr(one, f"{kind}_id"): one for kind, records in found.items() for one in records}


@contextmanager
def held(url: str, writers: Sequence[Sequence[Record]], delivered: Sequence[int]) -> Iterator[list[Path]]:
    """The spool of running processes, each of which has delivered the first of its records."""
    with ExitStack() as files:
        segments = []
        for written, number in zip(writers, delivered, strict=True):
            segment = leave_behind(url, *written)
            file = files.enter_context(segment.open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX)
            end = sum(len(file.readline()) for _ in range(number))
            for cursor in cursors_of(segment):
                cursor.write_text(f"{end:020d}")
            segments.append(segment)
        try:
            yield segments
        finally:
            for path in directory_of(url).iterdir():
                if ".segment" in path.name:
                    path.unlink()


def batches(records: Sequence[Record], sizes: Sequence[int]) -> Iterator[Sequence[Record]]:
    remaining = [*records]
    for size in [*sizes, len(remaining) or 1]:
        if remaining:
            yield remaining[:size]
            remaining = remaining[size:]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("size", [1, 2])
def test_timestep_is_of_the_session_that_its_newest_version_names(
    order: tuple[int, int], size: int, store: Delivery, reader: Reader
) -> None:
    records = Records()
    versions = [
        step("t", session_id=session, seen_ns=START_NS + n, start_ns=START_NS, metadata={"user_id": user, f"k{n}": n})
        for n, (session, user) in enumerate([("hers", HERS), ("others", OTHER)])
    ]
    sessions = [
        records.session(one, start_ns=START_NS, user_id=user) for one, user in (("hers", HERS), ("others", OTHER))
    ]
    store.write(*sessions)
    for batch in batches([versions[n] for n in order], [size]):
        store.write(*batch)
    (stored_step,) = reader.stored(TimestepRecord, ["t"])
    assert (stored_step.session_id, stored_step.metadata) == ("others", {"user_id": OTHER, "k0": 0, "k1": 1})
    assert [one.timestep_id for one in reader.timesteps("hers")] == []
    assert erase(store.url, CallFilter(user_id=HERS)).stores[0].timesteps == 0
    assert len(list(reader.stored(TimestepRecord, ["t"]))) == 1


@pytest.mark.timeout(3600)
@settings(
    max_examples=scaled(6, 300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    versions=histories(),
    parts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    sizes=st.lists(st.integers(1, 4), max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_newest_version_decides(
    versions: list[Version], parts: tuple[float, float], sizes: list[int], order: Any, store: Delivery, reader: Reader
) -> None:
    """Before, during and after a flush, and for what is delivered again."""
    name, records, url = f"{next(EXAMPLES):06}", Records(), store.url
    store.write(records.call(call_id="nobody's"))
    made = [as_record(version, name, records) for version in versions]
    writers = [
        [one for one, version in zip(made, versions, strict=True) if version.process == number] for number in (0, 1)
    ]
    delivered = [int(part * len(written)) for part, written in zip(parts, writers, strict=True)]
    for written, number in zip(writers, delivered, strict=True):
        store.write(*written[:number])
    user = f"{HERS}-{name}"
    gone, every = erased_of(versions), newest(versions)
    with held(url, writers, delivered) as segments:
        planned = erase(url, CallFilter(user_id=user), dry_run=True).stores[0]
        receipt = erase(url, CallFilter(user_id=user))
        assert receipt.is_complete
        counts = {kind: getattr(receipt.stores[0], f"{kind}s") for kind in KINDS}
        assert counts == {kind: sum(of == kind for of, _ in gone) for kind in KINDS}
        assert counts == {kind: getattr(planned, f"{kind}s") for kind in KINDS}
        kept = ids(every.keys() - gone, name)
        assert stored(reader, name).keys() == kept
        assert user not in "".join(segment.read_text() for segment in segments)
        lines = [line.payload for segment in segments for line in lines_of(segment) if line.payload]
        staying = [
            one for one, version in zip(made, versions, strict=True) if (version.kind, version.number) not in gone
        ]
        assert Counter(record_key(decode(line)) for line in lines) == Counter(map(record_key, staying))
        for batch in batches(merged_by_chance(made, versions, order), sizes):
            store.write(*batch)
    assert stored(reader, name).keys() == kept
    assert user.encode() not in b"".join(map(encode, stored(reader, name).values()))


@pytest.mark.timeout(3600)
@settings(
    max_examples=scaled(6, 300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    versions=histories(),
    early=st.integers(0, MAX_VERSIONS),
    sizes=st.lists(st.integers(1, 4), max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_newest_version_decides_what_late_records_are_refused(
    versions: list[Version], early: int, sizes: list[int], order: Any, store: Delivery, reader: Reader
) -> None:
    """Records of two processes in any order; no store and no spool had all of them at the erasure."""
    name, records, url = f"{next(EXAMPLES):06}", Records(), store.url
    store.write(records.call(call_id="nobody's"))
    made = merged_by_chance([as_record(version, name, records) for version in versions], versions, order)
    store.write(*made[:early])
    assert erase(url, CallFilter(user_id=f"{HERS}-{name}")).is_complete
    gone, every = erased_of(versions), newest(versions)
    for batch in batches(made[early:], sizes):
        store.write(*batch)
    found = stored(reader, name)
    assert f"{HERS}-{name}".encode() not in b"".join(map(encode, found.values()))
    hers = {(version.kind, version.number) for version in versions if version.user == HERS}
    # What names nobody goes with a session as long as no version of a record there names another user, and not back.
    claimed, alone = sessions_of_her(versions)
    is_named = {key for key, one in every.items() if one.user == HERS and key[0] != "session"}
    gone = {key for key in gone if key in is_named or (key[1] if key[0] == "session" else every[key].session) in alone}
    assert found.keys().isdisjoint(ids(gone, name))
    sure = {
        key for key, one in every.items()
        if (one.user == OTHER and key[0] in ("call", "timestep", "session"))
        or (key not in hers and not claimed and (key[0] not in ("event", "message", "reward") or one.target is None))
    }  # fmt: skip
    assert found.keys() >= ids(sure, name)


def merged_by_chance(made: Sequence[Record], versions: Sequence[Version], order: Any) -> list[Record]:
    """The records of both processes, those of each in their order."""
    written = [[one for one, version in zip(made, versions, strict=True) if version.process == by] for by in (0, 1)]
    return [written[order.randrange(2)].pop(0) if all(written) else (written[0] or written[1]).pop(0) for _ in made]


def ids(keys: Any, name: str) -> set[str]:
    return {f"{kind[0]}{number}-{name}" for kind, number in keys}


def test_visitor_who_logs_in_keeps_her_session(url: str) -> None:
    """In a process that records on: the name of the visitor goes, and what was recorded as his."""
    handle = callspan.instrument(stores=url)
    try:
        for user, session_id in [
            (HERS, "c0"),
            ("mara", "c0"),
            (HERS, "c1"),
            ("ben", "c1"),
            ("ben", "c2"),
            (HERS, "c3"),
        ]:
            ask(user, session_id)
        with callspan.session("chat", session_id="c4", user_id=HERS) as anonymous:
            anonymous.event("seen")
            anonymous.update(user_id="mara")
            assert handle.force_flush(HANG_MS)
            ask("ben", "c5")
            planned, removed = (erase(url, CallFilter(user_id=HERS), dry_run=dry).stores[0] for dry in (True, False))
            assert replace(removed, copies=False) == planned
            counts = (
                removed.sessions,
                removed.calls,
                removed.timesteps,
                removed.events,
                removed.messages,
                removed.rewards,
            )
            assert counts == (1, 3, 3, 7, 3, 3)
            spool = "".join(segment.read_text() for segment in segments_in(directory_of(url)))
            assert (HERS in spool, "mara" in spool) == (False, True)
            ask(HERS, "c0")
            ask("mara", "c0")
        assert handle.force_flush(HANG_MS)
        with closing(open_store(url)) as reader:
            owners = {summary.session.session_id: summary.session.user_id for summary in reader.sessions()}
            calls = sorted((one.place.session_id, one.user_id) for one in reader.calls())
        assert owners == {"c0": "mara", "c1": "ben", "c2": "ben", "c4": "mara", "c5": "ben"}
        assert calls == [("c0", "mara"), ("c0", "mara"), ("c0", HERS), ("c1", "ben"), ("c2", "ben"), ("c5", "ben")]
    finally:
        handle.uninstrument()


def ask(user: str, session_id: str) -> None:
    """A request of a chat service, with a call, a tool, a message and a reward."""
    with callspan.session("chat", session_id=session_id, user_id=user) as session, session.timestep("answer") as step:
        with callspan.record_call(provider="mine", model="m") as call:
            call.request({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
        with step.tool("search", {"q": user}):
            pass
        step.message(user, "question")
        callspan.reward(1.0, session_id=session_id)


def test_newest_version_decides_for_every_condition(url: str, records: Records) -> None:
    """Also if only a running process has it: no condition asks an earlier version."""
    trial, running = {"tags": "trial"}, {"part": "started", "outcome": "in_progress"}
    versions = [
        (records.session("s1", start_ns=1, end_ns=2, metadata=trial), {"metadata": {"tags": "kept"}}),
        (records.session("s2", start_ns=1, metadata={"tags": "kept"}), {"metadata": trial}),
        (records.call(call_id="c1", session_id="s1", **running), {"part": "ended", "outcome": "success"}),
        (records.call(call_id="c2", session_id="s1", **running), {"part": "ended", "outcome": "error"}),
        (records.session("s3", start_ns=1, end_ns=2), {"end_ns": START_NS + SECOND}),
        (records.session("s4", start_ns=1, end_ns=2), {"name": "old"}),
    ]
    earlier = [version for version, _ in versions]
    later = [replace(version, seen_ns=9, **fields) for version, fields in versions]
    keep(url, *earlier)
    with held(url, [[*earlier, *later]], [len(earlier)]):
        for options, expected in [
            ({"selection": CallFilter(metadata=(("tags", "trial"),))}, {"s2"}),
            ({"selection": CallFilter(errors=True)}, {"c2"}),
            ({"selection": CallFilter(outcome="in_progress")}, set()),
            ({"older_than_ns": START_NS}, {"s4"}),
        ]:
            before = set().union(*left(url))
            planned, removed = (erase(url, dry_run=dry, **options).stores[0] for dry in (True, False))
            assert (replace(removed, copies=False), before - set().union(*left(url))) == (planned, expected)


def test_retention_waits_for_newer_versions(sqlite_url: str, records: Records) -> None:
    """Those that another process has not delivered yet."""
    old = [records.session(f"s{number}", start_ns=1, end_ns=2) for number in (1, 2)]
    calls = [records.call(call_id=f"c{number}", timing=Timing(start_ns=2)) for number in (1, 2)]
    goes_on = replace(old[0], seen_ns=time.time_ns(), end_ns=None, outcome=None)
    answered = replace(calls[0], part="answered", seen_in="fetch", seen_ns=3)
    keep(sqlite_url, *old, *calls)
    with held(sqlite_url, [[goes_on, answered]], [0]):
        target = target_of(find_store(sqlite_url))
        spool = open_spool(directory_of(sqlite_url).parent, sqlite_url)
        with closing(StoreSink(find_store(sqlite_url), retention=Retention(find_store(sqlite_url), TEN_DAYS))) as sink:
            while sink.maintain(spool.waiting(target)):
                pass
        assert left(sqlite_url) == ({"s1"}, {"c1"})


def test_nothing_is_decided_without_the_newest_versions(sqlite_url: str, records: Records) -> None:
    """Where they cannot be stored, only ids say what is to be deleted."""
    visited = records.session("s", start_ns=1, user_id=HERS)
    keep(sqlite_url, visited, records.call(call_id="c", session_id="t"))
    now_hers = replace(visited, seen_ns=9, user_id="mara")
    with held(sqlite_url, [[now_hers]], [0]), closing(sqlite3.connect(find_store(sqlite_url).path)) as database:
        database.execute("CREATE TRIGGER broken BEFORE INSERT ON sessions BEGIN DELETE FROM nowhere; END")
        for dry_run in (True, False):
            receipt = erase(sqlite_url, CallFilter(user_id=HERS), dry_run=dry_run)
            assert (receipt.is_complete, receipt.stores[0].total) == (False, 0)
        assert erase(sqlite_url, calls="c").stores[0].calls == 1
        database.execute("DROP TRIGGER broken")
        assert erase(sqlite_url, CallFilter(user_id=HERS)).stores[0].total == 0
        assert left(sqlite_url) == ({"s"}, set())


def test_earlier_name_in_metadata_goes(store: Delivery, records: Records) -> None:
    """From rows, and from versions that come late, also where the session names its user otherwise."""
    late = records.session("s", start_ns=1, metadata={"user_id": HERS, "tenant": "clinic"})
    store.write(late, replace(late, seen_ns=9, user_id="mara", metadata={}))
    assert erase(store.url, CallFilter(user_id=HERS)).stores[0].total == 0
    for _ in range(2):
        session = store.read().session("s").session
        assert (session.user_id, session.metadata) == ("mara", {"tenant": "clinic"})
        store.write(late, records.session("t", start_ns=1, user_id="ben", metadata={"user_id": [HERS, "ben"]}))
    assert store.read().session("t").session.metadata == {"user_id": ["ben"]}


@pytest.mark.parametrize("user", ["ann", 7])
@pytest.mark.parametrize("times", ["before", "after", "waiting"])
def test_erasing_a_user_takes_no_call_of_another(
    user: str | int, times: str, store: Delivery, records: Records, tmp_path: Path
) -> None:
    """And takes what names nobody where only this user is named, whenever the records arrive."""
    hers, others = {"user_id": user}, {"user_id": "7" if user == "ann" else "ann"}
    made = [
        *(records.session(name, start_ns=START_NS) for name in ("hers", "nobodys", "mixed", "stepped")),
        records.session("called-hers", start_ns=START_NS, metadata=hers),
        records.call(call_id="h1", session_id="hers"),
        records.call(call_id="h2", session_id="hers", metadata=hers),
        event("he", session_id="hers", time_ns=START_NS),
        records.call(call_id="n1", session_id="nobodys"),
        records.call(call_id="m1", session_id="mixed"),
        records.call(call_id="m2", session_id="mixed", metadata=hers),
        records.call(call_id="m3", session_id="mixed", metadata=others),
        records.call(call_id="s1", session_id="stepped", metadata=hers),
        records.call(call_id="s2", session_id="stepped"),
        step("st", session_id="stepped", start_ns=START_NS, metadata=others),
        records.call(call_id="x1", session_id="called-hers", metadata=hers),
        records.call(call_id="x2", session_id="called-hers", metadata=others),
        records.call(call_id="x3", session_id="called-hers"),
    ]
    store.write(records.call(call_id="nobodys", session_id=None))
    if times == "before":
        store.write(*made)
    with held(store.url, [made if times == "waiting" else []], [0]):
        planned, removed = (
            erase(store.url, CallFilter(user_id=str(user)), dry_run=dry).stores[0] for dry in (True, False)
        )
    assert replace(removed, copies=False) == planned
    for _ in range(2):
        store.write(*made)
        for record in reversed(made) if times != "after" else made:
            store.write(record)
        assert left(store.url) == (
            {"nobodys", "mixed", "stepped", "called-hers"}, {"nobodys", "n1", "m1", "m3", "s2", "x2", "x3"},
        )  # fmt: skip
        assert store.read().session("called-hers").session.user_id is None
        assert [*store.read().events("hers")] == []
    if times != "after":
        assert (removed.sessions, removed.calls, removed.events) == (1, 5, 1)


def test_erasing_a_tenant_takes_no_call_of_another(store: Delivery, records: Records) -> None:
    """A session goes as a whole only if no call in it names another tenant; of its user, what names this tenant."""
    clinic, shop = ({"organization_id": name, "user_id": "ann"} for name in ("clinic", "shop"))
    store.write(
        records.session("clinic", start_ns=START_NS, user_id="ann", metadata=clinic),
        records.session("moved", start_ns=START_NS, user_id="ann", metadata=clinic),
        records.session("shop", start_ns=START_NS, user_id="ann", metadata=shop),
        records.call(call_id="c1", session_id="clinic"),
        records.call(call_id="m1", session_id="moved", metadata=shop),
        records.call(call_id="m2", session_id="moved", metadata=clinic),
        records.call(call_id="m3", session_id="moved"),
        records.call(call_id="s1", session_id="shop"),
    )
    selection = CallFilter(user_id="ann", metadata=(("organization_id", "clinic"),))
    planned, removed = (erase(store.url, selection, dry_run=dry).stores[0] for dry in (True, False))
    assert replace(removed, copies=False) == planned
    assert left(store.url) == ({"moved", "shop"}, {"m1", "m3", "s1"})


@pytest.mark.transactional("calls are deleted in one transaction with their session")
def test_large_session_that_one_call_claims_is_deleted_whole(store: Delivery, records: Records) -> None:
    store.write(records.session("s", start_ns=START_NS))
    store.write(*(records.call(call_id=f"c{number}", session_id="s") for number in range(2_100)))
    store.write(records.call(call_id="a", session_id="s", metadata={"user_id": HERS}))
    assert erase(store.url, CallFilter(user_id=HERS)).stores[0].calls == 2_101
    assert left(store.url) == (set(), set())


def test_calls_keep_the_prices_of_their_process(url: str, records: Records) -> None:
    """An erasure stores what a running process has not delivered, but does not know its prices."""
    call = records.call(call_id="c", cost=None, model="of nobody's list")
    own = Cost(usd=Decimal(7), source="own")
    with held(url, [[call]], [0]):
        assert erase(url, CallFilter(user_id=HERS)).is_complete
        assert left(url) == (set(), {"c"})
        keep(url, replace(call, cost=own))
    with closing(open_store(url)) as reader:
        assert [(one.cost, one.seen_ns) for one in reader.calls()] == [(own, call.seen_ns)]


def test_call_of_another_user_stays_when_its_process_delivers_it_again(url: str, records: Records) -> None:
    """Its session named the user, which the erasure had to store first."""
    at: dict[str, Any] = {"call_id": "c", "metadata": {"user_id": OTHER}, "timing": Timing(start_ns=START_NS)}
    answered = records.call(**at, place=Place(session_id="s"), part="answered", seen_ns=START_NS + 2)
    started = records.call(**at, part="started", seen_ns=START_NS + 1)
    session = records.session("s", start_ns=START_NS, user_id=HERS)
    with held(url, [[session, started, answered]], [0]):
        receipt = erase(url, CallFilter(user_id=HERS))
        assert (receipt.stores[0].sessions, receipt.stores[0].calls) == (0, 0)
        for version in (answered, session, started, answered):
            keep(url, version)
            assert left(url) == ({"s"}, {"c"})
            with closing(open_store(url)) as reader:
                assert reader.session("s").session.user_id is None


def test_late_version_erases_what_is_stored(store: Delivery, records: Records) -> None:
    """As if it had been there: the session is the erased user's, with what others recorded in it until then."""
    theirs = {"session_id": "s", "time_ns": START_NS}
    later_ns = time.time_ns() + 3600 * SECOND
    session = records.session("s", start_ns=START_NS, user_id=OTHER)
    store.write(
        session,
        records.session("t", start_ns=START_NS, user_id=OTHER),
        records.call(call_id="c", place=Place(session_id="s"), timing=Timing(start_ns=START_NS)),
        records.call(call_id="d", place=Place(session_id="t"), timing=Timing(start_ns=START_NS)),
        step("p", session_id="s", start_ns=START_NS),
        *(event(f"e{of}", session_id=of, time_ns=START_NS) for of in "st"),
        message("m", **theirs),
        reward("r1", **theirs),
        reward("r2", event_id="es", time_ns=START_NS),
    )
    assert erase(store.url, CallFilter(user_id=HERS)).stores[0].total == 0
    store.write(records.call(call_id="new", place=Place(session_id="s"), timing=Timing(start_ns=later_ns)))
    store.write(replace(session, seen_ns=session.seen_ns + 1, user_id=HERS))
    assert left(store.url) == ({"s", "t"}, {"d", "new"})
    with closing(store.read()) as reader:
        assert reader.session("s").session.seen_ns == 0
        assert not [*reader.timesteps("s"), *reader.events("s"), *reader.rewards()]
        assert [one.event_id for one in reader.events("t")] == ["et"]
    # A call that becomes hers, and a timestep, with what names them.
    started = records.call(call_id="c2", timing=Timing(start_ns=START_NS), part="started", seen_ns=1)
    store.write(
        started,
        message("m2", call_id="c2", time_ns=START_NS),
        step("p2", session_id="t", seen_ns=1, start_ns=START_NS),
        reward("r3", timestep_id="p2", time_ns=START_NS),
        reward("r4", session_id="t", time_ns=START_NS),
    )
    hers: dict[str, Any] = {"metadata": {"user_id": HERS}, "seen_ns": 2}
    store.write(replace(started, part="ended", **hers), step("p2", session_id="t", start_ns=START_NS, **hers))
    assert left(store.url) == ({"s", "t"}, {"d", "new"})
    with closing(store.read()) as reader:
        assert not [*reader.timesteps("t"), *reader.events(None)]
        assert [one.reward_id for one in reader.rewards()] == ["r4"]


def test_newer_version_of_another_user_takes_an_erasure_back(store: Delivery, records: Records) -> None:
    """Of a session and a timestep that were erased as the user's, not of those that were erased by id."""

    def write(user: str, seen_ns: int) -> set[str]:
        """Deliver a version, then what the user records there; return what the store has of the session."""
        mine = {"metadata": {"user_id": user}}
        store.write(records.session("s", version=seen_ns, start_ns=1, user_id=user))
        store.write(step("t", session_id="u", seen_ns=seen_ns, start_ns=1, **mine))
        store.write(records.call(call_id=f"c{seen_ns}", session_id="s", **mine))
        reader = store.read()
        sessions = {one.session_id for one in reader.stored(SessionRecord, ["s"])}
        return sessions | {one.timestep_id for one in reader.timesteps("u")}

    assert write(HERS, 5) == {"s", "t"}
    assert erase(store.url, CallFilter(user_id=HERS)).stores[0].total == 3
    assert write("mara", 4) == write(HERS, 7) == write("mara", 6) == set()
    assert write("mara", 8) == write(HERS, 5) == {"s", "t"}
    assert left(store.url) == ({"s"}, {"c4", "c6", "c8"})
    assert erase(store.url, sessions=["s", "u"]).stores[0].sessions == 1
    assert write("mara", 9) == set()
    assert left(store.url) == (set(), set())


@pytest.mark.parametrize("users", [[HERS, OTHER], (HERS,), {HERS}, {"name": HERS}], ids=str)
def test_user_is_one_name(url: str, users: object) -> None:
    """Anything else is misuse, in metadata as in the argument: no record of any kind has it."""
    handle = callspan.instrument(stores=url)
    try:
        with callspan.session("s", metadata={"user_id": users, "tenant": "clinic"}) as session:
            session.update(metadata={"user_id": users})
            with session.timestep("t", metadata={"user_id": users}) as timestep, callspan.metadata(user_id=users):
                timestep.event("e", metadata={"user_id": users})
                with callspan.record_call(provider="mine", model="m"):
                    pass
        with callspan.session("u", user_id=users), callspan.metadata(user_id=7):
            callspan.reward(1)
        assert handle.force_flush(HANG_MS)
    finally:
        handle.uninstrument()
    with closing(open_store(url)) as reader:
        sessions = [summary.session for summary in reader.sessions()]
        records: list[Record] = [*sessions, *reader.calls(), *reader.rewards()]
        records += [*reader.timesteps(sessions[0].session_id), *reader.events(sessions[0].session_id)]
        assert HERS not in "".join(encode(one).decode() for one in records)
        assert [one.user_id for one in sessions] == [None, None]
        assert any(one.metadata.get("user_id") == 7 for one in reader.rewards())
        assert "clinic" in str([one.metadata for one in sessions])


@pytest.mark.parametrize("user", [[HERS, OTHER], [HERS], [3, HERS]], ids=str)
def test_list_of_users_that_another_program_wrote_is_each_users(
    store: Delivery, records: Records, user: list[str]
) -> None:
    """As everything that names one of several users is: the session as what is recorded in it."""
    at: dict[str, Any] = {"metadata": {"user_id": user}}
    store.write(
        records.call(call_id="c", **at),
        records.call(call_id="d", metadata={"user_id": [OTHER]}),
        records.session("s", user_id=json.dumps(user), **at),
        records.session("t", user_id="[" + HERS, metadata={"user_id": "[" + HERS}),
        event("e", **at),
        reward("r", **at),
    )
    planned, removed = (erase(store.url, CallFilter(user_id=HERS), dry_run=dry).stores[0] for dry in (True, False))
    assert replace(removed, copies=False) == planned
    assert (removed.sessions, removed.calls, removed.events, removed.rewards) == (1, 1, 1, 1)
    store.write(records.call(call_id="c2", **at), records.call(call_id="c3", metadata={"user_id": HERS}))
    assert left(store.url) == ({"t"}, {"d"})


@pytest.mark.parametrize("user", [f'["{HERS}"]', f'["{HERS}", 3]', f"[{HERS}]"])
def test_user_whose_id_looks_like_a_list_is_another_user(store: Delivery, records: Records, user: str) -> None:
    """Erasing either leaves the other one, and what comes late of it; so does a filter."""
    text, hers, listed = ({"metadata": {"user_id": value}} for value in (user, HERS, [HERS]))
    store.write(
        records.call(call_id="text", **text), records.session("text", user_id=user, **text), event("text", **text),
        records.call(call_id="requested", request=callspan.records.Request(model="m", params={"user": user})),
        records.call(call_id="hers", **hers), records.session("hers", user_id=HERS, **hers),
        records.call(call_id="listed", **listed),
        records.session("listed", user_id=json.dumps([HERS], separators=(",", ":")), **listed),
    )  # fmt: skip
    assert {call.call_id for call in store.read().calls(CallFilter(user_id=user))} == {"text", "requested"}
    assert [one.session.session_id for one in store.read().sessions(CallFilter(user_id=user))] == ["text"]
    erase(store.url, CallFilter(user_id=HERS))
    store.write(records.call(call_id="late", **text))
    assert left(store.url) == ({"text"}, {"text", "requested", "late"})
    store.write(records.call(call_id="again", timing=Timing(start_ns=time.time_ns()), **listed))
    erase(store.url, CallFilter(user_id=user))
    store.write(records.call(call_id="late-again", **text))
    assert left(store.url) == (set(), {"again"})
    assert [*store.read().events(None)] == []
