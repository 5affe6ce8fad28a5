"""`--min-reward` limits every list and sum to sessions with enough reward."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.cli.score_filter import ScoredReader, Scoring
from callspan.records import Place, RewardRecord
from callspan.stores import CallFilter
from callspan.stores.urls import open_store

from .conftest import SECOND, START_NS, ask, keep, made, session


@pytest.fixture
def rewarded(anywhere: str) -> str:
    """Three sessions of two calls each, worth -1, 0.5 and 2, one without reward, and a call outside all."""
    records: list[Any] = [made("loose", at_ns=START_NS)]
    for at, worth in enumerate((-1.0, 0.5, 2.0, None)):
        name = f"s{at}"
        records.append(session(name, start_ns=START_NS + at * SECOND))
        for number in range(2):
            start = START_NS + (10 * at + number) * SECOND
            records.append(made(f"{name}-c{number}", at_ns=start, place=Place(session_id=name)))
        if worth is not None:
            given = {"reward_id": f"r{at}", "session_id": name, "scope": "session", "time_ns": START_NS}
            records.append(RewardRecord(**given, value=worth))  # type: ignore[arg-type]
    return keep(anywhere, *records)


@pytest.mark.parametrize(("least", "sessions"), [("0.5", {"s1", "s2"}), ("-1", {"s0", "s1", "s2"}), ("2", {"s2"})])
def test_lists_and_sums_have_only_sessions_with_enough_reward(rewarded: str, least: str, sessions: set[str]) -> None:
    def rows(*arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask("--store", rewarded, *arguments, "--json", "--min-reward", least).json
        return found

    assert {row["session_id"] for row in rows("sessions")} == sessions
    assert {row["session_id"] for row in rows("calls")} == sessions
    assert {row["session"] for row in rows("stats", "--by", "session")} == sessions
    assert sum(row["calls"] for row in rows("stats")) == 2 * len(sessions)


def test_pages_apply_to_the_filtered_sessions(rewarded: str) -> None:
    given = ("--store", rewarded, "calls", "--min-reward", "0.5")
    assert [row["call_id"] for row in ask(*given, "--limit", "2", "--offset", "1", "--json").json] == ["s2-c0", "s1-c1"]
    assert "1 more" in ask(*given, "--limit", "3").out
    assert ask("--store", rewarded, "calls", "--min-reward", "3").code == 1


def test_a_reward_filtered_reader_finds_single_records_regardless_of_reward(rewarded: str) -> None:
    reader = open_store(rewarded)
    narrow = ScoredReader(reader, Scoring(min_reward=1.0))
    assert narrow.call("loose") == reader.call("loose")
    assert narrow.session("s0") == reader.session("s0")
    assert narrow.count_calls(CallFilter(session_id="s0")) == 0
    assert list(narrow.timesteps("s0")) == []
    assert list(narrow.events("s0")) == list(reader.events("s0"))
    narrow.close()
