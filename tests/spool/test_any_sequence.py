"""After any sequence of appends, faults, forks and crashes, every store has every record, once and in order."""

from __future__ import annotations

import gc
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial, partialmethod
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.left_behind import losses_in
from tests.support.rig import FileSink, SqliteSink, deliver_left, in_child, key_of, record, rows, spool_of
from tests.support.scale import scaled
from tests.support.waiting import HANG_S, until

from callspan.spool.delivering import Destination
from callspan.spool.directory import ends_in, rewrite, segments_in
from callspan.stores import Rejected

Step = tuple[str, int]


class TextlessError(Exception):
    """Its text cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


ERRORS = (ConnectionError("down"), SystemExit("I give up"), TextlessError())


class Interrupt(BaseException):
    """What a signal handler of the application may raise anywhere."""


class Faults:
    """Pending faults, shared by all sinks like one database server."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.lost_answers = 0
        self.is_down = self.exits = False


class FaultySink(Destination):
    """Fails before or after its commit while there are pending faults, and rejects poison."""

    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path, batch_records=5)  # type: ignore[call-arg]
        self._faults = faults
        self.is_refused = False

    def open(self) -> None:
        self.is_refused = self._faults.is_down
        if self.is_refused:
            raise ConnectionRefusedError("nobody listens")
        super().open()

    def deliver(self, payloads: Sequence[bytes]) -> None:
        if self._faults.is_down:
            raise ConnectionError("down")
        with suppress(IndexError):
            raise self._faults.errors.pop()
        for payload in payloads:
            if payload.startswith(b"poison"):
                raise Rejected("it is poison", payload)
            if payload.startswith(b"unnamed"):
                raise Rejected("one is poison")
            if payload.startswith(b"misfit"):
                raise ValueError("one is a misfit")
        super().deliver(payloads)
        if self._faults.lost_answers:
            self._faults.lost_answers -= 1
            raise ConnectionError("committed, but the answer was lost")


class Database(FaultySink, SqliteSink):
    """Has each record once."""


class File(FaultySink, FileSink):
    """Has each record as often as it was delivered; exits, if that is set, when it is idle or closed."""

    def tend(self, waits_since_ns: Callable[[], int | None]) -> bool:
        if self._faults.exits:
            sys.exit(f"nothing to do since {waits_since_ns()}")
        return False

    def close(self) -> None:
        super().close()
        if self._faults.exits:
            sys.exit("never")


