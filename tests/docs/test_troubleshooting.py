"""Troubleshooting: a row for each line of `doctor` that asks for something, and for each warning that callspan logs.

Both are read from the source: `…` stands for what only a run knows. So a new warning without a row fails, and so does a
row whose warning has changed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

from tests.support.processes import ROOT

SOURCE: Final = ROOT / "src" / "callspan"
PAGE: Final = ROOT / "docs" / "troubleshooting.md"
DOCTOR: Final = SOURCE / "cli" / "doctor.py"
LOGGERS: Final = {"log": 1, "warn_once": 0}
"""Functions that log a text, and which argument it is."""
_VALUE: Final = re.compile(r"%(?:\.\d+)?[srdf]|…+")
_REST: Final = " […]"
Values: TypeAlias = Mapping[str, ast.expr]


def text_of(node: ast.expr, values: Values) -> str:
    """The text of an expression, with `…` for what only a run knows."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part, values) for part in parts)
        case ast.FormattedValue(value=value):
            return text_of(value, values)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in values:
            return text_of(values[name], {key: value for key, value in values.items() if key != name})
        case ast.BinOp(left=left, op=ast.Mod()):
            return text_of(left, values)
    return "…"


def plain(text: str) -> str:
    """A text as the page shows it."""
    return _VALUE.sub("…", text).replace("`", "").strip()


def assigned(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """What names are set to."""
    for node in ast.walk(tree):
        yield from assigned_by(node)


def assigned_by(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def constants() -> dict[tuple[Path, str], ast.expr]:
    """The constants of all modules that stand for a text, by module and name."""
    found: dict[tuple[Path, str], ast.expr] = {}
    for path in SOURCE.rglob("*.py"):
        for name, value in (pair for statement in parsed(path).body for pair in assigned_by(statement)):
            if name.strip("_").isupper() and isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[path, name] = value
    return found


@cache
def of_module(path: Path) -> dict[str, ast.expr]:
    """The texts by name: public constants of all modules, and all of this one."""
    public = {name: value for (_, name), value in constants().items() if not name.startswith("_")}
    return public | {name: value for (module, name), value in constants().items() if module == path}


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def lines_of_doctor() -> Iterator[str]:
    """The area of each check that may warn or fail, with its text, or its name where the text comes from elsewhere."""
    tree = parsed(DOCTOR)
    for function in functions(tree):
        for node in ast.walk(function):
            match node:
                case ast.Call(func=ast.Name(id="Check"), args=[area, name, state, detail, *_]):
                    if isinstance(state, ast.Constant) and state.value in {"ok", "note"}:
                        continue
                    # Of several values of a name, the last one above the call.
                    above = {key: value for key, value in assigned(function) if value.lineno <= node.lineno}
                    values = of_module(DOCTOR) | above
                    text = plain(text_of(detail, values))
                    said = text if re.search("[a-z]", text) else plain(text_of(name, values))
                    yield f"{plain(text_of(area, values))}: {said}"


def kinds_of_findings() -> list[str]:
    tree = parsed(SOURCE / "spool" / "findings.py")
    (remedies,) = [value for name, value in assigned(tree) if name == "_REMEDIES"]
    assert isinstance(remedies, ast.Dict)
    return [f"stores: {text_of(key, {})}" for key in remedies.keys if key is not None]


def warnings() -> Iterator[str]:
    """The text of each warning, but for those that are only passed on."""
    for path in SOURCE.rglob("*.py"):
        tree = parsed(path)
        for function in functions(tree):
            if logged := list(arguments_logged(function)):
                values = of_module(path) | dict(assigned(function))
                for arguments in logged:
                    yield from texts_of(arguments, values, tree)


def arguments_logged(function: ast.FunctionDef) -> Iterator[list[ast.expr]]:
    """The arguments of each warning of a function, from its text on."""
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(id="log" | "warn_once" as logger), args=arguments):
                if "DEBUG" not in ast.unparse(arguments[0]):
                    yield arguments[LOGGERS[logger] :]
            case ast.Tuple(elts=[ast.Attribute(attr="WARNING"), text]):  # logged later
                yield [text]


def texts_of(arguments: list[ast.expr], values: Values, tree: ast.Module) -> Iterator[str]:
    """The texts that a function logs with these arguments: of a dictionary, each value."""
    text, *rest = arguments
    match text:
        case ast.Subscript(value=ast.Name(id=name)) if isinstance(texts := dict(assigned(tree)).get(name), ast.Dict):
            yield from (plain(text_of(each, values)) for each in texts.values)
            return
    logged = plain(text_of(text, values))
    if not re.search("[a-z]", logged):
        for value in rest:
            logged = logged.replace("…", text_of(value, values).replace("…", "%s"), 1)
    if re.search("[a-z]", plain(logged)):
        yield plain(logged)


def rows(heading: str) -> list[str]:
    """The first cells of the tables of a section: what doctor or the log says."""
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [plain(cell) for cell in re.findall(r"^\| `([^|]+)` \|", section, re.MULTILINE)]


def is_row(cell: str, text: str) -> bool:
    """Whether a cell shows a text, or its beginning: `[…]` is the rest."""
    return text.startswith(cell.removesuffix(_REST)) if cell.endswith(_REST) else cell == text


def test_page_has_a_remedy_for_each_line_of_doctor() -> None:
    compare("What doctor says", {*lines_of_doctor(), *kinds_of_findings()})


def test_page_has_a_remedy_for_each_warning() -> None:
    compare("Warnings in the log", {*warnings()})


def compare(heading: str, said: set[str]) -> None:
    cells = rows(heading)
    assert len(said) > 15
    assert [text for text in sorted(said) if not any(is_row(cell, text) for cell in cells)] == []
    assert [cell for cell in cells if not any(is_row(cell, text) for text in said)] == []
    assert len(set(cells)) == len(cells)
