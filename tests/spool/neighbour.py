"""A process that appends as it is told: `neighbour.py ROOT DEAD MAX_BYTES`, one command a line on standard input.

Its stores are a healthy one and a dead one, which refuses its records, or hangs. `append NAME COUNT` answers how many
records were kept, after the healthy store has them; `close` ends.
"""

from __future__ import annotations

import logging
import sys
import time
from functools import partial
from pathlib import Path

from callspan.spool import shipper
from callspan.spool import spool as spools

from .rig import DownSink, FileSink, HangingSink, record, spool_of, until

PACE = 20
"""Records between two looks whether the healthy store has them: far less than the cap waits for it."""


def main(root: Path, dead: str, max_bytes: int) -> None:
    logging.disable(logging.CRITICAL)
    shipper._IDLE_S = shipper._LOOK_S = spools._TIDY_S = 0.2  # type: ignore[misc]
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
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
