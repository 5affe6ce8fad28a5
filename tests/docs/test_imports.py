"""What source files import: nothing undeclared inside functions, and little by tests that no user sees.

Slow tests are named in one place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.nightly import FILES, SAMPLES
from tests.support.processes import ROOT
from tools.tests_of import CORE, OF_ROOM

import callspan

SOURCE = Path(callspan.__file__).parent
ELSEWHERE = ("cli", "testing", "datasets", "reports", "environments")
"""Never on a caller's path, nor in a thread of ours."""
DECLARED = {
    "process/known_keys.py: html": "where a key is masked in an error",
    "runtime/forks.py: logging": "before the hooks of forks are registered, which wait for its lock",
    "opening.py: callspan.delivery": "within open_store(deliver=True)",
    "otlp/answers.py: requests": "within callspan send, and the store otlp+http://",
    "otlp/providers.py: opentelemetry.sdk._logs": "within instrument(otlp=...)",
    "otlp/providers.py: opentelemetry.sdk._logs.export": "within instrument(otlp=...)",
    "otlp/providers.py: opentelemetry.sdk.metrics": "within instrument(otlp=...)",
    "otlp/providers.py: opentelemetry.sdk.metrics.export": "within instrument(otlp=...)",
    "runtime/sdk_import.py: callspan.runtime.fail_open": "within the import, for a variable that is invalid",
    "runtime/sdk_import.py: callspan.runtime.safe_urls": "within the import, for a variable that is invalid",
    "runtime/sdk_import.py: logging": "within the import, for a variable that is invalid",
}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the modules from which code imports; relative ones begin with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def inside_functions() -> Iterator[str]:
    for path in sorted(SOURCE.rglob("*.py")):
        where, text = path.relative_to(SOURCE), path.read_text()
        if where.parts[0] in ELSEWHERE or not re.search(r"(^[ \t]+|[:;][ \t]*)(from|import)\b", text, re.MULTILINE):
            continue
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from (f"{where.as_posix()}: {module}" for module in imported(function))


def test_function_level_imports_are_declared() -> None:
    assert sorted(set(inside_functions())) == sorted(DECLARED)


def test_nightly_files_exist_and_are_at_most_thirty() -> None:
    assert len(FILES) <= 30
    assert [file for file in FILES if not (ROOT / file).is_file()] == []


def test_sampled_tests_exist() -> None:
    """A test that was renamed would run whole again."""
    sampled = [(file, test) for file, tests in SAMPLES.items() for test in tests]
    assert [(file, test) for file, test in sampled if f"def {test}(" not in (ROOT / file).read_text()] == []


PUBLIC = re.compile(r"callspan\.(records|stores|datasets|(testing|environments)(\..*)?)")
MOST_PRIVATE = 47
"""Files of tests that import other modules of callspan; the aim is 45: properties and tables."""


@cache
def files_of_tests() -> dict[str, list[str]]:
    paths = sorted((ROOT / "tests").rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): [*imported(ast.parse(path.read_text()))] for path in paths}


def test_test_files_with_private_imports_do_not_increase() -> None:
    private = [
        file
        for file, modules in files_of_tests().items()
        if any(module.startswith("callspan.") and not PUBLIC.fullmatch(module) for module in modules)
    ]
    assert len(private) <= MOST_PRIVATE, private


def test_test_files_do_not_import_each_other() -> None:
    """What two of them need is in a helper."""
    sharing = {
        file: module for file, modules in files_of_tests().items() for module in modules
        if module.rpartition(".")[2].startswith("test_")
    }  # fmt: skip
    assert sharing == {}


def test_lines_of_the_core_are_those_of_the_page() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([\d,]+) \|", page, re.MULTILINE)
    assert len(rows) == 11
    for rooms, stated in rows:
        files = [path for room in re.findall(r"\w+", rooms) for path in (SOURCE / room).rglob("*.py")]
        lines = sum(len(path.read_text().splitlines()) for path in files)
        assert abs(lines - int(stated.replace(",", ""))) <= max(100, lines // 10), (rooms, lines)


def test_every_room_says_which_tests_a_change_needs() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert OF_ROOM.keys() == rooms
    folders = {folder for folders in (*OF_ROOM.values(), CORE) for folder in folders}
    assert [folder for folder in folders if not (ROOT / "tests" / folder).is_dir()] == []
