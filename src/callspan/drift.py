"""Drift: which of the private names callspan uses are gone in the installed versions, and the one warning of it.

Looks at what is imported, imports nothing.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any, Final

from callspan.fail_open import log
from callspan.once import Once
from callspan.private_names import READ, PrivateName

_warned: Final = Once()


def gone(library: str = "") -> list[tuple[str, PrivateName]]:
    """Return the private names that are read and gone, each with the place that lacks it; of one library, or of all."""
    places = ((where, row) for row in READ for where in row.where if where.startswith(library))
    return [(where, row) for where, row in places if _lacks(where, row)]


def warn_once(library: str) -> None:
    """Warn of the names of a library that are gone, in one line, and of each once in this process."""
    fresh = [each for each in gone(library) if _warned.first(each)]
    if fresh:
        names = "; ".join(f"{where}.{row.name} (lost: {row.lost or 'nothing'}; {row.fallback})" for where, row in fresh)
        log(logging.WARNING, "This version of %s lacks names callspan uses: %s", library, names)


def _lacks(where: str, row: PrivateName) -> bool:
    module, _, name = where.partition(":")
    owner: Any = sys.modules.get(module)
    if owner is not None and name:
        owner = getattr(owner, name, None)
    if owner is None or (row.with_ and not _has(owner, row.with_)):
        return False
    return not _has(owner, row.name)


def _has(owner: Any, name: str) -> bool:  # noqa: ANN401 - a module or a class
    if not inspect.isclass(owner):
        return hasattr(owner, name)
    return any(name in names for base in owner.__mro__ for names in _names(base))


def _names(base: type) -> Iterator[Any]:
    """What a class has, what it declares, and what its methods read or set, as on their instance."""
    yield vars(base)
    declared = vars(base).get("__annotations__")
    yield declared if isinstance(declared, dict) else ()
    for function in vars(base).values():
        if isinstance(function, FunctionType):
            yield inspect.unwrap(function).__code__.co_names
