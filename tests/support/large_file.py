"""A large SQLite file within seconds: a few sessions of an agent, delivered as records, then repeated by SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
from tests.support.records import SECOND, START_NS, Delivery, Records, event, reward, step

from callspan.records import (
    Attempt,
    CallRecord,
    ErrorInfo,
    Place,
    Record,
)  # fmt: skip

TURNS: Final = 50
SESSIONS: Final = 20
ORIGINALS: Final = TURNS * SESSIONS
_WORDS: Final = "the agent reads the grid and takes one step towards the key before it opens the next door of the hall "
NUMBERED: Final = ("call_id", "session_id", "timestep_id", "event_id", "reward_id", "trace_id", "span_id")
"""Ids that begin with the number of the copy, so that those of a copy follow those of the original."""
SUFFIXED: Final = (
    "response_id", "request_id", "user_id", "group_id", "task_id", "experiment", "continues", "conversation_id",
)  # fmt: skip
"""Ids that end with it."""
TIMES: Final = ("start_ns", "end_ns", "time_ns")
_REPEATED: Final = {
    **dict.fromkeys(NUMBERED, "printf('%08x', k) || substr({0}, 9)"),
    **dict.fromkeys(SUFFIXED, "{0} || '-' || k"),
    **dict.fromkeys(TIMES, f"{{0}} + k * {ORIGINALS * SECOND}"),
    "request": "{0} + k * :numbers",
    "output": "{0} + k * :numbers",
    "contents": """(SELECT json_group_array(json_array(json_extract(r.value, '$[0]'),
      json_extract(r.value, '$[1]') + k * :numbers, json_extract(r.value, '$[2]') + k * :numbers))
      FROM json_each({0}) r)""",
}
"""SQL of a column in copy `k`; columns that are not here stay as they are."""
_CONTENTS: Final = """
INSERT INTO contents (n, owner, hash, role, data, text)
SELECT n + k * :numbers, CASE WHEN owner = 's:' || :single THEN owner
    ELSE substr(owner, 1, 2) || printf('%08x', k) || substr(owner, 11) END, randomblob(16), role, data, text
  FROM numbers CROSS JOIN contents
