"""How a fork of a mutation worker takes on a change: by importing it, or in the modules that are there."""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Literal

PLAIN = (str, bytes, int, float, re.Pattern, type(None))
SHAPE = (
    "co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags", "co_argcount",
    "co_kwonlyargcount", "co_posonlyargcount",
)  # fmt: skip


def module_name(path: str) -> str:
    """The module of a file of the tree."""
    parts = Path(path).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class Changed(importlib.machinery.SourceFileLoader):
    """Loads a module from other source than its file's."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the loader knows one module only
        """The changed code; never a compiled file."""
        return compile(self.source, self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the one changed module."""

    def __init__(self, tree: Path, path: str, source: str) -> None:
        self.name = module_name(path)
        self.loader = Changed(self.name, str(tree / path), source)

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """Where the changed module is; None for all others."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.loader.path, loader=self.loader)


class InPlace:
    """Changes functions and tables of modules that have been imported."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.functions: dict[tuple[str, int, str], list[FunctionType]] = {}
        for found in gc.get_objects():
            if type(found) is FunctionType and found.__code__.co_filename.startswith(str(tree / "src")):
                self.functions.setdefault(_place(found.__code__), []).append(found)

    def apply(self, path: str, source: str) -> Literal["functions", "values"] | None:
        """Take on the change; says what has been changed, and None if it can only be imported."""
        file = str(self.tree / path)
        new = compile(source, file, "exec", dont_inherit=True)
        pairs = list(self._functions(compile((self.tree / path).read_text(encoding="utf-8"), file, "exec"), new))
        if None not in pairs:
            for pair in pairs:
                assert pair is not None
                for function in self.functions[_place(pair[0])]:
                    function.__code__ = pair[1]
            return "functions"
        return "values" if _rebind(sys.modules[module_name(path)], new) else None

    def _functions(self, old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType] | None]:
        """The functions that differ; None for what differs outside any."""
        if not _same(old, new, inner=False):
            yield None
            return
        for before, after in zip(old.co_consts, new.co_consts, strict=True):
            if isinstance(before, CodeType) and not _same(before, after, inner=True):
                if not before.co_flags & inspect.CO_OPTIMIZED:
                    yield from self._functions(before, after)
                else:
                    yield (before, after) if _place(before) in self.functions else None


def _place(code: CodeType) -> tuple[str, int, str]:
    return code.co_filename, code.co_firstlineno, code.co_name


def _same(old: CodeType, new: CodeType, *, inner: bool) -> bool:
    """True if they do the same, wherever their lines are; what is defined inside counts if `inner`."""
    if any(getattr(old, name) != getattr(new, name) for name in SHAPE) or len(old.co_consts) != len(new.co_consts):
        return False
    for before, after in zip(old.co_consts, new.co_consts, strict=True):
        if isinstance(before, CodeType) and isinstance(after, CodeType):
            if inner and not _same(before, after, inner=True):
                return False
        elif type(before) is not type(after) or before != after:
            return False
    return True


def _rebind(module: ModuleType, code: CodeType) -> bool:
    """Give the module, and those that import from it by the same name, the plain values that have changed."""
    fresh: dict[str, Any] = {
        "__name__": module.__name__,
        "__package__": module.__package__,
        "__file__": module.__file__,
    }
    exec(code, fresh)
    changed = {
        name: value
        for name, value in vars(module).items()
        if name in fresh and _plain(value) and _plain(fresh[name]) and value != fresh[name]
    }
    for other in list(sys.modules.values()):
        if getattr(other, "__name__", "").startswith("callspan"):
            for name, value in changed.items():
                if vars(other).get(name) is value:
                    setattr(other, name, fresh[name])
    return bool(changed)


def _plain(value: object) -> bool:
    """True for what consists of words, numbers and patterns only."""
    if isinstance(value, dict):
        return all(_plain(key) and _plain(inner) for key, inner in value.items())
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(_plain, value))
    return isinstance(value, PLAIN)
