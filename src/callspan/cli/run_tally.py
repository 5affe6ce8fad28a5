"""Run tally: how many calls the processes of one `callspan run` recorded, and where.

Each process writes its own file, with every call: a worker that is killed is counted too. The first process makes the
directory, reads it at its end, and removes it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Final, NamedTuple

from callspan.process.callbacks import add_callback
from callspan.records import Record
from callspan.runtime.fail_open import fail_open
from callspan.settings_loader import RUN_TALLY
from callspan.wiring import WIRING

_NOTE: Final = fail_open("tell `callspan run` of a recorded call")


class Noted(NamedTuple):
    """What another process noted."""

    calls: int
    stores: tuple[str, ...]
    """URLs of its stores."""


class RunTally:
    """The notes of this process and of those it started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: int | None = None
        self._process = os.getpid()
        self._calls = 0
        """Calls of this process that were noted, with those that its parent had noted before the fork."""
        self._calls_before = 0
        """The parent's among them."""

    def note(self, record: Record) -> None:
        """Note the calls that this process has recorded. Never raises."""
        del record
        with _NOTE:
            if (process := os.getpid()) != self._process:
                self._process, self._file, self._calls_before = process, None, self._calls
            pipeline = WIRING.pipeline
            self._calls = WIRING.recorded_calls
            if self._file is None:
                self._file = tempfile.mkstemp(prefix=f"{process}-", dir=self._directory)[0]
            stores = () if pipeline is None else pipeline.recorder.stores
            text = "\n".join((str(self._calls - self._calls_before), *stores)).encode()
            os.ftruncate(self._file, os.pwrite(self._file, text, 0))

    def of_others(self) -> Iterator[Noted]:
        """Yield what the processes besides this one noted, if they recorded a call."""
        with suppress(OSError):
            for path in sorted(self._directory.iterdir()):
                calls, *stores = path.read_text().split("\n")
                if not path.name.startswith(f"{os.getpid()}-") and calls.isdecimal() and int(calls):
                    yield Noted(int(calls), tuple(stores))

    def remove(self) -> None:
        """Remove all notes."""
        rmtree(self._directory, ignore_errors=True)


def start_tally(*, is_first: bool) -> RunTally | None:
    """Begin to note the calls of this process, which `callspan run` started first or not; None if it does not ask."""
    name = os.environ.get(RUN_TALLY)
    if not name:
        return None
    directory = Path(name)
    with suppress(OSError):
        if is_first:
            directory.mkdir(mode=0o700)
        if directory.is_dir():
            tally = RunTally(directory)
            add_callback("after_record", tally.note, kinds=("call",))
            return tally
    return None
