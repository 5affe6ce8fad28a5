"""Mutation tests: runs mutmut on a random sample of mutants within a time limit; prints the score and survivors.

    python tools/mutants.py                                                  400 mutants, for at most 20 minutes
    python tools/mutants.py --number 0 --only 'callspan.providers.hosts*'    all mutants of one module

`[tool.mutmut]` in pyproject.toml says which files are mutated and which tests run. All mutants together take hours; the
score of a sample of 400 has a standard error of less than two percentage points.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MUTMUT = Path(sys.executable).parent / "mutmut"
SURVEYED = "callspan.providers.registry*"
"""A few mutants: with their run, mutmut generates all mutants and learns which tests reach which function."""
OUTCOMES = {1: "noticed", 3: "noticed", 0: "survived", 5: "without tests", 33: "without tests"}
"""By mutmut's exit code; None and 2: not run. All others are timeouts and crashes, which count as noticed."""
AT_LEAST = 85
ATTEMPTS = 3
"""A test that fails without any mutant ends mutmut; one that depends on time may do so on a busy machine."""


def main() -> int:
    """Run a sample; return 1 if the tests notice too few of its mutants, 2 if none could be run."""
    options = parsed()
    deadline = time.monotonic() + options.minutes * 60
    run([SURVEYED], deadline)
    names = sorted(name for name in results() if fnmatchcase(name, options.only))
    if options.number and options.number < len(names):
        names = sorted(random.Random(options.seed).sample(names, options.number))
    run(names, deadline)
    return report({name: code for name, code in results().items() if name in set(names)}, options.seed)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="a pattern of the names of mutants; default: all")
    parser.add_argument("--number", type=int, default=400, help="size of the random sample; 0: all")
    parser.add_argument("--minutes", type=float, default=20, help="time limit of everything")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample")
    return parser.parse_args()


def run(names: list[str], deadline: float) -> None:
    """Let mutmut run these mutants until the deadline. It keeps the result of each."""
    for attempt in range(ATTEMPTS):
        command = [MUTMUT, "run", *names]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                output, _ = process.communicate(timeout=max(1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=120)
                return
        if process.returncode == 0:
            return
        print(output[-2000:], f"mutmut failed ({process.returncode}), attempt {attempt + 1} of {ATTEMPTS}", sep="\n")
    raise SystemExit(2)


def results() -> dict[str, int | None]:
    """Return the exit code of every generated mutant by name. None: not run."""
    found: dict[str, int | None] = {}
    for file in sorted((ROOT / "mutants/src").rglob("*.meta")):
        found.update(json.loads(file.read_text())["exit_code_by_key"])
    return found


def report(codes: dict[str, int | None], seed: int) -> int:
    """Print the score and the mutants that no test noticed."""
    ran = {name: OUTCOMES.get(code, "noticed") for name, code in codes.items() if code not in (None, 2)}
    if not ran:
        print("no mutant was run within the time limit")
        return 2
    listed(ran, "survived")
    listed(ran, "without tests")
    score = 100 * sum(outcome == "noticed" for outcome in ran.values()) / len(ran)
    print(f"{score:.1f} % of {len(ran)} mutants noticed (seed {seed}); {len(codes) - len(ran)} not run in time")
    return int(score < AT_LEAST)


def listed(ran: dict[str, str], outcome: str) -> None:
    """Print the names of the mutants with this outcome."""
    names: Iterable[str] = [name for name, its in sorted(ran.items()) if its == outcome]
    for name in names:
        print(f"{outcome}: {name}")


if __name__ == "__main__":
    raise SystemExit(main())
