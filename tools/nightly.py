"""Run all tests and benchmarks, step by step, with one line of result for each.

    python -m tools.nightly                 every step
    python -m tools.nightly outages soak    the steps whose names contain one of these

A failing step does not stop the others; the exit code is then 1. The output is under .cache/nightly/.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.nightly import FILES
from tools import environments

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".cache" / "nightly"
LIMIT_S = 7200
PYTEST = ("-m", "pytest", "-n")
QUICK = "not nightly and not postgres and not clickhouse"
_ONLY_SKIPPED = re.compile(r"[= ]*\d+ skipped")
"""The last line of pytest where every test lacks something, such as Chromium: nothing was tested."""


def steps() -> Iterator[tuple[str, list[str]]]:
    """Yield the name and command of each step, starting with those that make environments."""
    python = sys.executable
    for name in ("sdks", "peers", "frameworks", "trainers", "backend"):
        yield f"environments of {name}", [python, "tools/environments.py", name]
    yield "Collector", ["make", ".cache/otelcol/otelcol"]
    yield "Prometheus", ["make", ".cache/prometheus/usr/bin/promtool"]
    yield (
        "methods of the newest SDKs",
        [".venv-sdks/newest/bin/python", *PYTEST, "0", "tests/docs/test_coverage.py"],
    )
    oldest = environments.interpreter("sdks/oldest-python")
    yield "make test, oldest Python", ["make", "test", f"PYTHON={oldest}", "VENV=.venv-sdks/make-test"]
    yield "every case of make test", [python, *PYTEST, "3", "--dist", "loadfile", "-m", QUICK]
    yield "Postgres and ClickHouse", [python, *PYTEST, "2", "-m", "(postgres or clickhouse) and not nightly"]
    for file, processes in FILES.items():
        yield file, [python, *PYTEST, str(processes), file]
    for name in ("oldest-python", "older", "recent", "lanes", "newest"):
        yield f"SDKs, {name}", [f".venv-sdks/{name}/bin/python", *PYTEST, "2", "-m", QUICK, "tests/calls"]
        yield f"fuzzer, SDKs, {name}", [f".venv-sdks/{name}/bin/python", "-m", "tests.fuzz", "--number", "300"]
    callers = [".venv-sdks/callers/bin/python", *PYTEST, "2", "tests/calls/test_callers.py", "tests/calls/test_http.py"]
    yield "SDKs, callers", callers
    yield "fuzzer, 2,600 cases", [python, "-m", "tests.fuzz", "--number", "2600"]
    yield "documents as a site", ["make", "docs"]
    yield "overhead", [python, "bench/run.py", "--quick"]
    yield "overhead in instructions", [python, "bench/run.py", "--instructions", "--quick"]
    yield "overhead beside others", [python, "bench/run_peers.py", "--quick"]


def run(name: str, command: list[str]) -> bool:
    """Run one step, print its result with the last line of its output, and return whether it passed."""
    # With each pair of SDKs and the oldest Python, tests use the samples of `make test`.
    is_sampled = name.startswith(("SDKs", "make test"))
    environment = {**os.environ, "CALLSPAN_SCALE": "sampled" if is_sampled else "full"}
    log = LOGS / f"{name.replace('/', '-').replace(' ', '-')}.log"
    began = time.monotonic()
    with log.open("w") as output:
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, timeout=LIMIT_S, check=False
            )
            passed = done.returncode == 0
        except (OSError, subprocess.TimeoutExpired) as error:
            print(error, file=output)
            passed = False
    said = log.read_text(errors="replace").strip().rpartition("\n")[2]
    passed = passed and _ONLY_SKIPPED.match(said) is None
    seconds = time.monotonic() - began
    print(f"{name:<40}  {'passed' if passed else 'FAILED'}  {seconds:>6.0f} s  {said[:80]}", flush=True)
    return passed


def main() -> None:
    """Run the steps that the command line names."""
    LOGS.mkdir(parents=True, exist_ok=True)
    parts = sys.argv[1:] or [""]
    results = [run(name, command) for name, command in steps() if any(part in name for part in parts)]
    sys.exit(f"{results.count(False)} of {len(results)} steps failed; output: {LOGS}" if False in results else 0)


if __name__ == "__main__":
    main()
