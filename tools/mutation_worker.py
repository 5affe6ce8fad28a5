"""Runs chosen tests against changed source, each time in a fork: what tools/mutate.py starts and talks to.

    python tools/mutation_worker.py survey OUT SOURCES TEST...    runs the tests once and tells their cost and reach
    python tools/mutation_worker.py in-place SURVEY    answers questions: one line of JSON each, as is the answer
    python tools/mutation_worker.py anew SURVEY        the same

The tree is the working directory; SOURCES are the folders whose lines count, with a comma between.

A worker `in-place` has imported and collected everything; its fork gives the functions their changed code, or a
table of a module its changed value, which costs next to nothing. What else holds the old value it cannot know: then
a test that fails has noticed, but if none does the answer is not final. A worker `anew` has imported only what is not
of the tree; its fork imports the tree with the one file changed.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn, TextIO

import pytest
from coverage import Coverage
from mutation_changes import Finder, InPlace

TREE = Path.cwd()
ARGUMENTS = [
    "-q", "-s", "-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin", "--hypothesis-seed=0", "-o", "timeout=60",
    "-m", "not slow and not timing and not postgres and not clickhouse and not backend",
]  # fmt: skip
LONGEST_S = 600
"""A fork that has not answered by then counts as one that noticed."""
MEMORY = 4 << 30


class Survey:
    """What each test costs, in seconds of CPU, and which lines it reaches."""

    def __init__(self, coverage: Coverage) -> None:
        self.coverage = coverage
        self.cost: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Note what the test costs and where it goes."""
        self.coverage.switch_context(item.nodeid)
        before = time.process_time()
        done = yield
        self.cost[item.nodeid] = round(time.process_time() - before, 4)
        self.coverage.switch_context("")
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that fails without a change, or is skipped, cannot tell anything."""
        if not report.passed:
            self.failed.add(report.nodeid)

    def as_json(self) -> dict[str, Any]:
        """Costs, lines, and the modules that a worker may import beforehand."""
        data = self.coverage.get_data()
        lines = {
            Path(file).relative_to(TREE).as_posix(): {
                line: sorted(set(contexts) - self.failed) for line, contexts in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        cost = {test: spent for test, spent in self.cost.items() if test not in self.failed}
        return {"cost": cost, "lines": lines, "modules": _foreign(), "failed": sorted(self.failed)}


def _foreign() -> list[str]:
    """The packages from elsewhere that the tests import; pytest must load its plugins itself."""
    found = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        elsewhere = file is not None and not Path(file).is_relative_to(TREE)
        known = "." in name or name.startswith("_") or name in sys.stdlib_module_names or name in ARGUMENTS
        if elsewhere and not known:
            found.add(name)
    return sorted(found)


def survey(out: Path, sources: list[str], tests: list[str]) -> None:
    """Run the tests once and write what they cost and which lines of the sources they reach."""
    coverage = Coverage(data_file=None, config_file=False, source=sources, concurrency="thread")
    plugin = Survey(coverage)
    coverage.start()
    pytest.main([*ARGUMENTS, *tests], plugins=[plugin])
    coverage.stop()
    out.write_text(json.dumps(plugin.as_json()), encoding="utf-8")


class Asked:
    """Runs the wanted tests in the wanted order, each with a limit, and knows the first that failed."""

    def __init__(self, tests: dict[str, float]) -> None:
        self.tests = tests
        self.noticed: str | None = None

    def chosen(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """What was asked for, in that order."""
        order = {test: place for place, test in enumerate(self.tests)}
        return sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep what was asked for."""
        items[:] = self.chosen(items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """End the process if this test computes far longer than it should: a loop has lost its end."""
        spent = resource.getrusage(resource.RUSAGE_SELF)
        seconds = spent.ru_utime + spent.ru_stime + 5 + 10 * self.tests[item.nodeid]
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, resource.RLIM_INFINITY))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the first that failed."""
        if report.failed:
            self.noticed = self.noticed or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module of tests that cannot be read is a failure too."""
        if report.failed:
            self.noticed = self.noticed or report.nodeid

    def answer(self, code: int) -> str | None:
        """Who noticed, by the exit code of pytest."""
        survived = code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        return None if survived else self.noticed or f"exit {int(code)}"


