"""Pages of calls and sessions: what is found without reading all is the same as in a list of all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

from tests.support.records import keep

from callspan import open_store
from callspan.records import Record, RewardRecord
from callspan.stores import CallFilter, Reader

from .conftest import SECOND, START_NS, Records, reward

LABELS: Final[list[dict[str, Any]]] = [
    {}, {"user_id": "ann"}, {"name": "n"}, {"inferred": True}, {"inferred": False}, {"errors": True},
    {"session_outcome": "success"}, {"min_tokens": 10},
]  # fmt: skip


READ_IN_PART: Final[list[dict[str, Any]]] = [
    *({"text": text} for text in ("question 3", "question 27", "answer", "nowhere")), {"min_reward": 0.3},
    {"objectives": ("judge",), "min_score": 0.5}, {"objectives": ("judge",), "sort": "score"}, {"label": "good"},
    {"objectives": ("judge", "taste"), "min_score": 0.2}, {"text": "answer", "min_reward": 0.3},
    {"errors": True, "objectives": ("judge",), "sort": "score", "newest_first": False}, {"sort": "tokens"},
]  # fmt: skip
"""Selections whose texts or rewards are read only where they may belong to a time."""


def test_a_page_is_a_part_of_the_list_of_all(url: str) -> None:
    """A list that begins with the oldest is always made of all."""
    rng = random.Random(url.partition(":")[0])
    with closing(open_store(keep(url, *kept(rng)))) as reader:
        assert ids(reader), "the store lists nothing"
        for labels in LABELS:
            newest = ids(reader, newest_first=False, **labels)[::-1]
            assert ids(reader, **labels) == newest, labels
            assert ids(reader, limit=0, **labels) == []
            for _ in range(4):
                offset, limit = rng.randrange(12), rng.randint(1, 12)
                page = ids(reader, limit=limit, offset=offset, **labels)
                assert page == newest[offset : offset + limit], (labels, offset, limit)


def test_a_page_of_a_time_has_what_began_in_it(url: str) -> None:
    rng = random.Random(url.partition(":")[0])
    with closing(open_store(keep(url, *kept(rng)))) as reader:
        for labels in LABELS:
            for number in range(6):
                since_ns, until_ns = sorted(START_NS + rng.randrange(16) * SECOND for _ in range(2))
                expected = [
                    ident for ident in ids(reader, until_ns=until_ns, newest_first=False, **labels)[::-1]
                    if ident not in ids(reader, until_ns=since_ns, newest_first=False, **labels)
                    and ident not in ids(reader, until_ns=1, newest_first=False, **labels)
                ]  # fmt: skip
                of_time: dict[str, Any] = {
                    "since_ns": since_ns,
                    "until_ns": until_ns,
                    "sort": ("start_ns", "tokens")[number % 2],
                }
                of_time |= labels
                assert sorted(ids(reader, **of_time)) == sorted(expected), of_time
                assert reader.count_sessions(CallFilter(**of_time)) == len(expected), of_time
                if number % 2 == 0:
                    assert ids(reader, limit=3, **of_time) == expected[:3], of_time


def test_a_time_selects_among_the_same(url: str) -> None:
    """Also what was said before it, and judged after it."""
    rng = random.Random(url.partition(":")[0])
    with closing(open_store(keep(url, *kept(rng), *judged(rng)))) as reader:
        starts = {call.call_id: call.timing.start_ns for call in reader.calls()}
        for fields in READ_IN_PART:
            calls = [call.call_id for call in reader.calls(CallFilter(**fields))]
            sessions = ids(reader, **fields)
            assert (calls and sessions) or fields == {"text": "nowhere"}
            for _ in range(4):
                since_ns, until_ns = sorted(START_NS + rng.randrange(18) * SECOND for _ in range(2))
                of_time = CallFilter(**fields, since_ns=since_ns, until_ns=until_ns)
                assert [call.call_id for call in reader.calls(of_time)] == [
                    ident for ident in calls if since_ns <= starts[ident] < until_ns
                ], of_time
                earlier = {*ids(reader, until_ns=since_ns), *ids(reader, until_ns=1)}
                within = {*ids(reader, until_ns=until_ns)} - earlier
                assert [*reader.listed_session_ids(of_time)] == [ident for ident in sessions if ident in within], (
                    of_time
                )
                assert reader.count_sessions(of_time) == len({*sessions} & within), of_time


def test_very_many_filters_are_answered(url: str, records: Records) -> None:
    """A window of time is read in several parts of a query, and ClickHouse takes no query above 256 KB."""
    labels = {f"key{number}": "v" for number in range(60)}
    session = records.session("s1", start_ns=START_NS + SECOND, metadata=labels)
    judged = reward("r1", 0.5, session_id="s1", scope="session", objective="judge")
    of_time = CallFilter(
        metadata=(*labels.items(),), session_outcome="unknown", since_ns=START_NS, objectives=("judge",), min_score=0.2
    )
    with closing(open_store(keep(url, session, records.call(session_id="s1", at_s=2), judged))) as reader:
        assert [*reader.listed_session_ids(of_time)] == ["s1"]
        assert len([*reader.calls(of_time)]) == 1


def ids(reader: Reader, **fields: Any) -> list[str]:
    return [*reader.listed_session_ids(CallFilter(**fields))]


def kept(rng: random.Random) -> list[Record]:
    """Sessions with a row, without one, and with a row that lacks a start; runs; calls before and after all of them."""
    records, session_ids = Records(), [f"s{number:02d}" for number in range(24)]
    made: list[Record] = []
    for session_id in rng.sample(session_ids, 14):
        start_ns = rng.choice([None, *(START_NS + rng.randrange(14) * SECOND for _ in range(3))])
        made.append(
            records.session(
                session_id, start_ns=start_ns, end_ns=rng.choice([None, START_NS + 20 * SECOND]),
                user_id=rng.choice([None, "ann", "bob"]), name=rng.choice([None, "n"]),
                outcome=rng.choice([None, "success", "failure"]),
            )
        )  # fmt: skip
    history: list[object] = []
    for number in range(90):
        history = [*history[-6:], {"role": "user", "content": f"question {number}"}] if number % 5 else []
        history = history or [{"role": "user", "content": f"question {number}"}]
        made.append(
            records.call(
                history, "answer", call_id=f"c{number:03d}", at_s=rng.randrange(16),
                outcome=rng.choice(["success", "success", "error"]),
                session_id=rng.choice([*[None] * 12, *session_ids]),
                metadata=rng.choice([{}, {"user_id": "ann"}]),
            )
        )  # fmt: skip
        history = [*history, {"role": "assistant", "content": "answer"}]
    return made


def judged(rng: random.Random) -> Iterator[RewardRecord]:
    """Rewards of calls and sessions, some with a session that is not their call's, and long after it."""
    for number in range(120):
        of_session, of_call = {"session_id": f"s{rng.randrange(24):02d}"}, {"call_id": f"c{rng.randrange(90):03d}"}
        target = rng.choice([{"scope": "session", **of_session}, {"scope": "call", **of_call}])
        yield reward(
            f"r{number}", rng.choice([None, round(rng.random(), 2)]), **of_session | target if number % 3 else target,
            objective=rng.choice(["reward", "judge", "taste"]), label=rng.choice([None, "good"]),
            time_ns=START_NS + rng.randrange(99) * SECOND,
        )  # fmt: skip
