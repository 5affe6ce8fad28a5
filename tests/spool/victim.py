"""A process that appends until it is killed: `victim.py ROOT SEED`; what was acknowledged is in a file beside."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.spool.rig import SqliteSink, record, spool_of


class FlakySink(SqliteSink):
    """Fails one time in twenty."""

    def deliver(self, payloads: Sequence[bytes]) -> None:
        if random.random() < 0.05:
            raise sqlite3.OperationalError("flaky")
        super().deliver(payloads)


def main(root: Path, seed: int) -> None:
    logging.disable(logging.CRITICAL)
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


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
