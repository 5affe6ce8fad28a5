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
ROWS = 259


def main() -> int:
    """Check every row; return 1 if one is wrong."""
    rows = [match for line in (ROOT / "docs/features.md").read_text().splitlines() if (match := ROW.match(line))]
    troubles = [] if len(rows) == ROWS else [f"{len(rows)} rows, expected {ROWS}"]
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
    functions = tests_of(file)
    found = functions.get(name.partition("[")[0])
    if found is None:
        return f"{path} has no test {name}"
    return f"{test} is skipped" if found else None


@cache
def tests_of(file: Path) -> dict[str, bool]:
    """Return the tests of a file, with True for one that is always skipped or expected to fail."""
    found: dict[str, bool] = {}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            found[node.name] = any(
                re.search(r"mark\.(skip|xfail)\b", ast.unparse(decorator)) for decorator in node.decorator_list
            )
    return found


if __name__ == "__main__":
    sys.exit(main())
