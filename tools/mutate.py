"""Mutation run: changes one small thing in the source at a time and sees whether the tests notice.

    python tools/mutate.py                        every mutant of providers, observe and process
    python tools/mutate.py --sample 200 --seed 1  a random sample; says how large it is
    python tools/mutate.py --only src/callspan/observe
    python tools/mutate.py --again --results R    only those that survived in an earlier run, whose results are in R

Everything happens in a copy of the tree. The tests are run once under coverage, which tells what each reaches;
a mutant is then asked only of the tests that reach its line, the likeliest and cheapest first, until one fails. A
mutant that no test reaches has survived. Each result is a line of JSON in the file of --results, the last about a
mutant counts. docs/mutation.md says which may survive, and why.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

from mutants import Mutant, mutants_of

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("src/callspan/providers", "src/callspan/observe", "src/callspan/process")
TESTS = [
    "tests/unit/providers", "tests/unit/observe", "tests/unit/process",
    "tests/intercept/test_endings.py", "tests/intercept/test_usage_settings.py", "tests/intercept/test_record_call.py",
    "tests/attempts/test_sequences.py", "tests/attempts/test_errors.py", "tests/attempts/test_rate_limits.py",
]  # fmt: skip
CONTROL_EVERY = 50
"""How often the tests are also asked about the unchanged source, to see that they do not fail by themselves."""


@dataclass
class Reach:
    """Which tests get to which lines."""

    cost: dict[str, float]
    """Seconds of each test."""
    lines: dict[str, dict[int, list[str]]]
    """For each file and line the tests; an empty name is the import."""
    imports: dict[str, set[str]]
    """For each file those that import it."""
    seconds: float
    """The tests asked about one mutant cost at most so much, of CPU; the dearest are left out."""
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often a file of tests has noticed a change of a file."""

    @classmethod
    def read(cls, survey: Path, tree: Path, seconds: float) -> Reach:
        """From what the survey wrote."""
        found = json.loads(survey.read_text(encoding="utf-8"))
        lines = {
            file: {int(line): tests for line, tests in reached.items()} for file, reached in found["lines"].items()
        }
        return cls(found["cost"], lines, _importers(tree), seconds)

    def tests(self, mutant: Mutant) -> list[str]:
        """Those that can notice it, first those of a file named like it, and of them the cheapest.

        What runs at import shows wherever the module is used, so all tests of the module are meant, of those that
        import it, and in files that do. What few tests reach may be what others find in a cache.
        """
        reached = self._reached(mutant)
        if "" in reached:
            for file in (mutant.path, *sorted(self.imports.get(mutant.path, ()))):
                reached |= self._of_file(file)
        elif len(reached) in (1, 2):
            reached |= self._of_file(mutant.path)
        chosen, spent = [], 0.0
        about = set(Path(mutant.path).stem.split("_"))
        for test in sorted(reached & self.cost.keys(), key=lambda test: (-_shared(about, test), self.cost[test], test)):
            if not chosen or spent + self.cost[test] <= self.seconds:
                chosen.append(test)
                spent += self.cost[test]
        return chosen

    def runs_at_import(self, mutant: Mutant) -> bool:
        """True if the line runs before any test does."""
        return "" in self._reached(mutant)

    def _reached(self, mutant: Mutant) -> set[str]:
        return self._on(mutant.path, mutant.own) or self._on(mutant.path, mutant.statement)

    def _of_file(self, path: str) -> set[str]:
        """The tests that reach any line of a source file; those in a file of tests."""
        inside = {test for test in self.cost if test.startswith(f"{path}::")}
        return inside.union(*self.lines.get(path, {}).values())

    def _on(self, path: str, between: tuple[int, int]) -> set[str]:
        lines = self.lines.get(path, {})
        return {test for line in range(between[0], between[1] + 1) for test in lines.get(line, ())}

    def likeliest(self, mutant: Mutant, tests: list[str]) -> str:
        """The file of tests that will notice it if any does: asked by itself, as each file has to be imported."""
        files = Counter(test.partition("::")[0] for test in tests)
        stem = Path(mutant.path).stem
        return max(files, key=lambda file: (self.kills[mutant.path, file], stem in file, files[file], file))


