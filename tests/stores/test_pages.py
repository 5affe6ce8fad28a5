"""Pages of sessions: the newest ones are found without reading all, and are the same as in a list of all."""

from __future__ import annotations

import random
from contextlib import closing
from typing import Any, Final

from tests.support.records import keep

from callspan import open_store
from callspan.records import Record
from callspan.stores import CallFilter, Reader

from .conftest import SECOND, START_NS, Records

LABELS: Final[list[dict[str, Any]]] = [
    {}, {"user_id": "ann"}, {"name": "n"}, {"inferred": True}, {"inferred": False}, {"errors": True},
    {"session_outcome": "success"}, {"min_tokens": 10},
]  # fmt: skip


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
                session_id=rng.choice([None, *session_ids]), outcome=rng.choice(["success", "success", "error"]),
                metadata=rng.choice([{}, {"user_id": "ann"}]),
            )
        )  # fmt: skip
        history = [*history, {"role": "assistant", "content": "answer"}]
    return made
