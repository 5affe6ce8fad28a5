"""`callspan delete`: erases what its filters select, after a confirmation, and prints a receipt."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from callspan import open_store
from callspan.records import Place, TimestepRecord
from tests.support.commands import ask, callspan
from tests.support.records import START_NS, keep, made, session


@pytest.fixture
def full(store: str) -> str:
    return keep(
        store,
        session("session-a", start_ns=START_NS, name="grid"),
        session("session-b", start_ns=START_NS),
        TimestepRecord(timestep_id="t-1", session_id="session-a", seen_ns=1, index=0),
        made("call-a", place=Place(session_id="session-a")),
        made("call-b", place=Place(session_id="session-b")),
    )


def left(url: str) -> list[str]:
    reader = open_store(url)
    found = [one.session.session_id for one in reader.sessions()] + [call.call_id for call in reader.calls()]
    reader.close()
    return sorted(found)


@pytest.mark.parametrize(
    ("chosen", "planned", "rest"),
    [
        ("session-a", "1 session, 1 call, 1 timestep", ["call-b", "session-b"]),
        ("--older-than 2100-01-01", "2 sessions, 2 calls, 1 timestep", []),
    ],
)
def test_it_says_what_it_would_delete_asks_on_a_terminal_and_wants_yes_elsewhere(
    full: str, chosen: str, planned: str, rest: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, before = ["--store", full, "delete", *chosen.split()], left(full)
    assert f"{planned} would be deleted" in " ".join(ask(*command, "--dry-run").out.split())
    answer = ask(*command)
    assert (answer.code, "--yes" in answer.err) == (2, True)
    monkeypatch.setattr("callspan.cli.delete._is_terminal", lambda: True)
    refused = CliRunner().invoke(callspan, command, input="n\n")
    assert (refused.exit_code, f"{planned} would be deleted" in refused.stderr) == (1, True)
    assert left(full) == before
    assert CliRunner().invoke(callspan, command, input="y\n").exit_code == 0
    assert left(full) == rest


def test_the_receipt_as_json_is_that_of_the_plan(full: str) -> None:
    planned, done = (ask("--store", full, "--json", "delete", "session-a", how).json for how in ("--dry-run", "--yes"))
    assert (planned["dry_run"], planned["complete"], planned["stores"][0]["calls"]) == (True, True, 1)
    assert (done["dry_run"], done["complete"], done["stores"][0]["calls"]) == (False, True, 1)


def test_an_id_of_several_or_of_something_else_deletes_nothing(full: str) -> None:
    before = left(full)
    for given, why in (
        ("session-", "2 sessions begin with"), ("--call call-", "2 calls begin with"), ("t-1", "t-1 is no session"),
        ("call-a", "call-a is no session"), ("--call session-a", "session-a is no call"),
    ):  # fmt: skip
        answer = ask("--store", full, "delete", *given.split(), "--yes")
        assert (answer.code, why in answer.err) == (1, True)
    assert left(full) == before


def test_other_stores_are_named_with_what_to_run(full: str, tmp_path: Path) -> None:
    others = f"clickhouse://me:secret7@127.0.0.1:1/db,jsonl:///{tmp_path}/a.jsonl,unix:///no.sock"
    answer = ask("--store", f"{full},{others}", "delete", "session-a", "--yes")
    assert answer.code == 0
    assert "DELETE FROM calls WHERE session_id IN ('session-a') OR call_id IN ('call-a')\n" in answer.out
    assert "DELETE FROM sessions WHERE session_id IN ('session-a')\n" in answer.out
    assert "load it with `callspan import`" in answer.out
    assert "unix:///no.sock: nothing can be deleted there" in answer.out
    assert "secret7" not in answer.out
    alone = ask("--store", "clickhouse://127.0.0.1:1/db", "delete", "it's \\", "--yes")
    assert "DELETE FROM events WHERE session_id IN ('it\\'s \\\\')\n" in alone.out
    assert ask("--store", "clickhouse://127.0.0.1:1/db", "delete", "--user", "u", "--yes").code == 2
