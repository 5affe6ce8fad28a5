"""Mutation tests: small faults put into a package, and which of two groups of tests notice them.

    python -m tools.mutants callspan.record --keep tests/wire tests/sessions --cut tests/spans

Each mutant is one change of one function, put into a forked process by exchanging the function's code and judged there
by the fastest tests that execute its line. Printed: which group notices each mutant, and the sums.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import json
import os
import random
import signal
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ["-qq", "-p", "no:randomly", "-m", "not nightly and not postgres and not clickhouse"]
OPPOSITES: dict[type, type] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
}  # fmt: skip
SAME = ("co_filename", "co_name", "co_firstlineno", "co_freevars")


class Mutant(NamedTuple):
    """One change: that of a node, by its number within a function."""

    path: Path
    function: tuple[str, ...]
    number: int
    line: int
    what: str


def mutate(node: ast.AST) -> bool:
    """Change one detail of the node; False if there is none."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OPPOSITES:
        node.ops[0] = OPPOSITES[type(node.ops[0])]()
    elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in OPPOSITES:
        node.op = OPPOSITES[type(node.op)]()
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
    elif isinstance(node, ast.IfExp):
        node.body, node.orelse = node.orelse, node.body
    elif isinstance(node, ast.If):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif (isinstance(node, ast.Return) and node.value) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        node.value = ast.Constant(None)
    else:
        return False
    return True


def functions(tree: ast.Module) -> Iterator[tuple[tuple[str, ...], list[ast.AST]]]:
    """Yield the functions and methods of a module by name, each with the nodes of its body."""
    for top in tree.body:
        for function in top.body if isinstance(top, ast.ClassDef) else [top]:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                owner = (top.name,) if isinstance(top, ast.ClassDef) else ()
                yield (*owner, function.name), [node for line in function.body for node in ast.walk(line)]


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield all mutants of a module."""
    for function, nodes in functions(ast.parse(path.read_text())):
        for number, node in enumerate(nodes):
            line = getattr(node, "lineno", 0)
            text = f"{type(node).__name__}: {ast.unparse(node).splitlines()[0][:70]}" if line else ""
            if mutate(node):
                yield Mutant(path, function, number, line, text)


def put_in(mutant: Mutant) -> None:
    """Exchange the code of the mutant's function in this process, whatever imports its module later."""
    module = ".".join(mutant.path.relative_to(ROOT / "src").with_suffix("").parts)
    importlib.import_module(module.removesuffix(".__init__"))
    tree = ast.parse(mutant.path.read_text())
    mutate(next(nodes for name, nodes in functions(tree) if name == mutant.function)[mutant.number])
    code = compile(ast.fix_missing_locations(tree), str(mutant.path), "exec")
    for part in mutant.function:
        code = next(one for one in code.co_consts if isinstance(one, types.CodeType) and one.co_name == part)
    wanted = [getattr(code, name) for name in SAME]
    gc.unfreeze()  # what tests/conftest.py froze after collection
    for one in gc.get_objects():
        if isinstance(one, types.FunctionType) and [getattr(one.__code__, name) for name in SAME] == wanted:
            one.__code__ = code


def forked(work: Callable[[], object]) -> int:
    """Start a silent process; it fails if the work returns what is true, is killed or raises."""
    child = os.fork()
    if child == 0:
        result: object = True
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            result = work()
        finally:
            os._exit(bool(result))
    return child


class Judge:
    """A plugin of pytest: in place of the tests, the mutants are run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what fails."""
        self._failed |= {report.nodeid} if report.failed else set()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Learn which tests execute which lines; run a sample of mutants; print what was noticed."""
        package, sums = self._options.package, {"mutants": 0, "keep": 0, "cut": 0, "only cut": 0}
        with tempfile.TemporaryDirectory() as directory:
            os.waitpid(forked(lambda: self._survey(session.items, Path(directory))), 0)
            took = {int(place): s for place, s in json.loads(Path(directory, "took").read_text()).items()}
            data = coverage.CoverageData(f"{directory}/data")
            data.read()
            lines = {
                (path, line): sorted({int(one) for one in contexts if one} & took.keys(), key=took.__getitem__)
                for path in data.measured_files()
                for line, contexts in data.contexts_by_lineno(path).items()
            }
        every = [one for path in sorted({path for path, _ in lines}) for one in mutants(Path(path))]
        every = [one for one in every if lines.get((str(one.path), one.line))]
        for mutant in random.Random(self._options.seed).sample(every, min(len(every), self._options.number)):
            items = [session.items[place] for place in lines[str(mutant.path), mutant.line]]
            children = {name: forked(partial(self._judged, mutant, self._of(name, items))) for name in ("keep", "cut")}
            noticed = [name for name, child in children.items() if os.waitpid(child, 0)[1] != 0]
            for name in ("mutants", *noticed, *(["only cut"] if noticed == ["cut"] else [])):
                sums[name] += 1
            place = f"{mutant.path.relative_to(ROOT)}:{mutant.line}"
            tests = {item.nodeid.partition("[")[0] for item in self._of("cut", items)} if noticed == ["cut"] else ()
            print(f"{' '.join(noticed):9} {place} {mutant.what}", *sorted(tests)[:3], sep="\n    ", flush=True)
        print(package, sums, flush=True)
        return True

    def _of(self, group: str, items: list[pytest.Item]) -> list[pytest.Item]:
        places = tuple(getattr(self._options, group))
        return [item for item in items if item.nodeid.startswith(places)][: self._options.most]

    def _survey(self, items: list[pytest.Item], directory: Path) -> None:
        package = str(ROOT / "src" / self._options.package.replace(".", "/"))
        include = [f"{package}/*", f"{package}.py"]
        measure, took = coverage.Coverage(f"{directory}/data", include=include, config_file=False), {}
        measure.start()
        for place, item in enumerate(items):
            measure.switch_context(str(place))
            began = time.monotonic()
            self._run(item, items[place + 1 : place + 2])
            took |= {} if item.nodeid in self._failed else {place: time.monotonic() - began}
        measure.stop()
        measure.save()
        Path(directory, "took").write_text(json.dumps(took))

    def _judged(self, mutant: Mutant, items: list[pytest.Item]) -> bool:
        signal.alarm(120)
        put_in(mutant)
        return any(self._run(item, items[place + 1 : place + 2]) for place, item in enumerate(items))

    def _run(self, item: pytest.Item, following: list[pytest.Item]) -> bool:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following[0] if following else None)
        return bool(self._failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package")
    parser.add_argument("--keep", nargs="+", default=["-"], help="tests that stay")
    parser.add_argument("--cut", nargs="+", default=["-"], help="tests that may go")
    parser.add_argument("--number", type=int, default=60, help="of mutants")
    parser.add_argument("--most", type=int, default=20, help="tests of each group for one mutant")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    pytest.main([*OPTIONS, *(name for name in given.keep + given.cut if name != "-")], plugins=[Judge(given)])
