"""Throughput, event loop delay and memory of many concurrent calls, compared with the bare SDK."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rows import BARE, DEFAULT, FLOOR, SQLITE
from run import print_table

_HERE = Path(__file__).resolve().parent
_ROWS = (BARE, FLOOR, DEFAULT, SQLITE)
_THROUGHPUT, _LATE, _GROWTH = 0.95, 1.1, 0.02
"""Parts of bare, at least and at most; growth of memory from a fifth of the calls to all."""


@dataclass(frozen=True)
class Scenario:
    """So many processes with so many callers each, who make so many calls one after the other."""

    name: str
    kind: str
    processes: int
    at_once: int
    each: int
    waits: bool = True


@dataclass
class Ran:
    """The rounds of one scenario: row -> calls per second, CPU seconds, and lateness at p99 in milliseconds."""

    scenario: Scenario
    per_s: dict[str, list[float]] = field(default_factory=lambda: {row: [] for row in _ROWS})
    cpu_s: dict[str, list[float]] = field(default_factory=lambda: {row: [] for row in _ROWS})
    late_ms: dict[str, list[float]] = field(default_factory=lambda: {row: [] for row in _ROWS})

    def throughput(self, row: str) -> float:
        """Part of the bare SDK's calls per second."""
        return statistics.median(mine / base for mine, base in zip(self.per_s[row], self.per_s[BARE], strict=True))

    def lateness(self, row: str) -> float | None:
        """How many times the bare SDK's lateness; None: there is no event loop, or it never had a moment to tick."""
        if not (self.late_ms[row] and self.late_ms[BARE]):
            return None
        return statistics.median(self.late_ms[row]) / statistics.median(self.late_ms[BARE])

    def misses(self) -> list[str]:
        """What is not within its bar."""
        if not self.scenario.waits:
            return []
        found = []
        for row in (DEFAULT, SQLITE):
            if self.throughput(row) < _THROUGHPUT:
                found.append(f"{self.scenario.name}, {row}: throughput")
            if (late := self.lateness(row)) is not None and late > _LATE:
                found.append(f"{self.scenario.name}, {row}: lateness")
        return found


def scenarios(*, quick: bool) -> list[Scenario]:
    """Return what is run; a quick run makes fewer calls."""
    each = 1 if quick else 2
    return [
        Scenario("200 async streams", "streams", 1, 200, each),
        Scenario("50 threads", "threads", 1, 50, 4 * each),
        Scenario("8 processes, 25 async streams each", "streams", 8, 25, each),
        Scenario("200 async streams, no waits", "streams", 1, 200, 1, waits=False),
        Scenario("8 processes, 25 async streams each, no waits", "streams", 8, 25, each, waits=False),
    ]


def run(scenario: Scenario, rounds: int) -> Ran:
    """Run a scenario for so many rounds of all rows, the rows in turning order."""
    ran = Ran(scenario)
    with _workers(scenario) as workers:
        for number in range(rounds):
            turn = number % len(_ROWS)
            for row in (*_ROWS[turn:], *_ROWS[:turn]):
                answers = _round(workers, row)
                spent = max(each["ended"] for each in answers) - min(each["began"] for each in answers)
                ran.per_s[row].append(scenario.processes * scenario.at_once * scenario.each / spent)
                ran.cpu_s[row].append(sum(each["cpu_s"] for each in answers))
                late = [each["late_p99_s"] for each in answers if each["late_p99_s"] is not None]
                if late:
                    ran.late_ms[row].append(1000 * statistics.median(late))
    return ran


@contextmanager
def _workers(scenario: Scenario) -> Iterator[list[subprocess.Popen[str]]]:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        waits = "waits" if scenario.waits else "none"
        store = f"sqlite:///{Path(directory) / 'scale.db'}"
        command = [
            sys.executable,
            str(_HERE / "scale_load.py"),
            scenario.kind,
            str(scenario.at_once),
            str(scenario.each),
        ]
        workers = [
            stack.enter_context(
                subprocess.Popen([*command, waits, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(scenario.processes)
        ]
        for worker in workers:
            _line(worker)
        yield workers
        for worker in workers:
            if worker.stdin:
                worker.stdin.close()


def _round(workers: Sequence[subprocess.Popen[str]], row: str) -> list[dict[str, Any]]:
    for worker in workers:
        if worker.stdin:
            worker.stdin.write(f"{row}\n")
            worker.stdin.flush()
    return [json.loads(_line(worker)) for worker in workers]


def _line(worker: subprocess.Popen[str]) -> str:
    line = worker.stdout.readline() if worker.stdout else ""
    if not line:
        raise RuntimeError("a process under load has died; its own words are above")
    return line


def memory(calls: int, minutes: float) -> dict[str, Any]:
    """Return what `scale_memory.py` found."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, str(_HERE / "scale_memory.py"), str(calls), str(minutes), directory]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def growth(samples: Sequence[tuple[int, float]]) -> float:
    """Return by what part memory has grown from a fifth of the calls to all of them."""
    return samples[-1][1] / samples[len(samples) // 5][1] - 1


def _show(done: Sequence[Ran]) -> None:
    rows = []
    for ran in done:
        for row in _ROWS:
            per_s, late, cpu = statistics.median(ran.per_s[row]), ran.lateness(row), statistics.median(ran.cpu_s[row])
            shown = f"{statistics.median(ran.late_ms[row]):.2f}" if ran.late_ms[row] else ""
            ratios = (f"{ran.throughput(row):.1%}", "" if late is None else f"{late:.2f}") if row != BARE else ("", "")
            rows.append((ran.scenario.name, row, f"{per_s:.1f}", ratios[0], shown, ratios[1], f"{cpu:.1f}"))
    bars = f"at least {_THROUGHPUT:.0%}", f"at most {_LATE}"
    head = ("", "", "calls per s", f"of bare ({bars[0]})", "late at p99, ms", f"of bare ({bars[1]})", "CPU s")
    print_table(head, rows)


def main() -> int:
    """Run everything; return 1 if a full run misses a bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than two minutes")
    parser.add_argument("--rounds", type=int, help="rounds of each scenario")
    parser.add_argument("--calls", type=int, help="calls of the memory run")
    options = parser.parse_args()
    done = []
    for scenario in scenarios(quick=options.quick):
        done.append(run(scenario, options.rounds or (1 if options.quick else 5)))
        _show(done[-1:])
    kept = memory(options.calls or (20_000 if options.quick else 1_000_000), 0.5 if options.quick else 7.5)
    grown = growth(kept["samples"])
    print(f"resident memory with a dead store, {kept['calls']:,} calls: grown by {grown:.1%}; {kept['counters']}")
    misses = [miss for ran in done for miss in ran.misses()] + (["memory"] if grown > _GROWTH else [])
    print(f"not within their bars: {'; '.join(misses) or 'none'}")
    return 1 if misses and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main())
