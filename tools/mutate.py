"""Mutation run: changes one small thing in the source at a time and sees whether the tests notice.

    python tools/mutate.py                        every mutant of providers, observe and policy
    python tools/mutate.py --sample 200 --seed 1  a random sample; says how large it is
    python tools/mutate.py --only src/callspan/observe

Mutants are made in a copy of the tree, so the working tree is never touched. Each is tested with the unit
tests of its package, the fastest first. Survivors are listed; docs/mutation.md says which may survive, and why.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "src/callspan/providers/openai": ["tests/unit/providers/openai"],
    "src/callspan/providers/anthropic": ["tests/unit/providers/anthropic"],
    "src/callspan/providers": ["tests/unit/providers"],
    "src/callspan/observe": [
        "tests/unit/observe",
        "tests/intercept/test_endings.py",
        "tests/intercept/test_usage_settings.py",
    ],
    "src/callspan/policy": ["tests/unit/policy"],
}
"""Which tests are asked about which source; the longest fitting path counts."""
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip
TIMEOUT_S = 120


@dataclass(frozen=True)
class Mutant:
    """One change."""

    path: str
    line: int
    what: str
    source: str
    """The whole file with the change."""


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Every mutant of a file."""
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line.encode()) + 1)
    content = text.encode()
    for node, new, what in _changes(ast.parse(text)):
        start = offsets[node.lineno - 1] + node.col_offset
        end = offsets[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        changed = content[:start] + new.encode() + content[end:]
        yield Mutant(str(path.relative_to(ROOT)), node.lineno, what, changed.decode())


def _changes(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:  # noqa: C901 - one branch for each kind
    constants = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    annotations = {id(inner) for node in ast.walk(tree) for inner in _annotation(node)}
    for node in ast.walk(tree):
        if id(node) in annotations or id(node) in constants:
            continue
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            other = COMPARISONS[type(node.ops[0])]()
            new = ast.unparse(ast.Compare(node.left, [other], node.comparators))
            yield node, f"({new})", f"{ast.unparse(node)} -> {new}"
        elif isinstance(node, ast.BoolOp):
            new = ast.unparse(ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
            yield node, f"({new})", f"{ast.unparse(node)} -> {new}"
        elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            new = ast.unparse(ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right))
            yield node, f"({new})", f"{ast.unparse(node)} -> {new}"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node, f"({ast.unparse(node.operand)})", f"{ast.unparse(node)} -> without not"
        elif isinstance(node, ast.IfExp):
            yield node, f"({ast.unparse(node.body)})", f"{ast.unparse(node)} -> always the first"
            yield node, f"({ast.unparse(node.orelse)})", f"{ast.unparse(node)} -> always the second"
        elif isinstance(node, ast.Constant):
            yield from _of_constant(node)
        elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
            yield node, "return None", f"{ast.unparse(node)} -> return None"
        elif isinstance(node, ast.Continue | ast.Break):
            yield node, "pass", f"{ast.unparse(node)} -> pass"


def _of_constant(node: ast.Constant) -> Iterator[tuple[ast.expr, str, str]]:
    value = node.value
    if isinstance(value, bool):
        yield node, repr(not value), f"{value} -> {not value}"
    elif isinstance(value, int):
        yield node, repr(value + 1), f"{value} -> {value + 1}"
    elif isinstance(value, str) and value:
        yield node, repr(value + "XX"), f"{value!r} -> {value + 'XX'!r}"


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _annotation(node: ast.AST) -> Iterator[ast.AST]:  # noqa: C901 - one branch for each kind
    """What the interpreter never asks: annotations, type aliases, what `fail_open` says, f-strings' literals."""
    found: list[ast.AST | None] = []
    if isinstance(node, ast.arg):
        found.append(node.annotation)
    elif isinstance(node, ast.AnnAssign):
        found.append(node.annotation)
        if "TypeAlias" in ast.unparse(node.annotation):
            found.append(node.value)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        found.append(node.returns)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("fail_open", "cast", "TypeVar"):
        found.extend(node.args)
    elif isinstance(node, ast.JoinedStr | ast.ImportFrom):
        found.append(node)
    elif isinstance(node, ast.Assign) and any("__slots__" in ast.unparse(target) for target in node.targets):
        found.append(node.value)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        found.append(node)
    for root in found:
        if root is not None:
            yield from ast.walk(root)


def tests_for(path: str) -> list[str]:
    """The tests that are asked about a source file."""
    return PACKAGES[max((package for package in PACKAGES if path.startswith(package)), key=len)]


class Copy:
    """A copy of the tree in which mutants are tried, one at a time."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", place)

    def passes(self, path: str) -> bool:
        """True if the tests for this file pass."""
        environment = {**os.environ, "PYTHONPATH": str(self.place / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", "-m", "not slow", *tests_for(path)]
        try:
            done = subprocess.run(
                command, cwd=self.place, env=environment, check=False, timeout=TIMEOUT_S,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def survives(self, mutant: Mutant) -> bool:
        """True if no test notices the change."""
        file = self.place / mutant.path
        original = file.read_text(encoding="utf-8")
        file.write_text(mutant.source, encoding="utf-8")
        try:
            return self.passes(mutant.path)
        finally:
            file.write_text(original, encoding="utf-8")


def main() -> int:
    """Run the mutants; 1 if fewer than the wanted share is killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="so many mutants at random instead of all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only files whose path starts so")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--wanted", type=float, default=85.0, help="least share killed, in per cent")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop asking after so long")
    known = parser.parse_args()
    files = sorted({file for package in PACKAGES for file in (ROOT / package).rglob("*.py")})
    files = [file for file in files if str(file.relative_to(ROOT)).startswith(known.only)]
    every = [mutant for file in files for mutant in mutants_of(file)]
    chosen = every
    if known.sample is not None and known.sample < len(every):
        chosen = random.Random(known.seed).sample(every, known.sample)
    print(f"{len(chosen)} of {len(every)} mutants in {len(files)} files", flush=True)
    deadline = time.monotonic() + known.minutes * 60
    with tempfile.TemporaryDirectory() as scratch:
        copies: Queue[Copy] = Queue()
        for job in range(known.jobs):
            copies.put(Copy(Path(scratch) / str(job)))

        def survived(mutant: Mutant) -> bool | None:
            copy = copies.get()
            try:
                return None if time.monotonic() > deadline else copy.survives(mutant)
            finally:
                copies.put(copy)

        survivors, asked = [], 0
        with ThreadPoolExecutor(known.jobs) as pool:
            for mutant, alive in zip(chosen, pool.map(survived, chosen), strict=True):
                asked += alive is not None
                if alive:
                    survivors.append(mutant)
                    print(f"survived: {mutant.path}:{mutant.line}: {mutant.what}", flush=True)
    killed = 100 * (asked - len(survivors)) / max(asked, 1)
    print(f"{asked} asked, {asked - len(survivors)} killed ({killed:.1f} %), {len(survivors)} survived")
    return 0 if asked and killed >= known.wanted else 1


if __name__ == "__main__":
    sys.exit(main())
