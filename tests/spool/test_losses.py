"""Losses: what a spool cannot keep is on disk and said, however its process ends."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from callspan.cli.commands import callspan
from callspan.file_lock import locked
from callspan.record.ids import response_call_id
from callspan.records import CallRecord, EventRecord, SessionRecord, TimestepRecord, Timing, encode
from callspan.spool.losses import LOSSES_FILE, Loss, Losses, LossLog, add_losses, create_losses, read_losses
from callspan.spool.segment import Frame, scan
from callspan.spool.spool import Spool
from callspan.stores import Entry
from callspan.stores.sqlite.store import SQLiteStore

from .rig import FileSink, python, record, until

FULL = """
import logging, os, sys
import callspan, openai
from callspan.testing import ScriptedProvider
logging.getLogger("callspan").disabled = True  # as `dictConfig` leaves it
handle = callspan.instrument(stores=sys.argv[1])
def call(number):
    text = f"{number} {os.urandom(4000).hex()}"
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
with ScriptedProvider() as scripted, openai.OpenAI(api_key="k", base_url=scripted.openai_url) as client:
    for number in range(10):
        call(number)
    handle.force_flush()
    with open(sys.argv[2], "wb", 0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    for number in range(10, 60):
        call(number)
"""
"""60 calls whose spool and store are on a disk that another program fills after the first ten."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of three megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(place)], check=False).returncode:
        pytest.skip("cannot mount a small tmpfs here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def run(program: str, *arguments: object, code: int = 0) -> str:
    done = subprocess.run(
        python("-c", program, *map(str, arguments)), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == code, done.stderr
    return done.stderr


def command(*arguments: str) -> tuple[str, str]:
    done = CliRunner().invoke(callspan, list(arguments))
    return done.stdout, done.stderr


def test_records_in_memory_at_exit_are_counted_and_said_on_standard_error(disk: Path) -> None:
    store = f"sqlite:///{disk}/calls"
    errors = run(FULL, store, disk / "filler")
    (disk / "filler").unlink()
    stored = len(json.loads(command("--store", store, "calls", "--json", "--limit", "100")[0]))
    (loss,) = read_losses(disk / "calls.spool").all()
    assert 0 < stored < 60
    assert loss.calls == loss.records == 60 - stored
    assert f"callspan: {60 - stored} calls were lost" in errors
    assert str(disk / "calls.spool") in errors
    for name in ("calls", "stats", "sessions"):
        assert f"{60 - stored} calls" in command("--store", store, name)[1]
    assert f"{60 - stored} calls" in command("--store", store, "doctor", "--json")[0]


KILLED = """
import os, signal, sys
import callspan, openai
from callspan.testing import ScriptedProvider
callspan.instrument(stores="postgresql://nobody@127.0.0.1:9/none", spool_dir=sys.argv[1], spool_max_bytes=200_000)
with ScriptedProvider() as scripted, openai.OpenAI(api_key="k", base_url=scripted.openai_url) as client:
    for number in range(121):
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x" * 300}], metadata={str(n): "y" * 400 for n in range(9)}
        )
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_records_given_up_at_the_cap_are_on_disk_when_the_process_is_killed(tmp_path: Path) -> None:
    place = tmp_path / "spool"
    run(KILLED, place, code=-signal.SIGKILL)
    kept = sum(isinstance(item, Frame) for path in place.glob("*.segment") for item in scan(path.read_bytes()))
    assert 0 < kept < 121
    assert sum(loss.calls for loss in read_losses(place).dropped.values()) == 121 - kept


class Ending(FileSink):
    """Ends the thread that delivers, as a callback that raises `SystemExit` does, a few times."""

    times = 3

    def deliver(self, entries: Sequence[Entry]) -> None:
        if self.times:
            self.times -= 1
            raise SystemExit
        super().deliver(entries)


def test_a_thread_that_ends_while_it_delivers_is_started_again_counted_and_named_by_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    place, sink = tmp_path / "calls.db.spool", Ending(tmp_path / "f")
    spool = Spool(place, [sink])
    spool.append(record("a"))
    until(lambda: sink.keys() == ["a"])
    spool.append(record("b"))
    assert spool.close(5)
    assert (sink.keys(), spool.counters()["restarted"]) == (["a", "b"], 3)
    (death,) = read_losses(place).threads.values()
    assert (death.times, death.error) == (3, "SystemExit")
    checks = json.loads(command("--store", f"sqlite:///{tmp_path}/calls.db", "doctor", "--json")[0])["checks"]
    (check,) = [check for check in checks if check["name"] == "thread callspan-file"]
    assert "was ended by SystemExit and started again, 3 times, last at " in check["detail"]


def test_calls_sessions_and_steps_are_counted_once_each_with_their_own_times(tmp_path: Path) -> None:
    """The start of what ends later is no call and no session: its end has everything."""
    call = CallRecord(call_id="c", timing=Timing(start_ns=2_000))
    background = msgspec.structs.replace(
        call, call_id=response_call_id("openai", "resp_1"), part="requested", outcome="in_progress"
    )
    answer = msgspec.structs.replace(background, part="answered", seen_in="fetch", outcome="error")
    session = SessionRecord(session_id="s", seen_ns=1, start_ns=1_000)
    step = TimestepRecord(timestep_id="t", session_id="s", seen_ns=1, index=0, start_ns=1_500)
    ended = [msgspec.structs.replace(scope, end_ns=3_000) for scope in (session, step)]
    event = EventRecord(event_id="e", event_type="action", time_ns=4_000)
    log = LossLog(tmp_path)
    other = msgspec.structs.replace(answer, call_id=response_call_id("openai", "resp_2"))
    versions = (background, answer, other)
    for one in (msgspec.structs.replace(call, part="started"), call, *versions, session, step, *ended, event):
        log.drop("cap", encode(one))
    loss = read_losses(tmp_path).dropped["cap"]
    assert (loss.records, loss.calls, loss.sessions, loss.timesteps) == (10, 3, 1, 1)
    assert (loss.first_ns, loss.last_ns) == (1_000, 4_000)
    assert loss.what() == "3 calls, 1 session, 1 step and 5 other records"


def test_a_call_of_which_only_the_start_arrived_is_shown_without_an_end_and_its_loss_is_said(tmp_path: Path) -> None:
    store, call = SQLiteStore(tmp_path / "calls.db"), CallRecord(call_id="c-1", timing=Timing(start_ns=2_000))
    spool = Spool(tmp_path / "calls.db.spool", [store])
    spool.append(encode(msgspec.structs.replace(call, part="started", outcome="started")))
    assert spool.close(5)
    LossLog(spool.directory).drop("cap", encode(call))
    shown, said = command("--store", store.name, "show", "c-1")
    assert "its end was lost" in shown
    assert "1 call dropped (cap)" in said


def test_the_file_keeps_its_size_and_takes_no_room(tmp_path: Path) -> None:
    create_losses(tmp_path)
    path = tmp_path / LOSSES_FILE
    before = path.stat()
    add_losses(tmp_path, Losses(dropped={"cap": Loss("cap", 3)}))
    create_losses(tmp_path)
    after = path.stat()
    assert (after.st_size, after.st_ino, after.st_mode & 0o777) == (before.st_size, before.st_ino, 0o600)
    many = {str(number): Loss("x" * 200, 1) for number in range(100)}
    for _ in range(2):
        add_losses(tmp_path, Losses(given_up=many))
    assert path.stat().st_size % 4096 == 0
    assert {loss.records for loss in read_losses(tmp_path).given_up.values()} == {2}
    path.unlink()
    add_losses(tmp_path, Losses(dropped={"cap": Loss("cap", 1)}))
    assert read_losses(tmp_path).dropped["cap"].records == 1


def test_nobody_waits_for_a_lock_that_a_stopped_process_holds(tmp_path: Path) -> None:
    create_losses(tmp_path)
    log = LossLog(tmp_path)
    with locked(tmp_path / LOSSES_FILE):
        begun = time.monotonic()
        for _ in range(100):
            log.drop("cap", record("a"))
        assert time.monotonic() - begun < 1
    until(lambda: bool(read_losses(tmp_path)), 10)
    assert read_losses(tmp_path).dropped["cap"].records == 100


def test_a_final_line_follows_each_burst(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What the lines say is all that was lost, long before the minute after which a burst is mentioned again."""
    log = LossLog(tmp_path)
    for burst in (1, 2):
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            log.drop("cap", record("a"))
            time.sleep(0.01)
        until(lambda: said(caplog, tmp_path) == read_losses(tmp_path).dropped["cap"].records, 15)
        assert len(lines_of(caplog, tmp_path)) <= 2 * burst


def said(caplog: pytest.LogCaptureFixture, directory: Path) -> int:
    return sum(int(text.partition(" ")[0]) for text in lines_of(caplog, directory))


def lines_of(caplog: pytest.LogCaptureFixture, directory: Path) -> list[str]:
    """The lines about one spool: those of other tests may come late."""
    return [text for text in caplog.messages if f"for every store dropped (cap) at {directory}:" in text]