class Scenario:
    """Executes steps, which are named as its methods, and remembers the records that must arrive."""

    def __init__(self, place: Path, max_bytes: int) -> None:
        self._place, self._max_bytes = place, max_bytes
        self._faults = Faults()
        self._count = self._rejected = self._damaged = 0
        self._good: list[str] = []
        self._perhaps: set[str] = set()
        """Records whose append was interrupted."""
        self._is_exact = True
        """Whether each record is delivered once and in order: no process has ended without its cursor."""
        self._begin()

    def _begin(self) -> None:
        self._sinks = self._new_sinks()
        self._spool = spool_of(self._place / "spool", max_bytes=self._max_bytes, **self._sinks)

    def _new_sinks(self) -> dict[str, FaultySink]:
        return {"a": Database(self._place / "a.db", self._faults), "b": File(self._place / "b", self._faults)}

    def append(self, amount: int, size: int = 100) -> list[str]:
        keys = self._new_keys("k", amount)
        assert self._keeps(keys, size)
        self._good += keys
        return keys

    def _new_keys(self, word: str, amount: int) -> list[str]:
        self._count += amount
        return [f"{word}{number}" for number in range(self._count - amount, self._count)]

    def _keeps(self, keys: list[str], size: int = 100) -> bool:
        return all(self._spool.append(record(key, size)) for key in keys)

    large = partialmethod(append, size=30_000)
    huge = partialmethod(append, size=20 << 20)

    def poison(self, amount: int, word: str = "poison") -> None:
        """Append records that every store rejects."""
        assert self._keeps(self._new_keys(word, amount))
        self._rejected += amount

    unnamed_poison = partialmethod(poison, word="unnamed")
    misfit = partialmethod(poison, word="misfit")

    def error(self, number: int) -> None:
        self._faults.errors.append(ERRORS[number])

    def exits(self, amount: int) -> None:
        """From now on stores exit when they are idle or closed."""
        self._faults.exits = bool(amount)

    def lost_answer(self, amount: int) -> None:
        self._faults.lost_answers += amount
        self._is_exact = False

    def flush(self, rest: int) -> None:
        """Repeat a flush that gives up, which is allowed only if a sink has failed meanwhile; then be idle."""
        self.up(0)
        failed = self._spool.counters()["retried"]
        while not self._spool.flush(HANG_S):
            before, failed = failed, self._spool.counters()["retried"]
            assert failed > before
        time.sleep(rest / 10)

    def restart(self, torn: int) -> None:
        """Begin again, perhaps after a process that died within a write: its segment ends with an incomplete line."""
        self._spool.close(0.0)
        for path in self._spool.directory.glob("*.segment"):
            with path.open("ab") as file:
                file.write(b"0123456 torn"[:torn])
        self._is_exact = False
        self._begin()

    def down(self, amount: int) -> None:
        """Let no store accept anything, so that further records wait on disk."""
        self._faults.is_down = True
        self.append(amount)
        until(lambda: not self._spool.flush(0.0) and all(sink.is_refused for sink in self._sinks.values()))

    def up(self, amount: int) -> None:
        del amount
        self._faults.is_down = False

    def damage(self, amount: int) -> None:
        self.down(1)
        gone = self.append(amount)[0]
        for path in segments_in(self._spool.directory):
            if (at := path.read_bytes().find(f"{gone} ".encode())) >= 0:
                with path.open("r+b") as file:
                    file.seek(at + 50)
                    file.write(b"\0\0\0")
        self._good.remove(gone)
        self._damaged += 1

    def erase(self, amount: int) -> None:
        """Erase every second of some waiting lines."""
        self.down(1)
        gone = self.append(2 * amount)[::2]
        ends = ends_in([self._spool.directory])
        assert rewrite(ends, lambda payload: b"" if key_of(payload) in gone else payload) == amount
        self._good = [key for key in self._good if key not in gone]

    def child(self, amount: int) -> None:
        """Append in a forked child, beside deliveries of this process."""
        keys = self._new_keys("child", amount)
        in_child(lambda: self._keeps(keys))
        self._good += keys
        self._is_exact = False

    def killed_child(self, amount: int) -> None:
        """Kill a forked child whose records are delivered, or wait while no store accepts them."""
        keys = self._new_keys("killed", amount)

        def work() -> None:
            if self._keeps(keys):
                self._spool.flush(0 if self._faults.is_down else HANG_S)
                os.kill(os.getpid(), signal.SIGKILL)

        in_child(work, signal.SIGKILL)
        self._good += keys
        self._is_exact = False

    def interrupted(self, number: int) -> None:
        """Raise an exception within an append, where a signal handler may: as a function begins or has returned."""
        (key,), events = self._new_keys("k", 1), iter(range(1000))

        def interrupt(frame: object, event: str, argument: object) -> None:
            if event != "c_call" and next(events) == number:
                raise Interrupt

        gc.disable()  # otherwise objects of other tests may be collected within the append
        self._perhaps.add(key)
        with suppress(Interrupt):
            sys.setprofile(interrupt)
            self._spool.append(record(key))
            sys.setprofile(None)
            self._perhaps.remove(key)
            self._good.append(key)
        sys.setprofile(None)
        gc.enable()

    def check(self) -> None:
        """Deliver what is left, as a command does, and compare."""
        self.up(0)
        self._spool.close(HANG_S)
        # A store that exits would end the command, too.
        self._faults.exits = False
        self._faults.errors = [error for error in self._faults.errors if isinstance(error, Exception)]
        for name, sink in self._new_sinks().items():
            left = partial(deliver_left, self._place / "spool", name, sink)
            until(lambda left=left: left().error is None, left)  # type: ignore[misc]
        delivered = FileSink(self._place / "b").keys()
        found = [key for key in delivered if key not in self._perhaps]
        assert found == self._good if self._is_exact else {*found} == {*self._good}
        assert {*rows(self._place / "a.db")} - self._perhaps == {*self._good}
        with closing(sqlite3.connect(self._place / "a.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        self._check_losses()

    def _check_losses(self) -> None:
        losses, directory = losses_in(self._spool.directory), self._spool.directory
        assert not losses.dropped
        assert not losses.given_up
        damaged = {name: loss.count for name, loss in losses.damaged.items()}
        expected = {f"x://{name}": self._damaged for name in self._sinks if self._damaged}
        assert not self._is_exact or damaged == expected
        # After a crash between a rejection and the cursor's move, a record is rejected again.
        file = directory / "rejected.jsonl"
        rejected = {*file.read_text().splitlines()} if file.exists() else set()
        assert len(rejected) == self._rejected * len(self._sinks)
        assert {json.loads(line)["reason"] for line in rejected} <= {"it is poison", "one is poison", "one is a misfit"}
        assert [path for path in segments_in(directory) if path.stat().st_size] == []


ATTACKS: dict[str, list[Step]] = {
    "a record larger than any batch": [("append", 1), ("huge", 1), ("append", 1)],
    "a damaged line": [("damage", 10), ("append", 1)],
    "poison that the store names": [("poison", 1), ("append", 4)] * 4,
    "poison that it does not name": [("unnamed_poison", 1), ("append", 4)] * 4,
    "records that raise an error of the data": [*[("misfit", 1), ("append", 4)] * 4, ("flush", 0)],
    "such a record behind poison that has no name": [("down", 2), ("unnamed_poison", 1), ("misfit", 1), ("append", 4)],
    "such a record, for a command": [("down", 1), ("misfit", 1), ("append", 4), ("restart", 0), ("up", 0)],
    "an error without a text, for a command": [("down", 1), ("restart", 0), ("up", 0), ("error", 2)],
    "erased while they wait": [("append", 3), ("erase", 2), ("append", 1)],
    "forks during deliveries": [("append", 20), ("child", 5)] * scaled(8, 30),
    "a killed process whose records were delivered": [("killed_child", 1)],
    "an exception anywhere in an append": [
        ("append", 1), *(step for number in range(60) for step in (("interrupted", number), ("append", 1)))
    ],
    **{f"a store that raises {error!r}": [("exits", 1), *[("error", number), ("append", 1), ("flush", 2)] * 2]
       for number, error in enumerate(ERRORS)},
}  # fmt: skip
AMOUNTS = {
    "append": (1, 12), "large": (1, 2), "poison": (1, 3), "unnamed_poison": (1, 2), "misfit": (1, 2),
    "error": (0, len(ERRORS) - 1), "exits": (0, 1), "lost_answer": (1, 2), "flush": (0, 0), "restart": (0, 12),
    "down": (1, 3), "up": (0, 0), "damage": (1, 3), "erase": (1, 2), "child": (1, 5), "killed_child": (0, 3),
}  # fmt: skip
STEPS = st.lists(
    st.one_of(*(st.tuples(st.just(name), st.integers(*bounds)) for name, bounds in AMOUNTS.items())), max_size=14
)


def run(place: Path, steps: list[Step], max_bytes: int) -> None:
    scenario = Scenario(place, max_bytes)
    for name, amount in steps:
        getattr(scenario, name)(amount)
    scenario.check()


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_loses_nothing_else(tmp_path: Path, attack: str) -> None:
    run(tmp_path, ATTACKS[attack], 1 << 30)


@given(steps=STEPS)
@settings(max_examples=scaled(10, 25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_sequence_loses_nothing(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]) -> None:
    run(tmp_path_factory.mktemp("scenario"), steps, 1 << 20)
