"""`callspan delete`: erases what its filters select, after a confirmation, and prints a receipt."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from callspan.cli import delete
from callspan.cli.commands import callspan
from callspan.records import Place, Request, TimestepRecord
from callspan.stores.urls import open_store

from .conftest import START_NS, ask, keep, made, session


@pytest.fixture
def full(anywhere: str) -> str:
    return keep(
        anywhere,
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


def test_a_session_is_deleted_with_everything_in_it(full: str) -> None:
    answer = ask("--store", full, "delete", "session-a", "--yes")
    assert (answer.code, answer.err) == (0, "")
    assert "1 session, 1 call, 1 timestep" in " ".join(answer.out.split())
    assert left(full) == ["call-b", "session-b"]


def test_a_dry_run_deletes_nothing(full: str) -> None:
    before = left(full)
    answer = ask("--store", full, "delete", "session-a", "--dry-run")
    assert "1 session, 1 call, 1 timestep would be deleted" in " ".join(answer.out.split())
    planned = ask("--store", full, "--json", "delete", "session-a", "--dry-run").json
    assert (planned["dry_run"], planned["complete"], planned["stores"][0]["calls"]) == (True, True, 1)
    assert left(full) == before


def test_it_asks_on_a_terminal_and_wants_yes_elsewhere(full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ask("--store", full, "delete", "session-a")
    assert answer.code == 2
    assert "--yes" in answer.err
    monkeypatch.setattr(delete, "_is_terminal", lambda: True)
    refused = CliRunner().invoke(callspan, ["--store", full, "delete", "session-a"], input="n\n")
    assert refused.exit_code == 1
    assert "session-a" in left(full)
    agreed = CliRunner().invoke(callspan, ["--store", full, "--json", "delete", "session-a"], input="y\n")
    assert agreed.exit_code == 0
    assert '"calls":1' in agreed.stdout.replace(" ", "")
    assert left(full) == ["call-b", "session-b"]


def test_an_ambiguous_prefix_deletes_nothing(full: str) -> None:
    before = left(full)
    assert ask("--store", full, "delete", "session-", "--yes").code == 1
    assert left(full) == before


def test_every_store_given_loses_it(full: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = f"jsonl:///{tmp_path_factory.mktemp('other')}/calls.jsonl"
    keep(other, session("session-a", start_ns=START_NS), made("call-a", place=Place(session_id="session-a")))
    assert ask("--store", f"{full},{other}", "delete", "session-a", "--yes").code == 0
    assert left(full) == ["call-b", "session-b"]
    assert left(other) == []


def test_filters_of_calls_select_and_the_receipt_names_what_cannot_erase(full: str) -> None:
    keep(
        full,
        made("tagged", metadata={"tags": ["trial", "x"], "user_id": "u1"}),
        made("other", metadata={"user_id": "u1"}),
    )
    answer = ask("--store", f"{full},unix:///no.sock", "delete", "--user", "u1", "--tag", "trial", "--yes", "--json")
    assert (answer.code, answer.json["cannot_erase"]) == (0, ["unix:///no.sock"])
    assert "tagged" not in left(full)
    assert ask("--store", full, "delete", "--call", "call-a", "--session", "session-b", "--yes").code == 0
    assert "call-a" in left(full)
    assert ask("--store", full, "delete", "--call", "call-a", "--yes").code == 0
    assert ask("--store", full, "delete", "--session", "session-a", "--session", "session-b", "--yes").code == 0
    assert left(full) == ["other"]


def test_where_nothing_fits_there_is_a_receipt_of_nothing(full: str, tmp_path: Path) -> None:
    keep(full, made("of-user", metadata={"user_id": "u1"}))
    for calls in (1, 0):
        receipt = ask("--store", full, "delete", "--user", "u1", "--yes", "--json")
        assert (receipt.code, receipt.json["complete"], receipt.json["stores"][0]["calls"]) == (0, True, calls)
    for options in (["--dry-run"], ["--yes"], []):
        answer = ask("--store", full, "delete", "--user", "u1", *options)
        assert (answer.code, "nothing" in answer.out) == (0, True)
    for named, code in (("--call", 0), ("--session", 1)):
        assert ask("--store", full, "delete", named, "of-user", "--yes").code == code
    assert ask("--store", f"sqlite:///{tmp_path}/none.db", "delete", "--user", "u1", "--yes").code == 1


def test_something_says_what_to_delete(full: str) -> None:
    answer = ask("--store", full, "delete", "--yes")
    assert (answer.code, "Say what to delete" in answer.err) == (2, True)
    assert ask("--store", full, "delete", "--min-reward", "1", "--yes").code == 2


def test_prune_asks_as_delete_does(full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ask("--store", full, "prune", "--older-than", "2100-01-01")
    assert (answer.code, "--yes" in answer.err) == (2, True)
    monkeypatch.setattr(delete, "_is_terminal", lambda: True)
    refused = CliRunner().invoke(callspan, ["--store", full, "prune", "--older-than", "2100-01-01"], input="n\n")
    assert (refused.exit_code, "2 sessions and 2 calls will be deleted" in refused.stderr) == (1, True)
    assert left(full) == ["call-a", "call-b", "session-a", "session-b"]
    assert (
        CliRunner().invoke(callspan, ["--store", full, "prune", "--older-than", "2100-01-01"], input="y\n").exit_code
        == 0
    )
    assert left(full) == []


def test_of_a_broken_store_the_command_says_why_and_erases_from_the_others(full: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database at all" * 100)
    stores = f"{full},{broken}"
    answer = ask("--store", stores, "delete", "session-a", "--yes", "--json")
    assert (answer.code, answer.json["complete"], "not a database" in answer.json["stores"][1]["left"]) == (
        1,
        False,
        True,
    )
    assert left(full) == ["call-b", "session-b"]
    answer = ask("--store", stores, "delete", "session-a", "--yes")
    assert (answer.code, "broken.db: file is not a database" in " ".join(answer.out.split())) == (1, True), answer.out
    answer = ask("--store", stores, "delete", "session-x", "--yes")
    assert (answer.code, "broken.db: file is not a database" in " ".join(answer.err.split())) == (1, True), answer.err


def test_a_reader_that_holds_the_log_is_named_and_the_exit_code_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callspan.stores.sqlite.removal._READERS_S", 0.1)
    path = tmp_path / "calls.db"
    keep(str(path), made("a", metadata={"user_id": "u1"}))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM calls").fetchone()
        answer = ask("--store", str(path), "delete", "--user", "u1", "--yes", "--json")
        assert (answer.code, answer.json["stores"][0]["calls"], answer.json["complete"]) == (1, 1, False)
        assert f"sqlite3 {path} 'PRAGMA wal_checkpoint(TRUNCATE)'" in answer.json["stores"][0]["left"]
        reader.execute("COMMIT")
        assert reader.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def test_calls_of_others_are_said_to_stay_or_to_go(full: str) -> None:
    said = {"request": Request(body=msgspec.Raw(b'{"messages":[{"role":"user","content":"A shared line"}]}'))}
    keep(full, made("hers", metadata={"user_id": "u1"}, **said), made("theirs", metadata={"user_id": "u2"}, **said))
    dry = ask("--store", full, "delete", "--user", "u1", "--dry-run")
    assert "in the requests of 1 other call (theirs); --everywhere deletes these too." in " ".join(dry.out.split())
    kept = ask("--store", full, "delete", "--user", "u2", "--yes")
    assert "(hers); these stay." in " ".join(kept.out.split())
    keep(full, made("theirs again", metadata={"user_id": "u2"}, **said))
    done = ask("--store", full, "delete", "--user", "u1", "--everywhere", "--yes")
    assert "2 calls" in " ".join(done.out.split())
    assert "(theirs again); these go too." in " ".join(done.out.split())
    assert left(full) == ["call-a", "call-b", "session-a", "session-b"]
