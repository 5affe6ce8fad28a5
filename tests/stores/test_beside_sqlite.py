"""No act of callspan costs a writer in the same process a record, while other processes open and close the file.

If a process loses its POSIX locks on the file, the next process that closes it deletes the WAL, and everything that the
first one writes from then on is lost without an error.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest
from tests.support.commands import ask
from tests.support.processes import ran
from tests.support.waiting import HANG_MS

import callspan
from callspan import erase, import_records
from callspan.stores import CallFilter, Reader, StoreError, find_store
from callspan.testing import capture

COUNT: Final = (
    "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM calls').fetchone()[0])"
)


def count_outside(path: Path) -> int:
    """Open the file in another process, count its calls and close it."""
    return int(ran("-S", "-c", COUNT, str(path), cwd=path.parent).stdout)


class Application:
    """A process that records to a SQLite file, and acts of it or its user."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self.made = 0
        self._kept: list[Reader] = []
        self._vocabularies = itertools.cycle(("llm", "gen_ai"))
        callspan.instrument(stores=self.url)
        self.call()

    def call(self) -> None:
        with callspan.record_call(provider="vllm", model="m") as call:
            call.request({"model": "m", "messages": [{"role": "user", "content": f"q{self.made}"}]})
            call.response({"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]})
        assert callspan.instrument().force_flush(HANG_MS)
        self.made += 1

    def end(self) -> None:
        for reader in self._kept:
            reader.close()
        callspan.instrument().uninstrument()

    def keep_a_reader(self) -> None:
        self._kept.append(callspan.open_store(self.url))

    def read(self) -> None:
        with contextlib.closing(callspan.open_store(self.url, deliver=True)) as reader:
            list(reader.calls())

    def read_by_a_link(self) -> None:
        link = self.path.with_name("link.db")
        link.unlink(missing_ok=True)
        link.symlink_to(self.path)
        self._kept.append(callspan.open_store(link))

    def read_by_a_hard_link(self) -> None:
        link = self.path.with_name("hard.db")
        if not link.exists():
            os.link(self.path, link)
        with contextlib.suppress(StoreError, sqlite3.Error), contextlib.closing(callspan.open_store(link)) as reader:
            list(reader.calls())

    def instrument_again(self) -> None:
        callspan.instrument(vocabularies=next(self._vocabularies))

    def uninstrument(self) -> None:
        callspan.instrument().uninstrument()
        callspan.instrument(stores=self.url)

    def capture(self) -> None:
        with capture():
            pass

    def open_another_writer(self) -> None:
        sink = find_store(self.url).sink()
        sink.open()
        sink.close()

    def delete(self) -> None:
        erase(self.url, CallFilter(user_id="nobody"))

    def older(self) -> None:
        erase(self.url, older_than_ns=1)

    def load(self) -> None:
        import_records(self.path, self.path.with_name(f"loaded-{len(list(self.path.parent.iterdir()))}.db"))

    def connect_by_itself(self) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.execute("SELECT * FROM calls").fetchall()

    def commands(self) -> None:
        """Run the commands that read the store, and one that writes."""
        for command in ("calls", "report -o report.html", "export openai -o rows.jsonl", "reprice"):
            place = [str(self.path.with_name(word)) if "." in word else word for word in command.split()]
            assert "Traceback" not in ask("--store", self.url, *place).err


Act = Callable[[Application], object]
ACTS: Final[dict[str, Act]] = {
    name: act
    for name, act in vars(Application).items()
    if callable(act) and not name.startswith("_") and name not in ("call", "end")
}


@pytest.fixture(autouse=True)
def _no_settings(no_settings: None) -> None:
    """Run every act without settings in the environment."""


def lost(place: Path, acts: Sequence[Act]) -> int:
    """Return the number of missing calls after these acts, each followed by a reader in another process and a call."""
    place.mkdir()
    application = Application(place / "calls.db")
    try:
        for act in acts:
            act(application)
            count_outside(application.path)
            application.call()
            count_outside(application.path)
        application.call()
        return application.made - count_outside(application.path)
    finally:
        application.end()


@pytest.mark.timeout(3_600)
def test_pairs_of_public_calls_lose_no_record(tmp_path: Path) -> None:
    cases = [*((name,) for name in ACTS), *itertools.product(ACTS, repeat=2)]
    missing = {
        names: number
        for case, names in enumerate(cases)
        if (number := lost(tmp_path / str(case), [ACTS[name] for name in names]))
    }
    assert not missing


PROGRAM: Final = """
import os, sqlite3, subprocess, sys, time
import callspan

path = sys.argv[1]
callspan.instrument(stores=f"sqlite:///{path}")

def call(number):
    with callspan.record_call(provider="vllm", model="m") as call:
        call.request({"model": "m", "messages": [{"role": "user", "content": f"q{number}"}]})
        call.response({"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]})
    print(callspan.instrument().force_flush(500), flush=True)

def look():
    subprocess.run([sys.executable, "-c", sys.argv[2], path], stdout=subprocess.DEVNULL, check=True)

call(0)
"""
FORK: Final = """
opened = callspan.open_store(path)
if os.fork() == 0:
    call(1); time.sleep(0.5); call(2); look(); call(3); os._exit(0)
callspan.instrument().uninstrument(); opened.close(); look(); os.wait()
"""
ENDS: Final = {
    "a descriptor of the application": (
        "os.close(os.open(path, os.O_RDONLY)); look(); call(1); call(2); look(); call(3)",
        "its -wal was deleted while this process wrote to it",
    ),
    "a fork beside a reader": (FORK, "it was open when this process was forked"),
}


@pytest.mark.parametrize("end", ENDS)
def test_process_without_its_locks_stops_writing(tmp_path: Path, end: str) -> None:
    """Its records wait on disk, and the next process delivers each once."""
    path, (acts, why) = tmp_path / "calls.db", ENDS[end]
    done = ran("-W", "ignore", "-c", PROGRAM + acts, str(path), COUNT, cwd=tmp_path)
    assert done.stdout.split() == ["True", "False", "False", "False"]
    assert why in done.stderr
    with contextlib.closing(callspan.open_store(f"sqlite:///{path}", deliver=True)) as reader:
        assert reader.count_calls() == len(list(reader.calls())) == 4
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
