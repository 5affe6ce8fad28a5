"""The same records give the same output from every store, for every reading sub-command and filter."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.reports.reading import data

from callspan.cli.commands import callspan
from callspan.records import (
    Cost,
    ErrorInfo,
    EventRecord,
    MessageRecord,
    Place,
    Record,
    RewardRecord,
    TimestepRecord,
    Usage,
)

from .conftest import SECOND, START_NS, Delivery, Records

SECOND_CALL = "01990000-0000-7000-8000-000000000002"
LISTS = ("calls", "sessions", "stats")
FILTERS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "session": ("--session", "run-b"),
    "model": ("--model", "gpt-5-mini"),
    "answering model": ("--model", "gpt-5-2025-08-07"),
    "provider": ("--provider", "anthropic"),
    "since": ("--since", "2025-10-09T08:54:00Z"),
    "until": ("--until", "2025-10-09T08:54:00Z"),
    "error": ("--failed",),
    "no error": ("--no-failed",),
    "min reward": ("--min-reward", "0.5"),
    "text": ("--text", "Straße"),
    "all at once": (
        "--model",
        "gpt-5",
        "--no-failed",
        "--min-reward",
        "0.5",
        "--text",
        "east",
        "--since",
        "2025-01-01",
    ),
    "none": ("--model", "nobody"),
}
OTHERS: dict[str, tuple[str, ...]] = {
    "calls, a page": ("calls", "--limit", "2", "--offset", "1", "--reverse"),
    "sessions, a page": ("sessions", "--limit", "1", "--offset", "1"),
    "sessions, bounds": ("sessions", "--max-reward", "0.9", "--status", "failure"),
    "stats by provider": ("stats", "--by", "provider"),
    "stats by session": ("stats", "--by", "session", "--min-reward", "-9"),
    "stats by day": ("stats", "--by", "day"),
    "a session": ("show", "run-a"),
    "a part of a session": ("show", "run-a", "--limit", "2", "--offset", "1"),
    "the newest session": ("sessions", "--limit", "1"),
    "a call": ("show", SECOND_CALL),
    "nothing": ("show", "nobody"),
    "reprice": ("reprice", "--all", "--dry-run"),
}
EXPORTS = ("openai", "openai-session", "preferences", "atif", "rollouts")


def recorded(records: Records) -> list[Record]:
    """Two rewarded sessions of one task and one without, calls outside, of two providers, good and bad."""
    question = [{"role": "user", "content": "Which way out of the Straße?"}]
    more = [*question, {"role": "assistant", "content": "Go EAST."}, {"role": "user", "content": "And then?"}]
    late = {"kind": "rate_limit", "type": "RateLimitError", "message": "slow down", "status": 429}
    found: list[Record] = [
        records.session("run-a", name="maze", task_id="t", start_ns=START_NS, outcome="success", success=True),
        records.session("run-b", name="maze", task_id="t", start_ns=START_NS + 60 * SECOND, outcome="failure"),
        records.session("run-c", name="idle", start_ns=START_NS + 90 * SECOND),
        TimestepRecord(
            timestep_id="step-1", session_id="run-a", seen_ns=1, index=0, start_ns=START_NS, terminated=True
        ),
        EventRecord(
            event_id="e1", session_id="run-a", timestep_id="step-1", event_type="tool", name="look", reward=0.25,
            time_ns=START_NS + 2 * SECOND, duration_ns=1000, data={"arguments": {"at": "east"}, "result": "wall"},
        ),
        MessageRecord(
            message_id="m1", session_id="run-a", message_type="observation", sender="env", receiver="agent",
            time_ns=START_NS + 1, content={"at": [0, 1]},
        ),
    ]  # fmt: skip
    for number, (session_id, reward) in enumerate((("run-a", 1.5), ("run-b", 0.25))):
        found.append(
            RewardRecord(reward_id=f"r{number}", session_id=session_id, value=reward, scope="session", time_ns=START_NS)
        )
    inside = Place(session_id="run-a", session_name="maze", timestep_id="step-1", timestep=0)
    own = Cost(usd=Decimal("0.000000000123456789"), source="mine")
    found += [
        records.call(question, "Go EAST.", place=inside, at_s=1, cost=own),
        records.call(more, "Then east again.", place=inside, at_s=3, retries=2, usage=Usage(input_tokens=3)),
        records.call(question, "Go west.", session_id="run-b", at_s=61, model="gpt-5-mini", provider="anthropic"),
        records.call(question, session_id="run-b", at_s=62, outcome="error", error=ErrorInfo(**late), usage=None),
        records.call(question, session_id="run-b", at_s=63, outcome="cancelled"),
        records.call([{"role": "user", "content": "Nobody's."}], "Nobody's, too.", at_s=120, model="gpt-5-mini"),
    ]
    return found


class StoreCommand:
    """One store, asked by the command."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, *arguments: str) -> tuple[int, Any]:
        result = CliRunner().invoke(callspan, ["--store", self.url, *arguments], catch_exceptions=False)
        return result.exit_code, json.loads(result.stdout or "null")


