"""Run everything there is, one step after the other, and close with a table of all results.

    python -m tools.nightly                 every step
    python -m tools.nightly outages soak    the steps whose names contain one of these
    python -m tools.nightly --list          their names

A step that fails stops no other one; the exit code is then 1. A step that needs a program which is not installed is not
run, and the table says so. The output of each step lies under .cache/nightly/.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.nightly import FILES

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
PYTEST = (PYTHON, "-m", "pytest")
LOGS = ROOT / ".cache" / "nightly"
LIMIT_S = 3600
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAMS = {
    "tests/otel/test_jaeger.py": ("jaeger",),
    "tests/view/test_acceptance.py": CHROMIUM,
    "tests/view/test_browser.py": CHROMIUM,
    "tests/view/test_report_browser.py": CHROMIUM,
}
"""Programs that no package brings, any one of which a file of tests needs."""
SAMPLING = ("support.scale", "hypothesis", "tests.wire", "docs.running")
"""Imports of tests that do more at full scale."""
MATRIX = {"3.10": ("floor", "older", "recent"), "3.13": ("lanes", "newest")}
"""Sets of versions of the SDKs, by the Python on which their capture tests run."""
ENVIRONMENTS = ("newest", "peers", "frameworks", "trainers", "backend")


@dataclass(frozen=True)
class Step:
    """One command, and the programs of which it needs one."""

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    is_full: bool = True
    """Whether its tests run at full scale: those of each pair of SDKs take the samples of `make test`."""


@dataclass(frozen=True)
class Result:
    """What came of a step: `passed`, `FAILED` or `not run`, with the last line that it said or the reason."""

    step: Step
    outcome: str
    seconds: float
    said: str


def steps() -> Iterator[Step]:
    """Yield every step, those that make environments first."""
    for name in ENVIRONMENTS:
        yield Step(f"environment {name}", (PYTHON, "tools/environments.py", name))
    yield Step("environment collector", (PYTHON, "tools/collector.py"))
    yield Step(
        "methods of the newest SDKs",
        (".venv-newest/bin/python", "-m", "pytest", "-q", "tests/docs/test_coverage.py"),
    )
    quick = "not nightly and not postgres and not clickhouse"
    yield Step("samples of make test, whole", (*PYTEST, "-n", "3", "-m", quick, *sampled()))
    yield Step("Postgres and ClickHouse", (*PYTEST, "-n", "2", "-m", "(postgres or clickhouse) and not nightly"))
    for file, processes in FILES.items():
        yield Step(file, (*PYTEST, "-n", str(processes), file), PROGRAMS.get(file, ()))
    for python, sets in MATRIX.items():
        yield Step(f"SDKs on Python {python}", (PYTHON, "tools/matrix.py", "--python", python, *sets), is_full=False)
    yield Step("fuzzer, 2,600 cases", (PYTHON, "-m", "tests.fuzz", "--number", "2600"))
    yield Step("fuzzer on every pair of SDKs", (PYTHON, "tools/matrix.py", "--fuzz", "300"))
    yield Step("overhead", (PYTHON, "bench/run.py", "--quick"))
    yield Step("overhead in instructions", (PYTHON, "bench/run.py", "--instructions", "--quick"))
    yield Step("overhead beside others", (PYTHON, "bench/run_peers.py", "--quick"))


def sampled() -> list[str]:
    """Return the files of tests that try a part of their cases in `make test`; the others do the same there as here."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(one.relative_to(ROOT)) for one in files if any(word in one.read_text() for word in SAMPLING)]


def run(step: Step) -> Result:
    """Run one step; its output goes to a file of its own."""
    if step.needs and not any(map(shutil.which, step.needs)):
        return Result(step, "not run", 0, f"there is no {step.needs[0]} on the PATH")
    log = LOGS / f"{step.name.replace('/', '-').replace(' ', '-')}.log"
    environment = {**os.environ, "CALLSPAN_SCALE": "full"} if step.is_full else {**os.environ}
    began = time.monotonic()
    with log.open("w") as output:
        try:
            code = subprocess.run(
                step.command, cwd=ROOT, env=environment, stdout=output, stderr=output, timeout=LIMIT_S, check=False
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            print(error, file=output)
            code = 1
    lines = log.read_text(errors="replace").strip().splitlines()
    return Result(step, "FAILED" if code else "passed", time.monotonic() - began, lines[-1][:80] if lines else "")


def table(results: list[Result]) -> str:
    """Return the results as a table, with how many passed below it."""
    width = max(len(result.step.name) for result in results)
    lines = [f"{one.step.name:<{width}}  {one.outcome:<7}  {one.seconds:>6.0f} s  {one.said}" for one in results]
    count = {outcome: sum(one.outcome == outcome for one in results) for outcome in ("passed", "FAILED", "not run")}
    said = ", ".join(f"{number} {outcome}" for outcome, number in count.items())
    return "\n".join([*lines, f"{said} in {sum(one.seconds for one in results):.0f} s; output: {LOGS}"])


def main() -> int:
    """Run what the command line names; 1 if any step failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="parts of the names of steps; default: every step")
    parser.add_argument("--list", action="store_true", help="print the names of the steps")
    options = parser.parse_args()
    chosen = [one for one in steps() if not options.parts or any(part in one.name for part in options.parts)]
    if options.list or not chosen:
        print(*(one.name for one in chosen), sep="\n")
        return 0 if chosen else 1
    LOGS.mkdir(parents=True, exist_ok=True)
    results = []
    for one in chosen:
        print(f"{time.strftime('%H:%M:%S')}  {one.name} ...", flush=True)
        results.append(run(one))
    print(table(results))
    return 1 if any(one.outcome == "FAILED" for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
