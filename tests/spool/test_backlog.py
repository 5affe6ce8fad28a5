"""Records in the spool of an ended process, which every reading command delivers first, and calls as they finish."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

import callspan
from callspan.testing import ScriptedProvider
from tests.support.commands import ask as in_process
from tests.support.processes import plain_environment
from tests.support.readers import coming_and_going
from tests.support.scale import scaled

from .recorders import killed, start

pytestmark = pytest.mark.usefixtures("no_settings")

DEAD = "postgresql://me:geheim@127.0.0.1:1/db"


@pytest.fixture(params=["", "," + DEAD], ids=["alone", "beside a dead one"])
def left_behind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """What is appended to the URL of the store, and a copy of the spool that a killed process left beside it."""
    killed(f"sqlite:///{tmp_path}/calls.db{request.param}")
    return request.param, Path(shutil.copytree(tmp_path / "calls.db.spool", tmp_path / "copy"))


READING: list[tuple[tuple[str, ...], Callable[[Any], int]]] = [
    (("calls", "--json"), len),
    (("show", "last", "--json"), lambda found: len(found["loose_calls"])),
    (("stats", "--json"), lambda found: found[0]["calls"]),
    (("sessions", "--json"), lambda found: found[0]["calls"]),
    (("report", "-o", "{}/report.html", "--json"), lambda found: found["calls"]),
    (("export", "openai", "-o", "{}/rows.jsonl", "--json"), lambda found: found["rows"]),
]
"""Commands that read, and how many calls each shows."""


def test_every_command_that_reads_delivers_first(tmp_path: Path, left_behind: tuple[str, Path]) -> None:
    also, copy = left_behind
    store = f"sqlite:///{tmp_path}/calls.db"
    for command, counted in READING:
        for file in tmp_path.glob("calls.db*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        shutil.copytree(copy, tmp_path / "calls.db.spool")
        answer = in_process("--store", store, *(word.format(tmp_path) for word in command))
        assert answer.code == 0, answer.err
        assert answer.err.startswith("Delivered "), command
        assert counted(answer.json) == 3, command
        left = list((tmp_path / "calls.db.spool").rglob("*.segment"))
        assert len(left) == (1 if also else 0), "it is left to the store that does not have it"
        again = in_process("--store", store, "calls", "--json")
        assert (len(again.json), again.err) == (3, "")


def test_what_a_running_process_cannot_deliver_is_reported(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/calls.db"
    (tmp_path / "calls.db").mkdir()
    process = start(store, 3, "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        process.send_signal(signal.SIGSTOP)
        (tmp_path / "calls.db").rmdir()
        answer = in_process("--store", store, "calls", "--json")
        assert answer.code == 1
        # Three calls and the session around them, which is written at its start and at its end.
        assert "records wait in" in answer.err
        assert "a running process has them" in answer.err
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
    assert len(in_process("--store", store, "calls", "--json").json) == 3


def test_a_store_that_takes_nothing_is_read_and_the_reason_reported(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/calls.db"
    killed(store)
    for path in tmp_path.glob("calls.db*"):
        if path.is_file():
            path.unlink()
    (tmp_path / "calls.db").write_bytes(b"not a database, by far" * 100)
    answer = in_process("--store", store, "calls")
    assert answer.code == 1
    assert "another kind of file" in answer.err
    assert "records wait in" in answer.err


def test_many_short_processes_lose_nothing(tmp_path: Path) -> None:
    """Too short to deliver: some are killed, some end by themselves, five at once, while others read."""
    store = f"sqlite:///{tmp_path}/calls.db"
    count = scaled(5, 40)
    with coming_and_going(tmp_path / "calls.db"):
        for begun in range(0, count, 5):
            running = [start(store, 5, "kill" if number % 2 else "end") for number in range(begun, begun + 5)]
            for process in running:
                process.communicate(timeout=100)
    assert sum(row["calls"] for row in in_process("--store", store, "stats", "--json").json) == 5 * count
    assert not list((tmp_path / "calls.db.spool").rglob("*.segment"))


@pytest.mark.parametrize("chosen", ["one", "--older-than 2100-01-01"])
def test_what_waits_is_deleted_from_every_store_and_does_not_come_back(chosen: str, tmp_path: Path) -> None:
    stores = f"sqlite:///{tmp_path}/calls.db,sqlite:///{tmp_path}/other.db"
    killed(stores)
    answer = in_process("--store", stores, "delete", *chosen.split(), "--yes", "--json")
    assert (answer.code, answer.json["stores"][0]["calls"], answer.json["stores"][0]["sessions"]) == (0, 3, 1)
    for store in stores.split(","):
        for listed in ("sessions", "calls"):
            assert in_process("--store", store, listed, "--json").json == []


def test_a_deleted_file_next_to_its_spool_is_not_reported_as_new(tmp_path: Path) -> None:
    (tmp_path / "calls.db.spool").mkdir()
    for command in (("calls",), ("delete", "--older-than", "1d", "--yes")):
        answer = in_process("--store", f"sqlite:///{tmp_path}/calls.db", *command)
        assert answer.code == 1
        assert f"but its spool {tmp_path}/calls.db.spool is there: the file was deleted or moved" in answer.err
        assert "nothing was recorded there yet" not in answer.err
    (tmp_path / "calls.db.spool").rmdir()
    assert "nothing was recorded there yet" in in_process("--store", f"sqlite:///{tmp_path}/calls.db", "calls").err


@contextmanager
def followed(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """`calls --follow` of the store in a directory, until it is interrupted."""
    # A shell that runs the tests in the background may ignore SIGINT, which children inherit.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from callspan.cli import main; main()"
    )
    command = [sys.executable, "-c", start, "calls", "--follow", "--json"]
    with subprocess.Popen(
        command, cwd=directory, env=plain_environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()


def next_output(process: subprocess.Popen[str]) -> str:
    """The answer of the next call that it shows."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "\x1b" not in line
    return str(json.loads(line)["output"])


def ask(directory: Path, question: str) -> None:
    """One call, recorded and delivered."""
    handle = callspan.instrument(stores=f"sqlite:///{directory}/callspan.db", spool_dir=directory / "spool")
    with ScriptedProvider() as provider:
        provider.reply(f"Answer to {question} \x1b[31m")
        with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
            client.responses.create(model="gpt-5", input=question)
    assert handle.force_flush(20_000)
    handle.uninstrument()


def test_calls_show_as_they_finish_until_it_is_interrupted(tmp_path: Path) -> None:
    ask(tmp_path, "Before?")
    with followed(tmp_path) as process:
        assert next_output(process).startswith("Answer to Before?")
        for question in ("One?", "Two?"):
            ask(tmp_path, question)
            assert next_output(process).startswith(f"Answer to {question}")


def test_what_killed_processes_leave_meanwhile_shows_too(tmp_path: Path) -> None:
    """Also where nothing but a spool was there at the beginning."""
    store = f"sqlite:///{tmp_path}/callspan.db"
    killed(store, 1)
    with followed(tmp_path) as process:
        assert next_output(process) == "Hello 0"
        killed(store, 2)
        assert [next_output(process) for _ in range(2)] == ["Hello 0", "Hello 1"]
