"""Records through a built Collector that is killed: what is lost, and by which of its settings."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from tests.support.launching import free_port
from tests.support.processes import ROOT
from tests.support.scale import scaled
from tests.support.through_otlp import WORKER, arrived, listening, sent_by, ship
from tests.support.waiting import HANG_S

from callspan import import_records, open_store

COLLECTOR: Final = ROOT / ".cache/otelcol/otelcol"
CONFIGURATION: Final = Path(__file__).with_name("records_collector.yaml")
WORKERS, CALLS = 20, scaled(200, 5000)


class Killed:
    """A Collector, and behind it a receiver that writes each request to a file."""

    def __init__(self, place: Path, text: str) -> None:
        self.port, onward = free_port(), free_port()
        self.file, self.queue, self._log = place / "collected.jsonl", place / "queue", place / "log"
        self.queue.mkdir()
        configuration = place / "collector.yaml"
        configuration.write_text(text.format(port=self.port, onward=onward, queue=self.queue))
        self._command = [str(COLLECTOR), "--config", str(configuration)]
        file_receiver = [sys.executable, str(ROOT / "tests/support/file_receiver.py"), str(onward), str(self.file)]
        self._file_receiver, self._onward = file_receiver, onward
        self._behind: subprocess.Popen[bytes] | None = None
        self.process = listening(self._command, self.port, self._log)
        self.kills = 0

    def receive(self) -> None:
        """Start the receiver behind it."""
        self._behind = listening(self._file_receiver, self._onward, self._log)

    @property
    def url(self) -> str:
        return f"otlp+http://127.0.0.1:{self.port}?records"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.kills += 1
        self.process = listening(self._command, self.port, self._log)

    def empty(self) -> None:
        """Wait until nothing has been handed on for a while."""
        size = -1
        while size != (size := self.file.stat().st_size):
            time.sleep(10)

    def end(self) -> None:
        for process in filter(None, (self.process, self._behind)):
            process.kill()
            process.wait()


Start = Callable[[str], Killed]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    if not COLLECTOR.exists():
        pytest.fail("no OpenTelemetry Collector: build it with `make .cache/otelcol/otelcol`")
    with ExitStack() as stack:

        def started(text: str) -> Killed:
            collector = Killed(tmp_path, text)
            stack.callback(collector.end)
            return collector

        yield started


@pytest.mark.parametrize(
    ("without", "instead", "lost"),
    [
        ("", "", False),
        ("    sending_queue:\n      storage: file_storage\n      block_on_overflow: true\n", "", True),
        (
            "    sending_queue:\n      storage: file_storage\n      block_on_overflow: true\n",
            "    sending_queue:\n      enabled: false\n",
            False,
        ),
        ("      receivers: [otlp]\n", "      receivers: [otlp]\n      processors: [batch]\n", True),
    ],
    ids=["as documented", "queue in memory", "no queue", "processor batch"],
)
def test_setting_decides_what_a_killed_collector_loses(
    start: Start, tmp_path: Path, without: str, instead: str, lost: bool
) -> None:
    """It is killed while nothing listens behind it."""
    text = CONFIGURATION.read_text().replace(without, instead, 1) if without else CONFIGURATION.read_text()
    if "batch" in instead:
        text += "processors:\n  batch:\n    timeout: 60s\n"
    killed, calls = start(text), 10
    spool = tmp_path / "spool"
    worker = [sys.executable, "-c", WORKER, killed.url, str(spool), "w", str(calls)]
    ids = subprocess.run(worker, capture_output=True, text=True, check=True, cwd=ROOT, timeout=HANG_S).stdout.split()
    killed.kill()
    killed.receive()
    ship(killed.url, spool)
    killed.empty()
    missing = {*ids} - arrived(killed.file).keys()
    assert len(missing) == (calls if lost else 0)


@pytest.mark.timeout(3000)
def test_no_record_is_lost_while_the_collector_is_killed(start: Start, tmp_path: Path) -> None:
    killed = start(CONFIGURATION.read_text())
    killed.receive()
    returned = sent_by(WORKERS, CALLS, killed.url, tmp_path / "workers", kills=5, kill=killed.kill)
    killed.empty()
    versions, lines = arrived(killed.file), killed.file.read_text().count('"callspan.call"')
    assert (killed.kills, len(returned)) == (5, WORKERS * CALLS)
    assert returned - versions.keys() == set()
    assert {len(of_call) for of_call in versions.values()} == {1}, "what arrived twice is equal"
    print(json.dumps({"calls": len(returned), "arrived": lines, "distinct": len(versions)}))
    counts = import_records(killed.file, tmp_path / "calls.db")
    assert counts.unreadable == 0
    with open_store(f"sqlite:///{tmp_path}/calls.db") as reader:
        assert reader.count_calls() == len(versions)
