"""Every readable store supports the whole command: lists, exports, the report, new costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from callspan.records import RewardRecord
from callspan.stores import database, reader

from .conftest import Delivery, Records, run


@pytest.fixture
def filled(url: str, records: Records, deliver: Callable[[str], Delivery]) -> str:
    """A session of two calls, the second continuing the first."""
    question = [{"role": "user", "content": "Hi"}]
    more = [*question, {"role": "assistant", "content": "Hello there."}, {"role": "user", "content": "Bye"}]
    store = deliver(url)
    store.write(
        records.session("s1", name="talk", start_ns=1, outcome="success", success=True),
        records.call(question, session_id="s1", at_s=1, cost=None),
        records.call(more, "Bye bye.", session_id="s1", at_s=2, cost=None),
        RewardRecord(reward_id="r", session_id="s1", value=0.5, scope="session", time_ns=2),
    )
    # The embedded ClickHouse lets one process at a time have its directory open for each connection it makes.
    store.sink.close()
    return url


def test_lists_and_sums(filled: str) -> None:
    (session,) = json.loads(run(filled, "sessions", "--json", "--min-reward", "0.5"))
    assert (session["name"], session["reward"], session["calls"]) == ("talk", 0.5, 2)
    assert len(json.loads(run(filled, "calls", "--json", "--text", "bye"))) == 1
    (sums,) = json.loads(run(filled, "stats", "--json"))
    assert (sums["calls"], sums["cost_usd"], sums["calls_without_cost"]) == (2, None, 2)
    for command in (["show", "last"], ["calls"], ["stats"], ["sessions"]):
        assert run(filled, *command)


def test_exports_and_report(filled: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    run(filled, "export", "openai-session", "-o", str(target))
    (row,) = [json.loads(line) for line in target.read_text().splitlines()]
    assert [message["content"] for message in row["messages"]] == ["Hi", "Hello there.", "Bye", "Bye bye."]
    run(filled, "export", "atif", "-o", str(target))
    assert json.loads(target.read_text())["final_metrics"]["total_prompt_tokens"] == 20
    result = json.loads(run(filled, "report", "-o", str(target), "--json"))
    assert (result["calls"], result["sessions"]) == (2, 1)
    assert "Bye bye." in target.read_text()


def test_no_list_is_silently_short(
    url: str, records: Records, deliver: Callable[[str], Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON has every row, in order, also of several calls that began at once, whatever pages they are read in."""
    monkeypatch.setattr(reader, "_READ_AT_ONCE", 7)
    monkeypatch.setattr(reader, "_IDS_AT_ONCE", 11)
    monkeypatch.setattr(database, "_AT_ONCE", 5)
    store = deliver(url)
    store.write(*(records.call(session_id=f"s{number:02}", at_s=number // 4) for number in range(60)))
    store.sink.close()
    for command, key in (("calls", "call_id"), ("sessions", "session_id"), ("stats --by session", "session")):
        every = [row[key] for row in json.loads(run(url, *command.split(), "--json"))]
        assert len(set(every)) == 60, command
        assert every == sorted(every, reverse=command != "stats --by session"), command
        page = [row[key] for row in json.loads(run(url, *command.split(), "--json", "--limit", "9", "--offset", "45"))]
        assert page == every[45:54], command
        assert "more: --offset 50 goes on, --limit N shows more, --json all" in run(url, *command.split()), command
    for sort in ("start", "cost", "duration", "tokens", "retries"):  # all alike but for the start
        listed = [row["call_id"] for row in json.loads(run(url, "calls", "--sort", sort, "--json"))]
        assert listed == sorted(listed, reverse=True), sort
        assert len(listed) == 60, sort
        back = [row["call_id"] for row in json.loads(run(url, "calls", "--sort", sort, "--reverse", "--json"))]
        assert back == listed[::-1], sort
