"""`callspan export`, `report`, `replay`, `delete`: what they write, send and erase, and what they say."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec import Raw
from tests.support.commands import ask
from tests.support.commands import callspan as the_command
from tests.support.records import START_NS, Records, keep, left, made, session, step

from callspan import open_store
from callspan.datasets import export
from callspan.records import CallRecord, Place, Redaction, Request


def chat_call(call_id: str, text: str = "Left.", **fields: Any) -> CallRecord:
    return Records().call(answer=text, call_id=call_id, **fields)


def test_unwritable_target_is_named(store: str, tmp_path: Path) -> None:
    keep(store, chat_call("a"))
    for command in (["export", "openai"], ["report"]):
        output = tmp_path / "no" / "such" / "file"
        answer = ask("--store", store, *command, "-o", str(output))
        assert (answer.code, answer.err.replace("\n", "")) == (1, f"Error: {output}: No such file or directory")


def test_export_writes_the_selection_and_its_count(store: str, tmp_path: Path) -> None:
    keep(store, chat_call("a", metadata={"of": "u1"}), chat_call("b", "Right.", metadata={"of": "u2"}))
    output = tmp_path / "rows.jsonl"
    command = ("--store", store, "export", "openai", "-o", str(output), "--metadata", "--meta")
    answer = ask(*command, "of=u3")
    assert (answer.code, answer.out.startswith("no rows, nothing written"), output.exists()) == (1, True, False)
    answer = ask(*command, "of=u2")
    said = " ".join(answer.out.split())
    assert (answer.code, said.startswith("1 row"), " written to " in said) == (0, True, True)
    (row,) = map(json.loads, output.read_text().splitlines())
    assert (row["messages"][-1]["content"], row["metadata"]["model"]) == ("Right.", "gpt-5")


@pytest.mark.parametrize("kind", ["pipe", "link", "dangling"])
def test_export_replaces_only_files(store: str, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    else:
        (tmp_path / "file").write_text("mine")
        path.symlink_to("file" if kind == "link" else "nowhere")
    before = path.lstat()
    with closing(open_store(keep(store, chat_call("a")))) as reader, pytest.raises(OSError, match="is not replaced"):
        export(reader, "openai", path)
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"request": Request(model="m")}, "record with content='full'"),
        ({"redactions": [Redaction(what="request.body", why="size")]}, "was not kept in full (size)"),
        (
            {"redactions": [Redaction(what="request.a", why="secret"), Redaction(what="request.b", why="redactor")]},
            "was not kept in full (redactor, secret)",
        ),
        ({"api": "rerank"}, "rerank is not an API that can be replayed"),
        ({"api": "invoke_embeddings"}, "invoke_embeddings is not an API that can be replayed"),
        (
            {"api": "messages", "sdk": "anthropic/1.0", "request": Request(model="m", body=Raw(b'{"messages":[]}'))},
            "its path named the model, as on Vertex",
        ),
        ({"api": "teapots\x1b"}, "teapots\ufffd is not an API that can be replayed"),
    ],
)
def test_replay_first_reports_calls_it_cannot_replay(store: str, fields: dict[str, Any], expected: str) -> None:
    answer = ask("--store", keep(store, chat_call("a", **fields)), "replay", "a", "--base-url", "http://127.0.0.1:9")
    assert (answer.code, answer.out) == (1, "")
    assert expected in answer.err


@pytest.fixture
def full(store: str) -> str:
    return keep(
        store,
        session("session-a", start_ns=START_NS, name="grid"),
        session("session-b", start_ns=START_NS),
        step("t-1", session_id="session-a"),
        made("call-a", place=Place(session_id="session-a")),
        made("call-b", place=Place(session_id="session-b")),
    )


@pytest.mark.parametrize(
    ("chosen", "planned", "rest"),
    [
        ("session-a", "1 session, 1 call, 1 timestep", ({"session-b"}, {"call-b"})),
        ("--older-than 2100-01-01", "2 sessions, 2 calls, 1 timestep", (set(), set())),
    ],
)
def test_delete_asks_for_confirmation(
    full: str, chosen: str, planned: str, rest: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, before = ["--store", full, "delete", *chosen.split()], left(full)
    assert f"{planned} would be deleted" in " ".join(ask(*command, "--dry-run").out.split())
    answer = ask(*command)
    assert (answer.code, "--yes" in answer.err) == (2, True)
    monkeypatch.setattr("callspan.cli.delete._is_terminal", lambda: True)
    refused = CliRunner().invoke(the_command, command, input="n\n")
    assert (refused.exit_code, f"{planned} would be deleted" in refused.stderr) == (1, True)
    assert left(full) == before
    assert CliRunner().invoke(the_command, command, input="y\n").exit_code == 0
    assert left(full) == rest


def test_file_can_be_rewritten_after_a_deletion(full: str, tmp_path: Path) -> None:
    """By the command that the receipt names, which deletes nothing."""
    answer = ask("--store", full, "delete", "session-a", "--yes")
    assert "callspan delete --vacuum rewrites the file" in " ".join(answer.out.split())
    before = left(full)
    assert ask("--store", full, "delete", "--vacuum").code == 0
    assert ask("--store", full, "--json", "delete", "--vacuum").json["left"].popitem()[1] is None
    assert left(full) == before
    assert ask("--store", full, "delete", "--vacuum", "--dry-run").code == 2
    missing = ask("--store", f"sqlite:///{tmp_path}/none.db", "delete", "--vacuum")
    assert (missing.code, (tmp_path / "none.db").exists()) == (1, False)


def test_json_receipt_equals_the_plan(full: str) -> None:
    planned, done = (ask("--store", full, "--json", "delete", "session-a", how).json for how in ("--dry-run", "--yes"))
    assert (planned["dry_run"], planned["complete"], planned["stores"][0]["calls"]) == (True, True, 1)
    assert (done["dry_run"], done["complete"], done["stores"][0]["calls"]) == (False, True, 1)


@pytest.mark.parametrize(
    ("more", "code", "said"), [("", 0, "nothing deleted"), ("session-a", 2, "--older-than cannot be combined")]
)
def test_age_before_1970_deletes_nothing(full: str, more: str, code: int, said: str) -> None:
    answer = ask("--store", full, "delete", "--older-than", "100000d", "--yes", *more.split())
    assert (answer.code, said in " ".join((answer.out + answer.err).split())) == (code, True)
    assert left(full) == ({"session-a", "session-b"}, {"call-a", "call-b"})


def test_ambiguous_or_foreign_id_deletes_nothing(full: str) -> None:
    before = left(full)
    for given, why in (
        ("session-", "2 sessions begin with"), ("--call call-", "2 calls begin with"), ("t-1", "t-1 is no session"),
        ("call-a", "call-a is no session"), ("--call session-a", "session-a is no call"),
    ):  # fmt: skip
        answer = ask("--store", full, "delete", *given.split(), "--yes")
        assert (answer.code, why in answer.err) == (1, True)
    assert left(full) == before


def test_delete_finds_an_id_in_any_store(full: str, tmp_path: Path) -> None:
    """Also as lists without a terminal abbreviate it."""
    first = keep(f"sqlite:///{tmp_path}/first.db", session("other"))
    for given, code in (("session-a…", 0), ("--call call-b…", 0), ("session-c", 1), ("oth", 1)):
        assert ask("--store", f"{first},{full}", "delete", *given.split(), "--yes").code == code
    assert (left(first), left(full)) == (({"other"}, set()), ({"session-b"}, set()))


def test_delete_names_other_stores_and_their_command(full: str, tmp_path: Path) -> None:
    others = f"jsonl:///{tmp_path}/a.jsonl,unix:///no.sock"
    answer = ask("--store", f"{full},{others}", "delete", "session-a", "--yes")
    assert answer.code == 0
    assert "load it with `callspan import`" in answer.out
    assert "unix:///no.sock: nothing can be deleted there" in answer.out
    down = ask("--store", f"{full},clickhouse://me:secret7@127.0.0.1:1/db", "delete", "--user", "u", "--yes")
    assert (down.code, "secret7" in down.out + down.err) == (1, False)
    assert ask("--store", "unix:///no.sock", "delete", "--user", "u", "--yes").code == 2


def test_export_says_whether_nothing_matches_or_all_is_left_out(store: str) -> None:
    keep(store, session("s1", start_ns=START_NS, task_id="t"), made("c1", place=Place(session_id="s1")))
    left_out = ask("--store", store, "export", "preferences", "--dry-run")
    assert left_out.code == 1
    assert left_out.err == f"All that matches was left out, for the reasons above; nothing is written from {store}.\n"
    nothing = ask("--store", store, "export", "preferences", "--dry-run", "--user", "nobody")
    assert nothing.err == f"Nothing matches; nothing is written from {store}.\n"
