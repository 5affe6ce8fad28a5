"""Checks docs/features.md: every Must or Should row that is done names tests that exist and are not skipped.

A row is `| number | capability | fit | state | tests |`; the state is `done` or `not yet`, tests are
`tests/file.py::name`, several separated by spaces. With `--counts` the totals are printed.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| (?P<number>\d+) \| (?P<what>.+?) \| (?P<fit>[MSO]) \| (?P<state>.+?) \| (?P<tests>.*?) ?\|$")
FIRST_ROWS = 259
"""The rows the project began with; those added since go on counting."""


def main() -> int:
    """Check every row; return 1 if one is wrong."""
    rows = [match for line in (ROOT / "docs/features.md").read_text().splitlines() if (match := ROW.match(line))]
    numbers = [int(row["number"]) for row in rows]
    complete = len(numbers) >= FIRST_ROWS and numbers == list(range(1, len(numbers) + 1))
    troubles = [] if complete else [f"{len(rows)} rows, expected 1, 2, 3, ... and at least {FIRST_ROWS}"]
    for row in rows:
        troubles.extend(f"row {row['number']}: {trouble}" for trouble in check(row))
    for trouble in troubles:
        print(f"docs/features.md: {trouble}")
    states = Counter((row["fit"], row["state"]) for row in rows)
    print("features:", ", ".join(f"{fit} {state}: {count}" for (fit, state), count in sorted(states.items())))
    return 1 if troubles else 0


def check(row: re.Match[str]) -> list[str]:
    """Return what is wrong with a row."""
    if row["state"] not in ("done", "not yet"):
        return [f"state {row['state']!r} is neither 'done' nor 'not yet'"]
    tests = row["tests"].replace("`", "").split()
    if row["state"] == "done" and row["fit"] in "MS" and not tests:
        return ["done, but names no test"]
    return [trouble for test in tests if (trouble := wrong(test))]


def wrong(test: str) -> str | None:
    """Return why a named test does not count, or None."""
    path, _, name = test.partition("::")
    file = ROOT / path
    if not file.is_file():
        return f"{path} does not exist"
    found = tests_of(file).get(name.partition("[")[0])
    if found is None:
        return f"{path} has no test {name}"
    return f"{test} is skipped" if found else None


@cache
def tests_of(file: Path) -> dict[str, bool]:
    """Return the tests of a file as `name` or `Class::name`, with True for one that is always skipped.

    What pytest does not collect is none: a function within a function, or one in a class not named `Test...`.
    """
    module = ast.parse(file.read_text())
    whole = any(ast.unparse(node).startswith("pytestmark") and _skips(node) for node in module.body)
    found: dict[str, bool] = {}
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            inner = {f"{node.name}::{name}": skipped for name, skipped in _among(node.body).items()}
            found |= {name: skipped or any(map(_skips, node.decorator_list)) for name, skipped in inner.items()}
    return {name: whole or skipped for name, skipped in (found | _among(module.body)).items()}


def _among(body: list[ast.stmt]) -> dict[str, bool]:
    return {
        node.name: any(map(_skips, node.decorator_list))
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def _skips(node: ast.AST) -> bool:
    return re.search(r"mark\.(skip|xfail)\b(?!if)", ast.unparse(node)) is not None


if __name__ == "__main__":
    sys.exit(main())
