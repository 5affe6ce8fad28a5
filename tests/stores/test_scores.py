"""Scores: the mean of an objective over a session, in lists, filters, orders, exports and pairs of every store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callspan.records import RewardRecord
from callspan.stores import ScoredReader, Scoring
from callspan.stores.sqlite.database import SQLiteDatabase

from .conftest import START_NS, Delivery, Records, run


def given(number: int, objective: str, value: float, scope: str = "event", **target: Any) -> RewardRecord:
    return RewardRecord(
        reward_id=f"r{number}", objective=objective, value=value, scope=scope, time_ns=START_NS + number, **target
    )  # type: ignore[arg-type]


@pytest.fixture
def judged(url: str, records: Records, deliver: Callable[[str], Delivery]) -> str:
    """Two sessions of a task, one judged 0.8 three times, and two calls outside: one liked, one not."""
    question = [{"role": "user", "content": "Which way?"}]
    store = deliver(url)
    store.write(
        records.session("good", name="maze", task_id="t", start_ns=START_NS, outcome="success"),
        records.session("bad", name="maze", task_id="t", start_ns=START_NS + 1, outcome="success"),
        records.session("none", name="maze", start_ns=START_NS + 2),
        records.call(question, "East.", call_id="c-good", session_id="good"),
        records.call(question, "West.", call_id="c-bad", session_id="bad"),
        records.call(question, "Up.", call_id="c-liked", at_s=5),
        records.call(question, "Down.", call_id="c-disliked", at_s=6),
        *(given(number, "judge", 0.8, session_id="good") for number in range(3)),
        *(given(10 + number, "reward", 0.8, session_id="good") for number in range(3)),
        given(3, "judge", 0.2, session_id="bad"),
        given(4, "feedback", 1, "call", session_id="good", call_id="c-good"),
        given(5, "feedback", -1, "call", session_id="bad", call_id="c-bad"),
        given(6, "feedback", 1, "call", call_id="c-liked"),
        given(7, "feedback", 0, "call", call_id="c-disliked"),
    )
    store.sink.close()
    return url


def rows(url: str, *arguments: str) -> list[Any]:
    found: list[Any] = json.loads(run(url, *arguments, "--json"))
    return found


def test_lists_are_filtered_and_sorted_by_scores_and_show_them(judged: str) -> None:
    def ids(command: str, *arguments: str) -> list[str]:
        return [row["session_id" if command == "sessions" else "call_id"] for row in rows(judged, command, *arguments)]

    assert ids("sessions", "--sort", "score", "--objective", "judge") == ["bad", "good", "none"]
    assert ids("sessions", "--objective", "judge", "--min-score", "0.5") == ["good"]
    assert ids("sessions", "--objective", "judge", "--objective", "feedback", "--min-score", "-1") == ["bad", "good"]
    assert ids("sessions", "--min-score", "2.4") == ["good"]
    assert ids("calls", "--objective", "feedback", "--min-score", "1") == ["c-liked", "c-good"]
    assert ids("calls", "--objective", "judge", "--min-score", "0") == ["c-good", "c-bad"]
    by_score = ("calls", "--objective", "feedback", "--sort", "score")
    assert ids(*by_score) == ["c-bad", "c-disliked", "c-liked", "c-good"]
    assert ids(*by_score, "--reverse", "--limit", "2") == ["c-good", "c-liked"]
    (sums,) = rows(judged, "stats", "--objective", "feedback", "--min-score", "1")
    assert sums["calls"] == 2
    assert rows(judged, "calls", "--objective", "feedback", "--limit", "1")[0]["scores"]["feedback"] == 0.0
    table = run(judged, "sessions", "--objective", "judge", "--objective", "feedback")
    assert re.search(r"judge +feedback\n", table), table
    assert re.search(r"good .*\+0\.8 \(3\) +\+1\n", table), table
    assert re.search(r"feedback\n.*\+0\n", run(judged, "calls", "--objective", "feedback"))


def test_only_sessions_with_enough_score_are_summed(
    tmp_path: Path, deliver: Callable[[str], Delivery], records: Records
) -> None:
    store = deliver(f"sqlite:///{tmp_path}/calls.db")
    store.write(*(records.session(f"s{number}") for number in range(450)), given(1, "judge", 0.8, session_id="s7"))
    reader, asked = store.read(), list[str]()
    database = reader._database
    assert isinstance(database, SQLiteDatabase)
    database.connection.set_trace_callback(asked.append)
    scored = ScoredReader(reader, Scoring(objectives=("judge",), min_score=0.5))
    assert [one.session.session_id for one in scored.sessions()] == ["s7"]
    assert sum("FROM messages" in sql for sql in asked) == 1


def test_what_users_liked_is_exported_and_pairs_are_ranked_by_an_objective(judged: str, tmp_path: Path) -> None:
    target = tmp_path / "rows.jsonl"

    def exported(*arguments: str) -> list[Any]:
        run(judged, "export", arguments[0], "-o", str(target), *arguments[1:])
        return [json.loads(line) for line in target.read_text().splitlines()]

    liked = exported("openai", "--objective", "feedback", "--min-score", "1", "--metadata")
    assert [row["messages"][-1]["content"] for row in liked] == ["East.", "Up."]
    assert liked[0]["metadata"]["scores"] == {"judge": 0.8, "feedback": 1.0}
    (pair,) = exported("preferences", "--objective", "judge", "--margin", "0.5")
    assert pair["preferred_output"][0]["content"] == "East."
    rollouts = run(judged, "export", "preferences", "--dry-run", "--objective", "judge")
    assert "judge  min +0.2" in rollouts


def test_lists_are_filtered_by_a_label_and_show_it(
    url: str, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    store, question = deliver(url), [{"role": "user", "content": "Which way?"}]

    def said(number: int, label: str, scope: Any, **target: str) -> RewardRecord:
        return RewardRecord(
            reward_id=f"r{number}", objective="feedback", label=label, scope=scope, time_ns=START_NS, **target
        )

    store.write(
        *(records.session(name, start_ns=START_NS) for name in ("s", "t")),
        records.call(question, "East.", call_id="c-s", session_id="s"),
        records.call(question, "West.", call_id="c-t", session_id="t", at_s=1),
        records.call(question, "Up.", call_id="c-alone", at_s=2),
        said(1, "rude", "call", call_id="c-alone"),
        said(2, "rude", "call", call_id="c-s", session_id="s"),
        said(3, "polite", "session", session_id="t"),
    )
    store.sink.close()
    assert [row["call_id"] for row in rows(url, "calls", "--label", "rude")] == ["c-alone", "c-s"]
    assert [row["call_id"] for row in rows(url, "calls", "--label", "polite")] == ["c-t"]
    assert [row["session_id"] for row in rows(url, "sessions", "--label", "rude")] == ["s"]
    assert rows(url, "stats", "--label", "rude")[0]["calls"] == 2
    assert run(url, "calls", "--label", "rude", "--objective", "judge", "--json", code=1).strip() == "[]"
    listed = run(url, "calls", "--objective", "feedback")
    assert re.search(r"c-alone .*rude\n", listed), listed
    assert re.search(r"c-t .*polite\n", listed), listed


def test_a_label_without_a_value_is_shown_and_is_no_score(
    url: str, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    store = deliver(url)
    store.write(
        records.session("s", start_ns=START_NS),
        records.call([{"role": "user", "content": "Which way?"}], "East.", call_id="c", session_id="s"),
        RewardRecord(
            reward_id="r", objective="feedback", label="thumbs up", scope="call", call_id="c", session_id="s",
            time_ns=START_NS,
        ),
    )  # fmt: skip
    store.sink.close()
    (row,) = rows(url, "sessions", "--objective", "feedback", "--sort", "score")
    assert row["scores"] == {}
    assert "thumbs up" in run(url, "show", "s")
    assert [one["label"] for one in rows(url, "calls", "--rewards")] == ["thumbs up"]
    for command in ("sessions", "calls"):
        assert run(url, command, "--objective", "feedback", "--min-score", "-1", "--json", code=1).strip() == "[]"
