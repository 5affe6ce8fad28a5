"""Processes that send their records by OTLP while the receiver is killed, and what arrived of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.support.processes import ROOT
from tests.support.waiting import HANG_S, until

from callspan.records import CallRecord, encode
from callspan.stores import find_store

WORKER: Final = """
import sys, callspan
url, spool, name, count = sys.argv[1:]
handle = callspan.instrument(stores=url, spool_dir=spool, http=False)
for number in range(int(count)):
    with callspan.record_call(provider="vllm", model="m") as call:
        call.request({"model": "m", "messages": [{"role": "user", "content": f"{name} {number}"}]})
        call.response({"choices": [{"message": {"role": "assistant", "content": "Fine."}, "finish_reason": "stop"}]})
    print(call.call_id, flush=True)
"""


def listening(command: list[str], port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start a receiver and wait until it listens."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)

    def answers() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    until(answers)
    return process


def sent_by(workers: int, calls: int, url: str, place: Path, *, kills: int, kill: Callable[[], object]) -> set[str]:
    """Run workers while `kill` kills the receiver and starts it again; return the ids of the calls that returned.

    What the workers have left is delivered at the end.
    """
    place.mkdir()
    programs = []
    for number in range(workers):
        command = [sys.executable, "-c", WORKER, url, str(place / "spool"), f"w{number}", str(calls)]
        with (place / f"{number}.ids").open("wb") as output:
            programs.append(subprocess.Popen(command, stdout=output, cwd=ROOT))

    def returned() -> set[str]:
        texts = [file.read_text() for file in place.glob("*.ids")]
        return {line for text in texts for line in text.split("\n")[:-1]}

    for number in range(kills):
        least = workers * calls * (number + 1) // (kills + 2)
        until(lambda least=least: len(returned()) >= least)  # type: ignore[misc]
        kill()
    deadline = time.monotonic() + 5 * HANG_S
    ends = [program.wait(deadline - time.monotonic()) for program in programs]
    assert ends == [0] * workers
    ship(url, place / "spool")
    return returned()


def ship(url: str, spool: Path) -> None:
    """Deliver what processes have left in a spool."""
    done = subprocess.run(
        [sys.executable, "-m", "callspan.cli", "--store", url, "ship"],
        env=os.environ | {"CALLSPAN_SPOOL_DIR": str(spool)}, timeout=HANG_S, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def arrived(file: Path) -> dict[str, set[bytes]]:
    """Return the versions of each call in a file of requests, by id."""
    versions: dict[str, set[bytes]] = {}
    store: Any = find_store(f"jsonl:///{file}")
    for record in store.records():
        assert isinstance(record, CallRecord), "unreadable"
        versions.setdefault(record.call_id, set()).add(encode(record))
    return versions
