"""The sums of calls, and the view of them in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

from callspan.records import Cost

from .conftest import Delivery, Records

HOUR_S = 3600


def test_the_view_has_the_sums_by_session_hour_model_and_provider(
    tmp_path: Path, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    store = deliver(f"sqlite:///{tmp_path}/calls.db")
    store.write(
        records.call(session_id="a"),
        records.call(session_id="a", cost=Cost(usd=Decimal("1E-20"), source="mine")),
        records.call(session_id="a", model="gpt-4o", at_s=2 * HOUR_S, outcome="timeout", usage=None, cost=None),
        records.call(session_id=None, outcome="cancelled"),
    )
    sql = """
        SELECT session_id, hour, model, provider, calls, errors, cancelled, in_tok, exact_costs, costs,
               last_ns >= first_ns
          FROM call_sums ORDER BY session_id, hour"""
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        rows = connection.execute(sql).fetchall()
    hour = rows[0][1]
    assert rows == [
        (None, hour, "gpt-5", "openai", 1, 0, 1, 10, 1, 1, 1),
        ("a", hour, "gpt-5", "openai", 2, 0, 0, 20, 1, 2, 1),
        ("a", hour + 2, "gpt-4o", "openai", 1, 1, 0, None, 0, 0, 1),
    ]


def test_a_later_version_of_a_call_counts_once(url: str, records: Records, deliver: Callable[[str], Delivery]) -> None:
    store, call_id = deliver(url), records.new_id()
    store.write(records.call(call_id=call_id, session_id="a", part="started", usage=None, cost=None, outcome="started"))
    store.write(records.call(call_id=call_id, session_id="a"))
    store.write(records.call(call_id=call_id, session_id="b", seen_ns=3, at_s=5 * HOUR_S))
    (found,) = store.read().summary("session")
    assert (found.key, found.calls, found.input_tokens) == ("b", 1, 10)
