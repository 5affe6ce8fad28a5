"""Which small changes a source file offers: the mutants that tools/mutate.py asks the tests about."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip
NEVER_ASKED = ("fail_open", "cast", "TypeVar")
"""Calls whose arguments the interpreter does not act on, or only puts into a log line."""
Change = tuple[ast.expr | ast.stmt, str, str]


@dataclass(frozen=True)
class Mutant:
    """One change."""

    path: str
    """The file, from the root of the tree."""
    line: int
    within: str
    """The function or class around it, dotted; empty at the level of the module."""
    what: str
    """The piece of code before and after."""
    nth: int
    """How many changes of the same words, in the same place, come before it."""
    own: tuple[int, int]
    """First and last line of what is changed."""
    statement: tuple[int, int]
    """First and last line of the statement around it, without the statements inside that one."""
    source: str
    """The whole file with the change."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is called when the lines above it have moved."""
        return self.path, self.within, self.what, self.nth


def mutants_of(path: Path, root: Path) -> Iterator[Mutant]:
    """Every mutant of a file of the tree at `root`."""
    text = path.read_text(encoding="utf-8")
    offsets = [0]
    for line in text.split("\n"):
        offsets.append(offsets[-1] + len(line.encode()) + 1)
    content = text.encode()
    tree = ast.parse(text)
    places = dict(_places(tree))
    seen: Counter[tuple[str, str]] = Counter()
    name = path.relative_to(root).as_posix()
    for node, new, what in _changes(tree):
        start = offsets[node.lineno - 1] + node.col_offset
        last = node.end_lineno or node.lineno
        end = offsets[last - 1] + (node.end_col_offset or 0)
        within, statement = places[node]
        source = (content[:start] + new.encode() + content[end:]).decode()
        yield Mutant(name, node.lineno, within, what, seen[within, what], (node.lineno, last), statement, source)
        seen[within, what] += 1


def _places(
    node: ast.AST, within: str = "", statement: tuple[int, int] = (1, 1)
) -> Iterator[tuple[ast.AST, tuple[str, tuple[int, int]]]]:
    """Each node with the dotted name and the lines of what is around it."""
    if isinstance(node, ast.stmt):
        statement = _header(node)
    yield node, (within, statement)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        within = f"{within}.{node.name}" if within else node.name
    for child in ast.iter_child_nodes(node):
        yield from _places(child, within, statement)


def _header(node: ast.stmt) -> tuple[int, int]:
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
    inner = [child.lineno for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    last = min(inner) - 1 if inner else (node.end_lineno or node.lineno)
    return first, max(first, last)


def _changes(tree: ast.Module) -> Iterator[Change]:
    left_out = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    } | {inner for node in ast.walk(tree) for inner in _not_asked(node)}
    for node in ast.walk(tree):
        if node not in left_out:
            yield from _of(node)


def _of(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield _as(node, ast.Compare(node.left, [COMPARISONS[type(node.ops[0])]()], node.comparators))
    elif isinstance(node, ast.BoolOp):
        yield _as(node, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield _as(node, ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right))
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


def _as(node: ast.expr, other: ast.expr) -> Change:
    new = ast.unparse(other)
    return node, f"({new})", f"{ast.unparse(node)} -> {new}"


def _of_constant(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield node, repr(not value), f"{value} -> {not value}"
    elif isinstance(value, int):
        yield node, repr(value + 1), f"{value} -> {value + 1}"
    elif isinstance(value, str) and value:
        yield node, repr(value + "XX"), f"{value!r} -> {value + 'XX'!r}"


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _not_asked(node: ast.AST) -> Iterator[ast.AST]:  # noqa: C901 - one branch for each kind
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
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in NEVER_ASKED:
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
