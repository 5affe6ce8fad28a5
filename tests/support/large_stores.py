"""A large store within seconds: a few sessions of an agent, delivered as records, then repeated by SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
from tests.stores.conftest import Kind, client_of, definitions
from tests.support.records import SECOND, START_NS, Records, event, keep, reward, step

from callspan.records import Attempt, ErrorInfo, Place, Record

TURNS: Final = 50
SESSIONS: Final = 20
ORIGINALS: Final = TURNS * SESSIONS
_WORDS: Final = "the agent reads the grid and takes one step towards the key before it opens the next door of the hall "
_NUMBER: Final = "substr(CAST(100000000 + k AS TEXT), 2)"
_REPEATED: Final = {
    # Begin with the number of the copy, so that those of a copy follow each other.
    **dict.fromkeys(
        ("call_id", "session_id", "timestep_id", "event_id", "reward_id", "trace_id", "span_id"),
        f"{_NUMBER} || substr({{0}}, 9)",
    ),
    **dict.fromkeys(
        ("response_id", "request_id", "user_id", "group_id", "task_id", "experiment", "continues", "conversation_id"),
        "{0} || '-' || k",
    ),
    **dict.fromkeys(("start_ns", "end_ns", "time_ns"), f"{{0}} + k * {ORIGINALS * SECOND}"),
    "owner": f"substr({{0}}, 1, 2) || {_NUMBER} || substr({{0}}, 11)",
}
"""SQL of a column in copy `k`, in each database; columns that are not here stay as they are."""
_MORE: Final = 1 << 32
"""More than the contents of one session."""
_IN_ONE_SESSION: Final = {
    **_REPEATED,
    **dict.fromkeys(("session_id", "user_id", "owner"), "{0}"),
    **dict.fromkeys(("timestep", "sequence"), f"{{0}} + k * {ORIGINALS}"),
    **dict.fromkeys(("n", "request", "output"), f"{{0}} + k * {_MORE}"),
    "contents": f"""(SELECT json_group_array(json_array(json_extract(r.value, '$[0]'),
      json_extract(r.value, '$[1]') + k * {_MORE}, json_extract(r.value, '$[2]') + k * {_MORE}))
      FROM json_each({{0}}) r)""",
}
"""The same where all copies are of one session, in SQLite."""
TABLES: Final = ("calls", "sessions", "timesteps", "events", "rewards")


def make_sessions(path: Path, calls: int) -> None:
    """Make a file of so many calls, a multiple of `ORIGINALS`: 50 in a session, each with a step and what it did."""
    _make(path, agents(Records()), calls // ORIGINALS, _REPEATED)


def make_short_sessions(path: Path, sessions: int) -> None:
    """Make a file of so many sessions of 4 calls, a multiple of `SESSIONS`; the originals of a copy have one task."""
    records = Records()
    originals = [record for number in range(SESSIONS) for record in _agent(records, number, 4)]
    _make(path, originals, sessions // SESSIONS, {**_REPEATED, "experiment": "{0}", "task_id": "'task-' || k"})


def make_session(path: Path, steps: int) -> None:
    """Make a file with one session of so many steps, a multiple of `ORIGINALS`; each knows the last few."""
    _make(path, _agent(Records(), 0, ORIGINALS, known=5), steps // ORIGINALS, _IN_ONE_SESSION)


def make_chats(path: Path, user_id: str) -> None:
    """Make a file with 10,000 sessions of 10 calls of one user."""
    _make(path, chats(Records(), user_id), 100, {**_REPEATED, "user_id": "{0}"})


def _make(path: Path, originals: Iterable[Record], times: int, repeated: Mapping[str, str]) -> None:
    path.parent.mkdir(exist_ok=True)
    keep(f"sqlite:///{path}", *originals)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Nothing needs to survive here: half the time of a build that could be taken back.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute("BEGIN")
        for table in ("contents", *TABLES):
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "id"]
            connection.execute(copies(table, names, 1, times - 1, repeated))
        for statement in scored("sqlite"):
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL").fetchall()


def scored(kind: Kind) -> Iterator[str]:
    """Yield the statements that compute the scores of all sessions and calls."""
    for table, definition in definitions(kind).items():
        yield f"DELETE FROM {table}"
        yield f"INSERT INTO {table} {definition}"


def copies(table: str, names: Sequence[str], first: int, last: int, repeated: Mapping[str, str] = _REPEATED) -> str:
    """Return the SQL that adds these copies of each row of a table."""
    values = [repeated.get(name, "{0}").format(name) for name in names]
    numbers = f"VALUES ({first}) UNION ALL SELECT k + 1 FROM numbers WHERE k < {last}"
    return f"""
