"""A process to be killed, forked or ended without clean-up. Run as a script: victim.py MODE SPOOL DATABASE ACKS."""

from __future__ import annotations

import atexit
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rig import HangingSink, SqliteSink, record

from callspan.records import CallRecord, Request, Timing, encode
from callspan.spool.spool import Spool, ship_once
from callspan.stores import Sink
from callspan.stores.sqlite.store import SQLiteStore

REAL = "real.db"
"""Name of a database that is the real store's."""

REAL_PREFIX = "r"
"""Begins the prefix of a victim that writes real records."""


def sink_for(database: Path) -> Sink:
    return SQLiteStore(database) if database.name == REAL else SqliteSink(database, pause_s=0.002)


class Writer:
    """Appends records under its own prefix and, after each append has returned, notes the id elsewhere."""

    def __init__(self, place: Path, database: Path | None, acks: Path, prefix: str) -> None:
        self._database = database
        self._acks = acks
        self.prefix = prefix
        self._batches = itertools.count()
        self.spool = Spool(place, self._sinks, max_bytes=1 << 28)

    def _sinks(self) -> Sequence[Sink]:
        return [] if self._database is None else [sink_for(self._database)]

    def write(self, count: int, *, name: str = "", pause_s: float = 0.0) -> None:
        prefix = f"{self.prefix}{name}-{os.getpid()}-{next(self._batches)}"
        fd = os.open(self._acks / prefix, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in range(count):
            key = f"{prefix}-{number}"
            if self.spool.append(self._payload(key)):
                os.write(fd, f"{key}\n".encode())
            time.sleep(pause_s)
        os.close(fd)

    def _payload(self, key: str) -> bytes:
        """A line of text, or for the real store a real record."""
        if not self.prefix.startswith(REAL_PREFIX):
            return record(key, 600)
        body = {"model": "gpt-5", "messages": [{"role": "user", "content": f"{key} and what all have in common"}]}
        request = Request(model="gpt-5", body=msgspec.Raw(msgspec.json.encode(body)))
        return encode(CallRecord(call_id=key, timing=Timing(start_ns=time.time_ns()), request=request))

    def forked(self, count: int, pause_s: float = 0.0) -> int:
        child = os.fork()
        if child == 0:
            self.write(count, name="f", pause_s=pause_s)
            os._exit(0)
        return child


def writes_until_killed(writer: Writer) -> None:
    """Two threads and a forked child write; the child outlives its parent for a while."""
    writer.write(5)
    threading.Thread(target=writer.write, args=(10**9,), kwargs={"pause_s": 0.002}, daemon=True).start()
    writer.forked(150, pause_s=0.002)
    print("running", flush=True)
    writer.write(10**9, pause_s=0.001)


def forks_while_appending(writer: Writer) -> None:
    """Children are forked while four threads append; parent and children all go on."""
    threads = [threading.Thread(target=writer.write, args=(300,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for child in [writer.forked(50) for _ in range(8)]:
        assert os.waitpid(child, 0)[1] == 0
    for thread in threads:
        thread.join()
    assert writer.spool.flush(20)


def forked_child_ships(writer: Writer) -> None:
    """A child forked from a process that ships ships for itself, on connections of its own."""
    writer.write(20)
    assert writer.spool.flush(20)
    child = os.fork()
    if child == 0:
        assert writer.spool.counters()["appended"] == 0
        writer.write(20, name="child")
        os._exit(0 if writer.spool.flush(20) else 1)
    assert os.waitpid(child, 0)[1] == 0
    writer.write(20, name="again")
    assert writer.spool.flush(20)


def exits_hard(writer: Writer) -> None:
    writer.write(100)
    os._exit(0)


def exits(writer: Writer) -> None:
    writer.write(100)


def raises(writer: Writer) -> None:
    writer.write(100)
    raise SystemExit(3)


def is_terminated(writer: Writer) -> None:
    writer.write(100)
    os.kill(os.getpid(), signal.SIGTERM)


def handles_signals_in_appends(writer: Writer) -> None:
    """A signal handler that itself appends interrupts appends at any point."""

    def handler(*_: object) -> None:
        writer.write(1, name="signal")
        signal.setitimer(signal.ITIMER_REAL, 0.002)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    writer.write(3000)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    assert writer.spool.flush(20)


def runs_processes(writer: Writer) -> None:
    writer.write(5)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=writer.write, args=(50,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0


def runs_a_pool(writer: Writer) -> None:
    writer.write(5)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(_write_some, [writer.prefix] * 6)


def _write_some(_: str) -> None:
    WRITERS[0].write(20)


def hangs(writer: Writer) -> None:
    """Forks and exits beside a sink that hangs: both take their time at most, the record is kept."""
    sink = HangingSink(writer.spool.directory.parent / "never")
    writer.spool = Spool(writer.spool.directory, lambda: [sink])
    writer.write(5)
    assert sink.reached.wait(20)
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        writer.write(5, name="child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert time.monotonic() - begun < 5


def writes_at_exit(writer: Writer) -> None:
    """A handler that ends after ours still appends; one that is the first to append finds no threads to start."""
    atexit.register(writer.write, 5, name="late")
    writer.write(5)
    other = Writer(writer.spool.directory, None, writer._acks, writer.prefix + "other")
    atexit.register(other.write, 5)


def forks_and_ships_many_times(writer: Writer) -> None:
    """Whatever the shipper does at the moment of a fork, SQLite goes on working in parent and child."""
    for _ in range(25):
        writer.write(20)
        child = os.fork()
        if child == 0:
            writer.write(5, name="child")
            os._exit(0 if writer.spool.flush(20) else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert writer.spool.flush(20)


def ships(writer: Writer) -> None:
    """Adopt and deliver without end."""
    print("running", flush=True)
    while True:
        ship_once(writer.spool.directory, writer._sinks, 5)
        time.sleep(0.01)


WRITERS: list[Writer] = []
MODES = {
    mode.__name__: mode
    for mode in (
        writes_until_killed,
        forks_while_appending,
        forked_child_ships,
        exits_hard,
        exits,
        raises,
        is_terminated,
        handles_signals_in_appends,
        runs_processes,
        runs_a_pool,
        hangs,
        writes_at_exit,
        forks_and_ships_many_times,
        ships,
    )
}

if __name__ == "__main__":
    mode, place, database, acks, prefix = sys.argv[1:]
    WRITERS.append(Writer(Path(place), None if database == "none" else Path(database), Path(acks), prefix))
    MODES[mode](WRITERS[0])
