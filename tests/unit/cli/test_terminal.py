"""The command on a terminal: waiting, delivering first, naming stores, writing to stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from callspan.cli import doctor, sessions
from callspan.cli.command_context import CommandContext
from callspan.cli.doctor import Check
from callspan.cli.screen import Column, fitted
from callspan.cli.store_check import NOT_YET, store_check
from callspan.records import MessageRecord, Place
from callspan.stores.urls import open_store

from .conftest import MINUTE, SECOND, START_NS, ask, drawn, keep, made, session


def test_following_waits_for_the_first_record(anywhere: str, tmp_path: Path) -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from callspan.cli import main; main()"
    )
    follower = subprocess.Popen(
        [sys.executable, "-c", code, "--store", anywhere, "calls", "--follow", "--json"],
        cwd=tmp_path, env=os.environ | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert follower.stdout is not None
        time.sleep(0.5)
        keep(anywhere, made("first", at_ns=time.time_ns()))
        assert json.loads(follower.stdout.readline())["call_id"] == "first"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20) == 0
        assert follower.communicate()[1] == ""
    finally:
        follower.kill()


def test_waiting_prints_what_it_waits_for_and_ends_at_ctrl_c(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("callspan.cli.follow.time.sleep", interrupt)
    answer = ask("--store", store, "calls", "-f")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.endswith(
        "calls.db: there is no such file; nothing was recorded there yet; waiting for the first record\n"
    )


def test_prune_says_how_much_it_would_delete_and_deletes_nothing(anywhere: str) -> None:
    day = 24 * 60 * MINUTE
    ended = session("old", start_ns=START_NS - 2 * day, end_ns=START_NS - day)
    keep(
        anywhere, ended, session("new", start_ns=START_NS), made("a", at_ns=START_NS - 2 * day),
        made("late", at_ns=START_NS, place=Place(session_id="old")), made("b", at_ns=START_NS),
    )  # fmt: skip
    arguments = ("--store", anywhere, "prune", "--older-than", "2026-11-18T00:00:00Z", "--yes", "--json")
    before = ask("--store", anywhere, "calls", "--json").out
    looked = ask(*arguments, "--dry-run").json
    assert looked == {"sessions": 1, "calls": 2, "dry_run": True}
    assert ask("--store", anywhere, "calls", "--json").out == before
    removed = ask(*arguments).json
    assert (removed["sessions"], removed["calls"]) == (looked["sessions"], looked["calls"])
    assert "0 sessions and 0 calls would be deleted" in ask(*arguments[:-1], "--dry-run").out


@pytest.mark.parametrize(
    ("at_ns", "place", "shown"),
    [
        (START_NS + SECOND, Place(), "call        c"),
        (START_NS - SECOND, Place(), "s-1"),
        (START_NS + SECOND, Place(session_id="s-1"), "s-1"),
    ],
)
def test_show_last_is_the_newest_of_calls_and_sessions(store: str, at_ns: int, place: Place, shown: str) -> None:
    keep(store, session("s-1", start_ns=START_NS), made("c", at_ns=at_ns, place=place))
    for arguments in (["show"], ["show", "last"]):
        out = ask("--store", store, *arguments).out
        assert shown in out
        newer = "This call is newer than the newest session: callspan show s-1"
        assert (newer in out) == (shown != "s-1")


def test_at_80_columns_names_and_tokens_stay_before_zeros(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cells = [
        "2026-11-20 10:30",
        "01a1fc96-4aec-7538",
        "gridworld",
        "u1",
        "success",
        "+1.3",
        "4",
        "6",
        "0",
        "11,807→1,150",
        "$0.000786",
        "1.38 s",
        "1.21 s",
        "Where is it?",
    ]
    head, row = drawn(fitted(sessions._COLUMNS, [cells], 80), 80).splitlines()
    assert {"session", "name", "user", "outcome", "tokens", "reward"} <= set(head.split())
    assert "errors" not in head
    assert "11,807→1,150" in row
    assert "gridworld" in row


def test_sessions_have_what_was_said_first_where_there_is_room(store: str) -> None:
    said = {"message_id": "m1", "session_id": "s-1", "message_type": "question", "time_ns": START_NS}
    keep(store, session("s-1", start_ns=START_NS), MessageRecord(**said, content="Where is\nmy \x1b[31mtent?"))
    with closing(open_store(store)) as reader:
        found = list(reader.sessions())
        assert "Where is my" in drawn(sessions._table(reader, (), found, 200))
        assert "Where" not in drawn(sessions._table(reader, (), found, 40), 40)
    assert "\nWhere is my" in ask("--store", store, "show", "s-1").out


def test_a_column_of_zeros_is_dropped_before_others() -> None:
    columns = (Column("name"), Column("used", right=True, rank=9), Column("none", right=True, rank=1))
    assert drawn(fitted(columns, [("a", "12", "0"), ("b", "13", "0")], 11)).splitlines()[0] == "name  used"
    assert drawn(fitted(columns, [("a", "12", "0"), ("b", "13", "1")], 11)).splitlines()[0] == "name  none"


# doctor


def test_a_store_that_does_not_exist_is_not_made(anywhere: str, tmp_path: Path) -> None:
    assert store_check(anywhere) == (None, f"{NOT_YET}: it is made with the first record")
    assert store_check(anywhere.replace("/calls", "/new/place/calls"))[0] is None
    (tmp_path / "file").write_text("")
    trouble, seen = store_check(anywhere.replace("/calls", "/file/calls"))
    assert (trouble, seen) == (f"it does not exist, and cannot be made: {tmp_path / 'file'} takes no file", "")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_test_record_is_taken_out_again_and_no_file_stays(anywhere: str, tmp_path: Path) -> None:
    keep(anywhere, made())
    for path in tmp_path.glob("calls.*[.-]*"):
        path.unlink() if path.name.count(".") > 1 else None
    before = {path.name for path in tmp_path.iterdir()}
    assert store_check(anywhere) == (None, "a test record was written, read back and taken out again")
    assert {path.name for path in tmp_path.iterdir()} == before
    reader = open_store(anywhere)
    assert list(reader.sessions()) == []
    assert [call.call_id for call in reader.calls()] == ["call-1"]
    reader.close()


def test_doctor_shows_what_is_wrong_and_what_was_changed_first(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del store
    checks = [
        Check("SDKs", "openai", "ok", "patched"),
        Check("versions", "python", "ok", "3.13"),
        Check("settings", "media", "note", "reference"),
        Check("settings", "content", "note", "off", changed=True),
        Check("spans", "OTLP", "failed", "nobody answers"),
    ]
    doctor._print(CommandContext("x", json=False), checks)
    titles = [line for line in capsys.readouterr().out.splitlines() if line and not line.startswith(" ")]
    assert titles == ["spans", "SDKs", "changed settings", "versions", "settings", "1 failed"]


# Output that is no file


def test_a_report_can_go_to_stdout(store: str, tmp_path: Path) -> None:
    keep(store, made())
    done = subprocess.run(
        [sys.executable, "-m", "callspan.cli", "--store", store, "report", "-o", "-"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("<!doctype html>") or done.stdout.lower().startswith("<!doctype html")
    assert done.stdout.rstrip().endswith("</html>")
    assert not Path("-").exists()
