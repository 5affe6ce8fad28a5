"""Makes a large store: one session for every 50 calls, and a long one of 20,000 in 2,000 steps.

Calls are delivered as a shipper does it; in SQLite those beyond 20,000 are copies of rows with ids, times and texts of
their own, inserted with all indexes in place, so that the file is as large as that of delivered calls. With STEPS it
has an episode of so many steps without calls, too.

python bench/large_store.py FILE|URL CALLS [STEPS]
"""

from __future__ import annotations

import itertools
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import msgspec

import workload
from callspan.delivery.store_sink import StoreSink
from callspan.records import CallRecord, EventRecord, Place, Record, SessionRecord, TimestepRecord
from callspan.stores.sqlite.file import open_for_writing
from callspan.stores.urls import find_store

DELIVERED = 20_000
LONG = "long-session"
"""Id of the session of the last 20,000 calls, where there are more."""
EPISODE = "episode"
"""Id of the session with steps and rewards."""
_FIRST_NS = 1_700_000_000 * 10**9
_STEP_NS = 10**7
_PER_STEP = 10
"""Calls of each step of the long session."""
_BATCH = 1_000
_MANDATORY = 3
"""Arguments of the command, its name included."""
_USERS = 1_000
_SESSION = "01990000-0000-7000-8000-5"
_CALL = "01990000-0000-7000-8000-"
_STEP = "01990000-0000-7000-8000-7"