@pytest.fixture
def stores(
    url: str, tmp_path: Path, records: Records, deliver: Callable[[str], Delivery]
) -> tuple[StoreCommand, StoreCommand]:
    """The store under test, and SQLite beside it, with the same records."""
    made = recorded(records)
    beside = f"sqlite:///{tmp_path}/beside.db"
    for one in (url, beside):
        store = deliver(one)
        store.write(*made)
        # The embedded ClickHouse lets one process at a time have its directory open for each connection it makes.
        store.sink.close()
    return StoreCommand(url), StoreCommand(beside)


def test_lists_and_sums_with_every_filter(stores: tuple[StoreCommand, StoreCommand]) -> None:
    here, beside = stores
    for name, options in FILTERS.items():
        for command in LISTS:
            found = here(command, "--json", *options)
            assert found == beside(command, "--json", *options), (command, name)
    assert len(here("calls", "--json")[1]) == 6


def test_each_filter_chooses_something_of_its_own(stores: tuple[StoreCommand, StoreCommand]) -> None:
    here, _ = stores
    chosen = {name: len(here("calls", "--json", *options)[1]) for name, options in FILTERS.items()}
    assert chosen == {
        "nothing": 6, "session": 3, "model": 2, "answering model": 4, "provider": 1, "since": 4, "until": 2,
        "error": 1, "no error": 4, "min reward": 2, "text": 5, "all at once": 2, "none": 0,
    }  # fmt: skip


def test_pages_trees_and_single_calls(stores: tuple[StoreCommand, StoreCommand]) -> None:
    here, beside = stores
    for name, arguments in OTHERS.items():
        assert here(*arguments, "--json") == beside(*arguments, "--json"), name


def test_exports_are_the_same_files(stores: tuple[StoreCommand, StoreCommand], tmp_path: Path) -> None:
    for format_name in EXPORTS:
        files = [tmp_path / f"{format_name}-{number}.jsonl" for number in range(2)]
        outputs = []
        for store, target in zip(stores, files, strict=True):
            code, statistics = store("export", format_name, "-o", str(target), "--json")
            outputs.append((code, statistics | {"file": None}, target.read_bytes() if target.exists() else None))
        assert outputs[0] == outputs[1], format_name


def test_reports_show_the_same(stores: tuple[StoreCommand, StoreCommand], tmp_path: Path) -> None:
    pages = []
    for number, store in enumerate(stores):
        target = tmp_path / f"{number}.html"
        code, output = store("report", "-o", str(target), "--json", "--min-reward", "0")
        assert (code, output["calls"], output["sessions"]) == (0, 5, 2)
        read = data(target.read_text())
        del read["contents"]
        pages.append(read)
    assert pages[0] == pages[1]
