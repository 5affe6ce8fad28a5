"""Processes that append: `processes.py victim ROOT SEED` and `processes.py neighbour ROOT DEAD MAX_BYTES`.

A victim appends until it is killed, and writes acknowledged records to a file. A neighbour reads commands from
standard input, one per line. Its stores are a healthy one and a dead one, which rejects its records or hangs.
`append NAME COUNT` answers with the number of kept records once the healthy store has them; `close` ends it.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.support.rig import DownSink, FileSink, HangingSink, SqliteSink, hurry, record, spool_of, until

PACE = 20
"""Number of records after which it waits for the healthy store, far fewer than the cap holds."""


class FlakySink(SqliteSink):
    """Fails in one of twenty deliveries."""

    def deliver(self, payloads: Sequence[bytes]) -> None:
        if random.random() < 0.05:
            raise sqlite3.OperationalError("flaky")
        super().deliver(payloads)


def victim(root: Path, seed: int) -> None:
    chance = random.Random(seed)
    spool = spool_of(root / "spool", a=FlakySink(root / "a.db"), b=FlakySink(root / "b.db"))
    acknowledged = _acknowledgements(root)
    for number in range(1_000_000):
        key = f"{os.getpid()}-{number}"
        if spool.append(record(key, chance.randrange(20, 2000))):
            os.write(acknowledged, f"{key}\n".encode())
        if number % 50 == 0:
            time.sleep(0.005)
        if number in {300, 900} and os.fork() == 0:
            acknowledged = _acknowledgements(root)


def _acknowledgements(root: Path) -> int:
    return os.open(root / f"acknowledged-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def neighbour(root: Path, dead: str, max_bytes: int) -> None:
    hurry()
    sink = DownSink(root / "dead") if dead == "refuses" else HangingSink(root / "dead")
    healthy = FileSink(root / "healthy", 100)
    spool = spool_of(root / "spool", max_bytes=max_bytes, healthy=healthy, dead=sink)
    for line in sys.stdin:
        word, *values = line.split()
        if word == "close":
            spool.close(0)
            time.sleep(0.1)
            print("closed", flush=True)
            return
        kept = 0
        keys = [f"{values[0]}{number}" for number in range(int(values[1]))]
        for at, key in enumerate(keys):
            kept += spool.append(record(key, 1000))
            if kept > at and (at % PACE == PACE - 1 or key == keys[-1]):
                until(partial(healthy.has, key))
        print(kept, flush=True)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    role, root, *given = sys.argv[1:]
    if role == "victim":
        victim(Path(root), int(given[0]))
    else:
        neighbour(Path(root), given[0], int(given[1]))