def make(store: str, calls: int) -> None:
    """Write so many calls, priced, and their sessions to a new store, a file or a URL; deliver those of others all."""
    if not is_sqlite(store):
        deliver(store, _payloads(calls - DELIVERED) if calls > DELIVERED else _payloads(calls))
        deliver(store, _long(calls) if calls > DELIVERED else iter(()))
        return
    deliver(store, _payloads(min(calls, DELIVERED)))
    if calls > DELIVERED:
        multiply(Path(store), calls // DELIVERED)
        deliver(store, _steps(Path(store)))


def is_sqlite(store: str) -> bool:
    """Return whether a store is a file of SQLite."""
    return "://" not in store and not store.endswith(".jsonl")


def deliver(store: str | Path, payloads: Iterator[bytes]) -> None:
    """Deliver these records."""
    sink = StoreSink(find_store(str(store)))
    sink.open()
    while batch := list(itertools.islice(payloads, _BATCH)):
        sink.deliver(batch)
    sink.close()


def episode(steps: int) -> Iterator[bytes]:
    """Yield an episode with an action and a reward in each step; runs of ten steps have the same."""
    end_ns = _FIRST_NS + steps * _STEP_NS
    session = SessionRecord(
        session_id=EPISODE, seen_ns=_FIRST_NS, name="episode", start_ns=_FIRST_NS, end_ns=end_ns, outcome="success"
    )
    yield msgspec.json.encode(session)
    for number in range(steps):
        yield from map(msgspec.json.encode, _step(number))


def _step(number: int) -> Iterator[Record]:
    start_ns, step_id = _FIRST_NS + number * _STEP_NS, f"episode-step-{number:06}"
    yield TimestepRecord(
        timestep_id=step_id,
        session_id=EPISODE,
        seen_ns=start_ns,
        index=number,
        start_ns=start_ns,
        end_ns=start_ns + _STEP_NS,
        outcome="success",
    )
    for at, (kind, reward, data) in enumerate(
        (
            ("action", None, {"action": f"move {('north', 'east', 'south', 'west')[number // 10 % 4]}"}),
            ("environment", number // 10 % 3 - 1.0, {"after": {"x": number % 17, "y": number % 13}}),
        ),
        start=1,
    ):
        yield EventRecord(
            event_id=f"{step_id}-{kind}",
            session_id=EPISODE,
            timestep_id=step_id,
            timestep=number,
            event_type=kind,
            time_ns=start_ns + at * _STEP_NS // 3,
            reward=reward,
            data=data,
        )


_NUMBERS = 1 << 24
"""More than the contents of one session have."""


def _moved(at: int, session: str) -> str:
    """Return the SQL of a number of a range of contents in a copy."""
    return f"json_extract(r.value, '$[{at}]')" + (f" + ({session}) * {_NUMBERS}" if at else "")


def multiply(path: Path, times: int) -> None:
    """Add copies of all calls until there are so many times as many; the last copy is one long session."""
    connection = open_for_writing(path)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-400000")
    (calls,) = connection.execute("SELECT max(id) FROM calls").fetchone()
    (texts,) = connection.execute("SELECT max(rowid) FROM contents").fetchone()
    for number in range(1, times):
        connection.execute("BEGIN")
        _copy_texts(connection, texts, number, calls // workload.PER_SESSION, is_long=number == times - 1)
        _copy_calls(connection, number, calls, is_long=number == times - 1)
        connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _copy_texts(connection: sqlite3.Connection, texts: int, number: int, sessions: int, *, is_long: bool) -> None:
    """Copy the first contents, each turned by some characters, so that every text is another."""
    turned = f"substr(text, {number + 1}) || substr(text, 1, {number})"
    serial = f"dense_rank() OVER (ORDER BY owner) - 1 + {number * sessions}"
    owner = f"'s:{LONG}'" if is_long else f"'s:{_SESSION}' || printf('%011x', {serial})"
    connection.execute(
        f"INSERT INTO contents SELECT {owner}, n + ({serial}) * {_NUMBERS}, randomblob(16), role, data, {turned}"
        f" FROM contents WHERE rowid <= {texts}"
    )


def _copy_calls(connection: sqlite3.Connection, number: int, calls: int, *, is_long: bool) -> None:
    first, sessions = number * calls, calls // workload.PER_SESSION
    step = f"(id - 1) / {_PER_STEP}"
    later = f"start_ns + {first * workload.STEP_NS}", f"end_ns + {first * workload.STEP_NS}"
    at = f"(id - 1) / {workload.PER_SESSION} + {number * sessions}"
    other = f"'req_' || printf('%04x', {number}) || substr(request_id, 9)"
    of_call = {
        "id": f"id + {first}",
        "call_id": f"'{_CALL}' || printf('%012x', id - 1 + {first})",
        "session_id": f"'{LONG}'" if is_long else f"'{_SESSION}' || printf('%011x', {at})",
        **({"timestep": step, "timestep_id": f"'{_STEP}' || printf('%011x', {step})"} if is_long else {}),
        "trace_id": f"printf('%032x', {at} + 1)",
        "span_id": f"printf('%016x', id + {first})",
        "response_id": f"'chatcmpl-' || printf('%04x', {number}) || substr(response_id, 14)",
        "request_id": other,
        "attempts": f"replace(attempts, substr(request_id, 5), substr({other}, 5))",
        **dict(zip(("start_ns", "end_ns"), later, strict=True)),
        **{name: f"{name} + ({at}) * {_NUMBERS}" for name in ("request", "output")},
        "contents": f"(SELECT json_group_array(json_array({', '.join(_moved(place, at) for place in range(3))}))"
        " FROM json_each(contents) r)",
    }
    _copy(connection, "calls", of_call, f"id <= {calls}")
    serial = f"row_number() OVER (ORDER BY session_id) - 1 + {number * sessions}"
    of_session = {
        "session_id": f"'{LONG}'" if is_long else f"'{_SESSION}' || printf('%011x', {serial})",
        "trace_id": f"printf('%032x', {serial} + 1)",
        **dict(zip(("start_ns", "end_ns"), later, strict=True)),
    }
    below = f"'{_SESSION}' || printf('%011x', {sessions})"
    last = " LIMIT 1" if is_long else ""
    _copy(connection, "sessions", of_session, f"session_id < {below}{last}")


def _copy(connection: sqlite3.Connection, table: str, other: Mapping[str, str], condition: str) -> None:
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(other.get(name, name) for name in names)
    connection.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table} WHERE {condition}")


def _payloads(calls: int) -> Iterator[bytes]:
    for number, record in enumerate(workload.records(calls)):
        if number % workload.PER_SESSION == 0:
            yield msgspec.json.encode(_session(record, number // workload.PER_SESSION))
        yield msgspec.json.encode(record)


def _long(calls: int) -> Iterator[bytes]:
    """Yield the long session, which has the last calls."""
    for number, record in enumerate(itertools.islice(workload.records(calls), calls - DELIVERED, None)):
        index, first = divmod(number, _PER_STEP)
        place = Place(session_id=LONG, session_name="bench", timestep=index, timestep_id=f"{_STEP}{index:011x}")
        call = msgspec.structs.replace(record, place=place)
        start_ns = record.timing.start_ns
        if number == 0:
            yield msgspec.json.encode(_session(call, 0))
        if first == 0:
            yield msgspec.json.encode(_long_step(str(place.timestep_id), index, start_ns, start_ns + 10**10))
        yield msgspec.json.encode(call)


def _long_step(step_id: str, index: int, start_ns: int, end_ns: int) -> TimestepRecord:
    return TimestepRecord(
        timestep_id=step_id,
        session_id=LONG,
        seen_ns=start_ns,
        index=index,
        start_ns=start_ns,
        end_ns=end_ns,
        outcome="success",
    )


def _steps(path: Path) -> Iterator[bytes]:
    """Yield the steps of the long session."""
    sql = "SELECT timestep_id, timestep, min(start_ns), max(end_ns) FROM calls WHERE session_id = ? GROUP BY 1, 2"
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(sql, (LONG,)).fetchall()
    yield from (msgspec.json.encode(_long_step(*row)) for row in found)


def _session(first: CallRecord, number: int) -> SessionRecord:
    start_ns = first.timing.start_ns
    return SessionRecord(
        session_id=str(first.place.session_id),
        seen_ns=start_ns,
        name=first.place.session_name,
        user_id=f"user-{number % _USERS}",
        trace_id=first.trace_id,
        start_ns=start_ns,
        end_ns=start_ns + 10**10,
        outcome="success",
    )


def main() -> None:
    """Make the store and say what it took."""
    store, calls = sys.argv[1], int(sys.argv[2])
    began = time.process_time()
    make(store, calls)
    if len(sys.argv) > _MANDATORY:
        deliver(store, episode(int(sys.argv[_MANDATORY])))
    size = f", {Path(store).stat().st_size / calls / 1000:.2f} KB a call" if Path(store).is_file() else ""
    print(f"{calls:,} calls, {time.process_time() - began:.0f} s of CPU{size}")


if __name__ == "__main__":
    main()