class Collected:
    """Holds a session of pytest before its first test, and continues it in a fork for each question."""

    def __init__(self, answers: TextIO) -> None:
        self.answers = answers
        self.fork: Fork | None = None
        self.asked: Asked | None = None
        self.final = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """In each fork return None, so that its tests are run; in the worker itself run none."""
        changes = InPlace(TREE)
        gc.freeze()
        for line in sys.stdin:
            question = json.loads(line)
            fork = Fork()
            if fork.inside:
                return self._continue(session, fork, changes, question)
            print(json.dumps(fork.answer()), file=self.answers, flush=True)
        session.items.clear()
        return True

    def _continue(self, session: pytest.Session, fork: Fork, changes: InPlace, question: dict[str, Any]) -> bool | None:
        self.fork, self.asked = fork, Asked(question["tests"])
        applied = None
        if question["source"] is not None:
            applied = changes.apply(question["path"], question["source"])
            if applied is None:
                fork.tell({"noticed": None, "final": False})
        self.final = applied != "values"
        session.items[:] = self.asked.chosen(session.items)
        session.config.pluginmanager.register(self.asked)
        session.config.option.maxfail = 1
        return None


class Fork:
    """A process of its own for one question, and the way back of its answer."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.process = os.fork()
        self.inside = self.process == 0
        if self.inside:
            os.setsid()
            _silence()
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def tell(self, answer: dict[str, Any]) -> NoReturn:
        """Inside: answer and end."""
        os.write(self.writing, json.dumps(answer).encode())
        os._exit(0)

    def answer(self) -> dict[str, Any]:
        """Outside: wait for the answer; a fork that ends without one, or not at all, has noticed."""
        os.close(self.writing)
        ready, _, _ = select.select([self.reading], [], [], LONGEST_S)
        told = os.read(self.reading, 65536) if ready else b""
        os.close(self.reading)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        if told:
            found: dict[str, Any] = json.loads(told)
            return found
        return {"noticed": "died" if ready else "hung", "final": True}


def in_place(answers: TextIO, tests: list[str]) -> None:
    """Answer question after question, in forks of a session that has collected everything."""
    plugin = Collected(answers)
    code = pytest.main([*ARGUMENTS, *dict.fromkeys(test.partition("::")[0] for test in tests)], plugins=[plugin])
    if plugin.fork is not None and plugin.asked is not None:
        plugin.fork.tell({"noticed": plugin.asked.answer(code), "final": plugin.final})


def anew(answers: TextIO, modules: list[str]) -> None:
    """Answer question after question, in forks that import the tree."""
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        question = json.loads(line)
        fork = Fork()
        if fork.inside:
            if question["source"] is not None:
                sys.meta_path.insert(0, Finder(TREE, question["path"], question["source"]))
            asked = Asked(question["tests"])
            files = list(dict.fromkeys(test.partition("::")[0] for test in question["tests"]))
            fork.tell(
                {"noticed": asked.answer(pytest.main(["-x", *ARGUMENTS, *files], plugins=[asked])), "final": True}
            )
        print(json.dumps(fork.answer()), file=answers, flush=True)


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)


def main() -> None:
    """Survey or answer, as the first argument says."""
    what, known = sys.argv[1], Path(sys.argv[2])
    if what == "survey":
        survey(known, sys.argv[3].split(","), sys.argv[4:])
        return
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    found = json.loads(known.read_text(encoding="utf-8"))
    if what == "in-place":
        in_place(answers, list(found["cost"]))
    else:
        anew(answers, found["modules"])


if __name__ == "__main__":
    main()
