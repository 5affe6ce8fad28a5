"""The table of private names: it has every one that the source touches, and each is there in the installed versions."""

from __future__ import annotations

import ast
import importlib
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import callspan
from callspan import private_names
from callspan.fail_open import Once
from callspan.intercept.patching import HOOKS
from callspan.private_names import MODULES, READ, PrivateName

SOURCE = Path(callspan.__file__).parent
TABLE = {hook.attribute for hook in HOOKS} | {row.name for row in READ}
KNOWN_MODULES = {part for module in MODULES for part in module.split(".")}
READERS = {"getattr", "hasattr", "setattr", "delattr", "attrgetter"}
# Names of the standard library that are documented, or needed by type checkers alone.
STANDARD = {"_replace", "_asdict", "_fields", "_make", "_Compress", "_exit", "_thread", "_current_frames", "_getframe"}


def is_private(name: str) -> bool:
    dunder = name.startswith("__") and name.endswith("__")
    return name.startswith("_") and not dunder and name != "_"


def own_names(nodes: Iterable[ast.AST]) -> set[str]:
    """What the source defines itself: functions, classes, fields, attributes of `self`, slots."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and of_self(node):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def of_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def foreign(nodes: list[ast.AST], own: set[str]) -> Iterator[tuple[int, str]]:
    """The private names of others that a module touches, with their lines."""
    for node in nodes:
        for name in filter(is_private, names_in(node, own)):
            yield getattr(node, "lineno", 0), name


def names_in(node: ast.AST, own: set[str]) -> list[str]:
    """The names by which a piece of code asks others for something."""
    match node:
        case ast.Attribute() if not of_self(node):
            return [node.attr] if node.attr not in own else []
        case ast.Call() if getattr(node.func, "id", getattr(node.func, "attr", "")) in READERS:
            return [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        case ast.ImportFrom() if not (node.module or "callspan").startswith("callspan"):
            return [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        case ast.Import():
            return [part for alias in node.names for part in alias.name.split(".")]
        case ast.Constant(value=str() as text) if "._" in text and re.fullmatch(r"[\w.]+", text):
            return text.split(".")
    return []


def touched(source: Path) -> dict[str, str]:
    """Every private name of others that the source touches, with a place where it does."""
    modules = {path: [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))] for path in source.rglob("*.py")}
    own = own_names(chain.from_iterable(modules.values()))
    return {
        name: f"{path.relative_to(source)}:{line}"
        for path, nodes in modules.items() if path.name not in ("private_names.py", "patching.py")
        for line, name in foreign(nodes, own)
    }  # fmt: skip


def test_every_private_name_that_the_source_touches_is_in_the_table() -> None:
    unknown = {name: place for name, place in touched(SOURCE).items() if name not in TABLE | KNOWN_MODULES | STANDARD}
    assert unknown == {}


def test_the_table_has_no_row_that_nothing_uses() -> None:
    others = (path for path in SOURCE.rglob("*.py") if path.name != "private_names.py")
    used = {name for path in others for name in re.findall(r"\.([A-Z_0-9]+)\b", path.read_text(encoding="utf-8"))}
    rows = {name for name, value in vars(private_names).items() if isinstance(value, PrivateName)}
    assert rows <= used
    assert len(rows) == len(READ)


def test_each_name_is_there_in_the_installed_versions() -> None:
    for module in {where.partition(":")[0] for row in READ for where in row.where}:
        with suppress(ImportError):
            importlib.import_module(module)
    assert [f"{where}.{name.name}" for where, name in private_names.missing() if name in READ] == []


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A library of which a release has moved things, with a table of its names."""

    class Base:
        declared: int
        _table = 1

        def __init__(self) -> None:
            self._set = 1

    class Client(Base):
        @property
        def _asked(self) -> int:
            return 1

    made: Any = ModuleType("moved")
    made.Client, made._there = Client, 1
    monkeypatch.setitem(sys.modules, "moved", made)
    monkeypatch.setattr(private_names, "_warned", Once())
    library: ModuleType = made
    return library


@pytest.mark.parametrize(
    ("where", "name", "beside", "gone"),
    [
        ("moved", "_there", "", False),
        ("moved", "_gone", "", True),
        ("moved:Client", "_asked", "", False),
        ("moved:Client", "_table", "", False),
        ("moved:Client", "_set", "", False),
        ("moved:Client", "declared", "", False),
        ("moved:Client", "_gone", "", True),
        ("moved:Client", "_gone", "_set", True),
        ("moved:Client", "_gone", "_older_versions_lack_it", False),
        ("moved:Server", "_gone", "", False),
        ("never.imported", "_gone", "", False),
    ],
)
def test_what_is_gone_is_found_and_warned_of_once(
    where: str, name: str, beside: str, gone: bool, library: ModuleType,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(private_names, "READ", (PrivateName(name, (where,), "do without", "much", beside),))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            private_names.warn_once("moved")
            private_names.warn_once("other")
    line = f"This version of moved lacks names callspan uses: {where}.{name} (lost: much; do without)"
    assert caplog.messages == ([line] if gone else [])
