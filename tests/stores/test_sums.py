"""The sums stored in a SQLite file always match its calls, after writes, changes and deletions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callspan.record import call
from callspan.record.usage import Cost, Usage
from callspan.stores import retention
from callspan.stores.base import CallFilter, Grouping, Reader
from callspan.stores.retention import delete_session
from callspan.stores.sqlite import file as sqlite_file

from .conftest import START_NS, Delivery, Records

HOUR_S: Final = 3600
_FROM_THE_CALLS: Final = CallFilter(since_ns=0)
"""A condition that every call meets and that the kept sums cannot tell."""


def agree(reader: Reader) -> None:
    """Every kind of sum is the same out of the kept sums and out of the calls themselves."""
    for by in get_args(Grouping):
        kept = list(reader.summary(by))
        assert kept == list(reader.summary(by, _FROM_THE_CALLS)), by


def marks(path: Path) -> int:
    """How many hours of sessions are not summed."""
    connection = sqlite3.connect(path)
    found: int = connection.execute("SELECT count(*) FROM summed WHERE calls IS NULL").fetchone()[0]
    connection.close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


@pytest.fixture
def store(path: Path, deliver: Callable[[str], Delivery]) -> Delivery:
    return deliver(f"sqlite:///{path}")


def test_kept_sums_are_those_of_the_calls(store: Delivery, path: Path, records: Records) -> None:
    store.write(
        records.call(session_id="a"),
        records.call(session_id="a", model="gpt-4o", at_s=2 * HOUR_S, outcome="timeout", usage=None, cost=None),
        records.call(session_id=None, outcome="cancelled"),
    )
    assert marks(path) == 0
    agree(store.read())
    store.write(records.call(session_id="a", cost=Cost(usd=Decimal("1E-20"), source="mine")))
    assert marks(path) == 1, "sums are made up for every few seconds only"
    agree(store.read())
    (found,) = store.read().summary("session", CallFilter(session_id="a"))
    assert (found.calls, found.errors, found.calls_without_cost) == (3, 1, 1)
    assert found.cost_usd == Decimal("0.0000123") + Decimal("1E-20")


def test_a_later_version_of_a_call_counts_once(store: Delivery, records: Records) -> None:
    call_id = records.new_id()
    store.write(records.call(call_id=call_id, session_id="a", part="started", usage=None, cost=None, outcome="started"))
    agree(store.read())
    store.write(records.call(call_id=call_id, session_id="a"))
    agree(store.read())
    store.write(records.call(call_id=call_id, session_id="b", seen_ns=3, at_s=5 * HOUR_S))
    agree(store.read())
    (found,) = store.read().summary("session")
    assert (found.key, found.calls, found.input_tokens) == ("b", 1, 10)


def test_manual_changes_of_rows_are_included_in_the_sums(store: Delivery, path: Path, records: Records) -> None:
    store.write(*(records.call(session_id=name, at_s=number) for number, name in enumerate("aab")))
    by_hand = sqlite3.connect(path)
    by_hand.execute("UPDATE call_rows SET in_tok = 1000, session_id = NULL WHERE session_id = 'b'")
    by_hand.execute("DELETE FROM call_rows WHERE start_ns = ?", (START_NS,))
    by_hand.commit()
    by_hand.close()
    agree(store.read())
    assert {one.key: one.input_tokens for one in store.read().summary("session")} == {"a": 10, None: 1000}


def test_deleting_and_pruning_leave_sums_of_what_is_left(store: Delivery, path: Path, records: Records) -> None:
    store.write(
        *(records.call(session_id="a", at_s=number) for number in range(3)),
        records.call(session_id="b"),
        *(records.call(at_s=number) for number in range(4)),
    )
    delete_session(store.url, "b")
    retention.prune(store.url, START_NS + 2_000_000_000)
    assert marks(path) == 0
    agree(store.read())
    assert {one.key: one.calls for one in store.read().summary("session")} == {"a": 1, None: 2}


def test_summing_is_rate_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: Records) -> None:
    """A fiftieth of the time: a long sum is followed by a long rest."""
    now = [100.0]
    monkeypatch.setattr(sqlite_file.time, "monotonic", lambda: now[0])
    done: list[str] = []

    class Slow:
        def execute(self, statement: str) -> None:
            done.append(statement)
            now[0] += 1.0

    upkeep = sqlite_file.Upkeep()
    upkeep.look(Slow())  # type: ignore[arg-type]
    assert len(done) == 2
    now[0] += 99.0
    upkeep.look(Slow())  # type: ignore[arg-type]
    assert len(done) == 2
    now[0] += 2.0
    upkeep.look(Slow())  # type: ignore[arg-type]
    assert len(done) == 4


_CALLS: Final = st.tuples(
    st.integers(0, 5),
    st.integers(1, 3),
    st.sampled_from([None, "", "a", "b"]),
    st.sampled_from(["gpt-5", "", None]),
    st.sampled_from(["success", "error", "timeout", "cancelled", "started"]),
    st.integers(0, 3 * HOUR_S),
    st.none() | st.integers(0, 2**40),
    st.none() | st.sampled_from([Decimal(0), Decimal("0.1"), Decimal("1E-15")]),
)
_STEPS: Final = st.lists(
    st.tuples(st.just("write"), st.lists(_CALLS, max_size=4))
    | st.tuples(st.just("delete"), st.integers(0, 5))
    | st.tuples(st.just("move"), st.integers(0, 3 * HOUR_S))
    | st.tuples(st.just("sum"), st.none()),
    max_size=8,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(steps=_STEPS)
def test_any_history_leaves_the_sums_of_its_calls(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object]]
) -> None:
    path = tmp_path_factory.mktemp("sums") / "calls.db"
    records, store = Records(), Delivery(f"sqlite:///{path}")
    by_hand = sqlite3.connect(path, isolation_level=None)
    for step, value in steps:
        if step == "write":
            store.write(*(_made(records, one) for one in value))  # type: ignore[attr-defined]
        elif step == "delete":
            by_hand.execute("DELETE FROM call_rows WHERE call_id = ?", (f"call-{value}",))
        elif step == "move":
            by_hand.execute(
                "UPDATE call_rows SET start_ns = start_ns + ?, session_id = 'c'", (int(str(value)) * 10**9,)
            )
        else:
            sqlite_file.sum_up(by_hand)
        agree(store.read())
    by_hand.close()
    store.close()


def _made(records: Records, fields: tuple[object, ...]) -> call.CallRecord:
    number, seen_ns, session, model, outcome, at_s, tokens, usd = fields
    return records.call(
        call_id=f"call-{number}",
        seen_ns=int(str(seen_ns)),
        session_id=session,  # type: ignore[arg-type]
        at_s=float(str(at_s)),
        outcome=outcome,
        request=call.Request(model=model),  # type: ignore[arg-type]
        response=None,
        usage=None if tokens is None else Usage(input_tokens=int(str(tokens)), output_tokens=None),
        cost=None if usd is None else Cost(usd=usd, source="mine"),  # type: ignore[arg-type]
    )
