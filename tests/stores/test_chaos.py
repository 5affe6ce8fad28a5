"""Workers that make calls of every kind and read the same results while they are killed: nothing lost or doubled."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from tests.support.provider import FullProvider
from tests.support.rig import until

import callspan
from callspan import Settings, open_store
from callspan.records import CallRecord
from callspan.spool.losses import read_losses
from callspan.stores.spools import spool_directory

CALLS: Final = 5000


class Service:
    """Two workers, their provider, and what they noted."""

    def __init__(self, place: Path, store: str) -> None:
        self.place, self.store = place, store
        self.spool, self.notes = place / "spool", place / "notes"
        self.notes.mkdir()
        (place / "batches").mkdir()
        self.log = (place / "log").open("wb")
        self.provider = FullProvider()
        self.provider.reply(text="Fine.", input_tokens=10, output_tokens=5, repeat=True)
        self.directory = spool_directory(Settings(spool_dir=self.spool), [store])
        self.kills = 0
        self.workers = {name: self._start(name) for name in "ab"}

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        script = str(Path(__file__).with_name("chaos_worker.py"))
        arguments = [self.store, str(self.spool), self.provider.url, str(self.notes), name]
        program = [sys.executable, "-W", "ignore", script, *arguments]
        worker = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=self.log)
        until((self.notes / f"{name}-{worker.pid}").exists, 120)
        return worker

    def kill(self, name: str) -> None:
        """Kill a worker and start it again."""
        self.workers[name].kill()
        self.workers[name].wait()
        self.kills += 1
        self.workers[name] = self._start(name)

    def after_calls(self, number: int) -> int:
        """Wait until so many calls have returned; return how many."""
        deadline = time.monotonic() + 300
        while (made := len(self.noted("call"))) < number:
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.5)
        return made

    def end(self) -> None:
        """End the workers, and deliver what they left."""
        for worker in self.workers.values():
            worker.send_signal(signal.SIGTERM)
        assert [worker.wait(120) for worker in self.workers.values()] == [0, 0], self.said()
        shipped = self.command("ship")
        assert shipped.returncode == 0, shipped.stdout + shipped.stderr
        self.provider.close()
        self.log.close()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as users do."""
        program = [sys.executable, "-m", "callspan.cli", "--store", self.store, *arguments]
        environment = os.environ | {"CALLSPAN_SPOOL_DIR": str(self.spool)}
        done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment, timeout=300)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def said(self) -> str:
        return (self.place / "log").read_text(errors="replace")[-5000:]

    def noted(self, kind: str) -> set[str]:
        """Return the keys of what has returned."""
        lines = (line.split() for path in self.notes.iterdir() for line in path.read_text().split("\n")[:-1])
        return {key for word, key in lines if word == kind}


class Stored(NamedTuple):
    """The calls of one store by their keys, and what is wrong."""

    calls: dict[str, CallRecord]
    """Those with an end: a call of which only the start arrived is missing."""
    sessions: set[str]
    doubled: list[str]


def stored(url: str) -> Stored:
    found: dict[str, CallRecord] = {}
    doubled = list[str]()
    with contextlib.closing(open_store(url)) as reader:
        for call in reader.calls():
            if call.outcome == "in_progress":
                continue
            key = str(call.custom_id or call.metadata.get("run_id"))
            doubled += [key] if key in found else []
            found[key] = call
        sessions = {one.session.session_id for one in reader.sessions() if one.session.end_ns is not None}
    return Stored(found, sessions, doubled)


def wrong(key: str, call: CallRecord) -> bool:
    """Return whether a call that has returned differs from what the provider answered."""
    usage = call.usage and (call.usage.input_tokens, call.usage.output_tokens)
    unknown = call.api == "chat_completions" and call.request.stream
    return call.outcome != "success" or usage not in ((10, 5), *((None,) if unknown else ()))


@pytest.mark.timeout(1800)
def test_chaos_of_every_kind_of_work_loses_nothing_and_has_each_line_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/calls.db"
    service, chance = Service(tmp_path, url), random.Random(5)
    made = 0
    while made < CALLS:
        # By calls, not by time: on a busy machine a worker would be killed before it has done anything.
        made = service.after_calls(made + chance.randint(30, 200))
        service.kill(chance.choice("ab"))
        service.command("calls", "--limit", "5")
        with contextlib.closing(callspan.open_store(url)) as reader:
            assert next(iter(reader.calls()), None) is not None
    service.end()
    found, losses = stored(url), read_losses(service.directory)
    calls, lines, sessions = (service.noted(kind) for kind in ("call", "line", "session"))
    print(f"| {len(calls)} calls, {len(lines)} lines, {service.kills} kills |")
    assert found.doubled == []
    assert [key for key in calls | lines if key not in found.calls] == []
    assert [key for key in calls | lines if wrong(key, found.calls[key])] == []
    assert [key for key in sessions if key not in found.sessions] == []
    losses.unrecorded.clear()  # requests that are no calls are counted there
    assert not losses