def _shared(about: set[str], test: str) -> int:
    """How many words the name of a module and that of a test's file have in common."""
    return len(about & set(Path(test.partition("::")[0]).stem.split("_")))


def _importers(tree: Path) -> dict[str, set[str]]:
    """For each module of the tree the files of source and tests that name it in an import."""
    found: dict[str, set[str]] = {}
    for file in (*(tree / "src").rglob("*.py"), *(tree / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                found.setdefault("src/" + name.replace(".", "/") + ".py", set()).add(file.relative_to(tree).as_posix())
    return found


class Worker:
    """A process that answers questions in one of two ways; see tools/mutation_worker.py."""

    def __init__(self, tree: Path, way: str, survey: Path) -> None:
        self.process = subprocess.Popen(
            _worker(tree, way, str(survey)), cwd=tree, env=_environment(tree), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self) -> Worker:  # noqa: PYI034 - Self is newer than the oldest Python
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def ask(self, path: str, source: str | None, tests: dict[str, float]) -> dict[str, Any]:
        """`noticed`: which test fails if the file has this source, or None; `final`: whether that is sure."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"path": path, "source": source, "tests": tests}), file=self.process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


def _worker(tree: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(tree / "tools" / "mutation_worker.py"), *arguments]


def _environment(tree: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(tree / "src"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / "hypothesis"),
    }


class Job:
    """Two workers, one of each way, that are asked one after the other."""

    def __init__(self, tree: Path, survey: Path, reach: Reach, stack: ExitStack) -> None:
        self.reach = reach
        self.in_place = stack.enter_context(Worker(tree, "in-place", survey))
        self.anew = stack.enter_context(Worker(tree, "anew", survey))

    def result(self, mutant: Mutant, *, control: bool) -> dict[str, Any]:
        """The result for one mutant; with `control`, what is called so fails without the change."""
        started = time.monotonic()
        tests = self.reach.tests(mutant)
        if not tests:
            return _result(mutant, "unreached", None, started)
        noticed = self._noticed(mutant, tests)
        result = _result(mutant, "survived" if noticed is None else "killed", noticed, started)
        if control:
            failed = [way.ask(mutant.path, None, self._costs(tests))["noticed"] for way in (self.in_place, self.anew)]
            result["control"] = next(filter(None, failed), "")
        return result

    def _noticed(self, mutant: Mutant, tests: list[str]) -> str | None:
        answer = self.in_place.ask(mutant.path, mutant.source, self._costs(tests))
        imported = self.reach.runs_at_import(mutant)
        if answer["noticed"] is not None or (answer["final"] and not imported):
            return answer["noticed"]
        likeliest = self.reach.likeliest(mutant, tests)
        for first in (True, False):
            part = [test for test in tests if test.startswith(likeliest + "::") == first]
            noticed: str | None = (
                self.anew.ask(mutant.path, mutant.source, self._costs(part))["noticed"] if part else None
            )
            if noticed is not None:
                self.reach.kills[mutant.path, noticed.partition("::")[0]] += 1
                return noticed
        return None

    def _costs(self, tests: list[str]) -> dict[str, float]:
        return {test: self.reach.cost[test] for test in tests}


def _result(mutant: Mutant, outcome: str, noticed: str | None, started: float) -> dict[str, Any]:
    return {
        "path": mutant.path, "line": mutant.line, "within": mutant.within, "what": mutant.what, "nth": mutant.nth,
        "outcome": outcome, "noticed": noticed, "seconds": round(time.monotonic() - started, 2),
    }  # fmt: skip


def run(chosen: list[Mutant], tree: Path, survey: Path, known: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Survey the tests of the tree unless that is done, then ask about each mutant; results as they come."""
    if not survey.exists():
        command = _worker(tree, "survey", str(survey), ",".join(PACKAGES), *TESTS)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, cwd=tree, env=_environment(tree), check=True, **quiet)
    reach = Reach.read(survey, tree, known.seconds)
    deadline = time.monotonic() + known.minutes * 60
    print(f"{len(reach.cost)} tests, {sum(reach.cost.values()):.0f} s of CPU", flush=True)
    results: Queue[dict[str, Any] | None] = Queue()
    with ExitStack() as stack:
        free: Queue[Job] = Queue()
        for _ in range(known.jobs):
            free.put(Job(tree, survey, reach, stack))

        def one(numbered: tuple[int, Mutant]) -> None:
            if time.monotonic() < deadline:
                job = free.get()
                results.put(job.result(numbered[1], control=numbered[0] % CONTROL_EVERY == 0))
                free.put(job)

        def all_of_them() -> None:
            try:
                with ThreadPoolExecutor(known.jobs) as pool:
                    list(pool.map(one, enumerate(chosen)))
            finally:
                results.put(None)

        threading.Thread(target=all_of_them, daemon=True).start()
        yield from iter(results.get, None)


def told(results: Iterable[dict[str, Any]], file: Path) -> list[dict[str, Any]]:
    """Write and print the results as they come."""
    every = []
    with file.open("a", encoding="utf-8") as out:
        for result in results:
            every.append(result)
            print(json.dumps(result), file=out, flush=True)
            if result["outcome"] != "killed":
                print(f"{result['outcome']}: {result['path']}:{result['line']}: {result['what']}", flush=True)
            if result.get("control"):
                print(f"fails without a change: {result['control']}", flush=True)
    return every


def summary(results: dict[tuple[str, str, str, int], str]) -> Iterator[str]:
    """A table of the packages."""
    yield "| Package | Asked | Killed | Share |\n| --- | ---: | ---: | ---: |"
    for package in (*PACKAGES, "src"):
        inside = [outcome for (path, *_), outcome in results.items() if path.startswith(package)]
        killed = inside.count("killed")
        name = "all" if package == "src" else package.rpartition("/")[2]
        yield f"| {name} | {len(inside)} | {killed} | {100 * killed / max(len(inside), 1):.1f} % |"


def main() -> int:
    """Run the mutants; 1 if fewer than the wanted share is killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="so many mutants at random instead of all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only files whose path starts so")
    parser.add_argument("--again", action="store_true", help="only those that survived according to the results")
    parser.add_argument("--resume", action="store_true", help="only those that are not in the results yet")
    parser.add_argument("--seconds", type=float, default=5.0, help="CPU of the tests asked about one mutant, at most")
    parser.add_argument("--survey", type=Path, help="what the tests of this very tree reach, if it is known already")
    parser.add_argument("--results", type=Path, default=Path(tempfile.gettempdir()) / "callspan-mutants.jsonl")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--wanted", type=float, default=85.0, help="least share killed, in per cent")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop asking after so long")
    known = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tree = copied(Path(scratch))
        files = sorted(file for package in PACKAGES for file in (tree / package).rglob("*.py"))
        files = [file for file in files if file.relative_to(tree).as_posix().startswith(known.only)]
        every = [mutant for file in files for mutant in mutants_of(file, tree)]
        random.Random(known.seed).shuffle(every)
        chosen = every[: known.sample]
        if not known.again and not known.resume:
            known.results.unlink(missing_ok=True)
        told_before = outcomes(known.results)
        if known.again:
            chosen = [mutant for mutant in chosen if told_before.get(mutant.key, "killed") != "killed"]
        elif known.resume:
            chosen = [mutant for mutant in chosen if mutant.key not in told_before]
        print(f"{len(chosen)} of {len(every)} mutants in {len(files)} files", flush=True)
        asked = told(run(chosen, tree, known.survey or tree / "survey.json", known), known.results)
    keys = {mutant.key for mutant in every}
    results = {key: outcome for key, outcome in outcomes(known.results).items() if key in keys}
    print("\n".join(summary(results)))
    controls = [result["control"] for result in asked if "control" in result]
    print(f"{len(controls)} times asked without a change, {sum(map(bool, controls))} failed")
    killed = list(results.values()).count("killed")
    return 0 if results and 100 * killed >= known.wanted * len(results) else 1


def copied(place: Path) -> Path:
    """A copy of what is needed of the tree, so that nobody's edits disturb a long run."""
    for name in ("src", "tests", "tools"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


def outcomes(results: Path) -> dict[tuple[str, str, str, int], str]:
    """What the last line of a file of results about each mutant says."""
    if not results.exists():
        return {}
    told = map(json.loads, results.read_text(encoding="utf-8").splitlines())
    return {(line["path"], line["within"], line["what"], line["nth"]): line["outcome"] for line in told}


if __name__ == "__main__":
    sys.exit(main())