WITH RECURSIVE numbers(k) AS ({numbers}) INSERT INTO {table} ({", ".join(names)})
SELECT {", ".join(values)} FROM numbers CROSS JOIN {table} WHERE true ON CONFLICT DO NOTHING
"""


def agents(records: Records) -> Iterator[Record]:
    """Yield the records of `SESSIONS` sessions: a turn is a step, a call, a tool that ran and its reward."""
    for number in range(SESSIONS):
        yield from _agent(records, number, TURNS)


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


def _agent(records: Records, number: int, turns: int, known: int | None = None) -> Iterator[Record]:
    """Yield the records of a session; its calls have all of their history, or the last messages that are known."""
    session_id, began = records.new_id(), number * turns
    end_ns = START_NS + (began + turns) * SECOND
    yield records.session(
        session_id,
        name=f"gridworld-{number % 3}",
        group_id=f"group-{number % 4}",
        task_id=f"task-{number}",
        experiment=f"experiment-{number % 2}",
        user_id=f"user-{number}",
        start_ns=START_NS + began * SECOND,
        end_ns=end_ns,
        outcome="success",
        metadata={"seed": number},
    )
    history: list[object] = [
        {"role": "system", "content": f"Agent {number}: " + _WORDS * 20},
        {"role": "user", "content": f"Fetch the key of room {number}."},
    ]
    for turn in range(turns):
        place = Place(session_id=session_id, timestep=turn, timestep_id=records.new_id())
        answer = f"Step {turn} of agent {number}: {_WORDS[turn % TURNS :]}"
        before = f"resp_{began + turn - 1}" if turn and known is None else None
        yield from _turn(records, history[-(known or len(history)) :], answer, place, began + turn, before)
        seen = f"Room {turn} of agent {number}. " + _WORDS * (15 if turn % 10 == 0 else 1)
        history = [*history, {"role": "assistant", "content": answer}, {"role": "user", "content": seen}]
    if number % 2:
        yield reward(records.new_id(), number / SESSIONS, session_id=session_id, scope="session", time_ns=end_ns)


def _turn(
    records: Records, history: list[object], answer: str, place: Place, at_s: int, before: str | None
) -> Iterator[Record]:
    start_ns, failed = START_NS + at_s * SECOND, at_s % 97 == 0
    yield step(
        str(place.timestep_id), session_id=place.session_id, index=place.timestep or 0, start_ns=start_ns,
        end_ns=start_ns + SECOND, outcome="success", terminated=False,
    )  # fmt: skip
    yield event(
        records.new_id(), session_id=place.session_id, timestep_id=place.timestep_id, timestep=place.timestep,
        time_ns=start_ns + SECOND // 2, sequence=place.timestep, data={"room": at_s}, reward=(at_s % 7) / 7,
    )  # fmt: skip
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
    of_call = {"scope": "call", "call_id": made.call_id} if at_s % 2 else {"timestep_id": place.timestep_id}
    yield reward(
        records.new_id(), (at_s % 11) / 10, session_id=place.session_id, objective="judge", time_ns=start_ns, **of_call
    )
    if at_s % TURNS == 0:
        yield event(
            records.new_id(), session_id=place.session_id, timestep_id=place.timestep_id, time_ns=start_ns + SECOND,
            event_type="tool", name="look", call_id=made.call_id, tool_call_id=f"call_{at_s}",
        )  # fmt: skip
    conversation_id = f"conv_{at_s // TURNS}"
    yield msgspec.structs.replace(
        made,
        request=msgspec.structs.replace(made.request, continues=before, conversation_id=conversation_id),
        response=made.response and msgspec.structs.replace(made.response, id=f"resp_{at_s}"),
    )


_AT_ONCE: Final = 250
"""Copies per insert: as many parts as the server of a fleet has after its merges."""
_VERSIONED: Final = ("session", "call", "event", "timestep", "reward", "content")


def make_clickhouse(directory: Path, calls: int) -> None:
    """Make a store of so many calls, 50 in a session, each with a step, what it did, its rewards and its messages."""
    with closing(client_of(keep(f"clickhouse+chdb://{directory}", *agents(Records())))) as client:
        for table in (*(f"{name}_versions" for name in _VERSIONED), "call_contents"):
            names = [name for name, _, default, *_ in client.query(f"DESCRIBE {table}").result_rows if not default]
            values = ", ".join(f"{_REPEATED.get(name, '{0}').format(name)} AS copied_{name}" for name in names)
            client.command(f"CREATE TABLE originals ENGINE = Memory AS SELECT * FROM {table} FINAL")
            for first in range(1, calls // ORIGINALS, _AT_ONCE):
                copies = f"(SELECT number + {first} AS k FROM numbers({min(_AT_ONCE, calls // ORIGINALS - first)}))"
                client.command(
                    f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {copies} n CROSS JOIN originals"
                )
            client.command("DROP TABLE originals")