"""
_NUMBERS: Final = 1 << 32
"""More than the contents of an original session have."""


def make_sessions(path: Path, calls: int) -> None:
    """Make a file of so many calls, a multiple of `ORIGINALS`: 50 in a session, each with a step and what it did."""
    _make(path, agents(Records()), calls // ORIGINALS, _REPEATED)


def make_session(path: Path, steps: int) -> None:
    """Make a file with one session of so many steps, a multiple of `ORIGINALS`, and one of `TURNS` steps."""
    numbers = f"{{0}} + k * {ORIGINALS}"
    repeated = {**_REPEATED, "session_id": "{0}", "user_id": "{0}", "timestep": numbers, "sequence": numbers}
    _make(path, long_agent(Records()), steps // ORIGINALS, repeated)


def make_chats(path: Path, user_id: str) -> None:
    """Make a file with 10,000 sessions of 10 calls of one user."""
    _make(path, chats(Records(), user_id), 100, {**_REPEATED, "user_id": "{0}"})


def _make(path: Path, originals: Iterable[Record], times: int, repeated: Mapping[str, str]) -> None:
    delivery = Delivery(f"sqlite:///{path}")
    delivery.write(*originals)
    delivery.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Nothing needs to survive here: half the time of a build that could be taken back.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute("BEGIN")
        _repeat(connection, times, repeated)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL").fetchall()


def _repeat(connection: sqlite3.Connection, times: int, repeated: Mapping[str, str]) -> None:
    (single,) = connection.execute("SELECT max(session_id) FROM sessions").fetchone()
    values = {"numbers": _NUMBERS, "single": single if repeated["session_id"] == "{0}" else ""}
    connection.execute("CREATE TEMP TABLE numbers (k INTEGER PRIMARY KEY)")
    connection.executemany("INSERT INTO numbers VALUES (?)", [(number,) for number in range(1, times)])
    for sql in (_CONTENTS, *(_rows(connection, table, repeated) for table in _TABLES)):
        connection.execute(sql, values)


_TABLES: Final = ("calls", "sessions", "timesteps", "events", "rewards")


def _rows(connection: sqlite3.Connection, table: str, repeated: Mapping[str, str]) -> str:
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "id"]
    values = [repeated.get(name, "{0}").format(name) for name in names]
    return (
        f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} FROM numbers CROSS JOIN {table}"
    )


def agents(records: Records) -> Iterator[Record]:
    """Yield the records of `SESSIONS` sessions: a turn is a step, a call, a tool that ran and its reward."""
    for number in range(SESSIONS):
        yield from _agent(records, number)


def chats(records: Records, user_id: str) -> Iterator[Record]:
    """Yield the records of 100 sessions of 10 calls; each call has all of its history."""
    for number in range(100):
        session_id = records.new_id()
        yield records.session(session_id, user_id=user_id, start_ns=START_NS, end_ns=START_NS + 10 * SECOND)
        history: list[object] = [{"role": "system", "content": _WORDS * 20}]
        for turn in range(10):
            history = [*history, {"role": "user", "content": f"Question {turn} of chat {number}. {_WORDS}"}]
            answer = f"Answer {turn} of chat {number}. {_WORDS}"
            yield records.call(
                history, answer, at_s=turn, call_id=records.new_id(), session_id=session_id,
                metadata={"user_id": user_id},
            )  # fmt: skip
            history = [*history, {"role": "assistant", "content": answer}]


def _agent(records: Records, number: int) -> Iterator[Record]:
    session_id = records.new_id()
    began = number * TURNS
    yield records.session(
        session_id,
        name=f"gridworld-{number % 3}",
        group_id=f"group-{number % 4}",
        task_id=f"task-{number}",
        experiment=f"experiment-{number % 2}",
        user_id=f"user-{number}",
        start_ns=START_NS + began * SECOND,
        end_ns=START_NS + (began + TURNS) * SECOND,
        outcome="success",
        metadata={"seed": number},
    )
    history: list[object] = [
        {"role": "system", "content": f"Agent {number}: " + _WORDS * 20},
        {"role": "user", "content": f"Fetch the key of room {number}."},
    ]
    for turn in range(TURNS):
        step_id = records.new_id()
        at_s = began + turn
        answer = f"Step {turn} of agent {number}: {_WORDS[turn:]}"
        yield from _turn(records, Place(session_id=session_id, timestep=turn, timestep_id=step_id), at_s)
        yield _call(records, history, answer, Place(session_id=session_id, timestep=turn, timestep_id=step_id), at_s)
        seen = f"Room {turn} of agent {number}. " + _WORDS * (15 if turn % 10 == 0 else 1)
        history = [*history, {"role": "assistant", "content": answer}, {"role": "user", "content": seen}]
    if number % 2:
        yield reward(
            records.new_id(), number / SESSIONS, session_id=session_id, scope="session",
            time_ns=START_NS + (began + TURNS) * SECOND,
        )  # fmt: skip


def long_agent(records: Records) -> Iterator[Record]:
    """Yield the records of one session of `ORIGINALS` turns, of which each call knows the last few."""
    session_id = records.new_id()
    yield records.session(session_id, name="long", start_ns=START_NS, outcome="success")
    for turn in range(ORIGINALS):
        place = Place(session_id=session_id, timestep=turn, timestep_id=records.new_id())
        history: list[object] = [
            {"role": "user", "content": f"Room {number} of the long agent. {_WORDS}"}
            for number in range(turn, turn + 5)
        ]
        yield from _turn(records, place, turn)
        made = _call(records, history, f"Step {turn}: {_WORDS}", place, turn)
        # Its requests have all of their history.
        request = msgspec.structs.replace(made.request, continues=None, conversation_id=None)
        yield msgspec.structs.replace(made, request=request)


def _call(records: Records, history: list[object], answer: str, place: Place, at_s: int) -> CallRecord:
    failed = at_s % 97 == 0
    made = records.call(
        history,
        answer,
        at_s=at_s,
        model=("gpt-5", "gpt-5-mini", "gpt-4o")[at_s % 3],
        place=place,
        trace_id=f"{at_s:032x}",
        outcome="error" if failed else "success",
        error=ErrorInfo(kind="server", type="InternalServerError") if failed else None,
        metadata={"user_id": f"user-{at_s // TURNS}", "run_id": f"run-{at_s // TURNS}"},
        attempts=[Attempt(number=1, start_ns=5, status=500 if failed else 200, request_id=f"req_{at_s}")],
    )
    before = f"resp_{at_s - 1}" if at_s % TURNS else None
    return msgspec.structs.replace(
        made,
        request=msgspec.structs.replace(made.request, continues=before, conversation_id=f"conv_{at_s // TURNS}"),
        response=made.response and msgspec.structs.replace(made.response, id=f"resp_{at_s}"),
    )


def _turn(records: Records, place: Place, at_s: int) -> Iterator[Record]:
    start_ns = START_NS + at_s * SECOND
    yield step(
        str(place.timestep_id), session_id=place.session_id, index=place.timestep or 0, start_ns=start_ns,
        end_ns=start_ns + SECOND, outcome="success", terminated=False,
    )  # fmt: skip
    yield event(
        records.new_id(), session_id=place.session_id, timestep_id=place.timestep_id, timestep=place.timestep,
        time_ns=start_ns + SECOND // 2, sequence=place.timestep, data={"room": at_s}, reward=(at_s % 7) / 7,
    )  # fmt: skip
