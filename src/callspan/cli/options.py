"""Options parsed with the standard library for `callspan run`, which works without click; and the default store."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from callspan.cli.safe_text import clean
from callspan.settings import SettingError
from callspan.settings_loader import load
from callspan.stores.urls import parse


class WrongUsageError(Exception):
    """The command line is invalid. The message says why."""


class Leading(NamedTuple):
    """The options before the first positional argument, and the arguments from there on."""

    flags: frozenset[str]
    values: dict[str, str]
    rest: list[str]


def leading_options(arguments: Sequence[str], flags: Collection[str], with_value: Collection[str]) -> Leading:
    """Parse options up to the first positional argument or `--`. Raises WrongUsageError for an unknown option."""
    found: set[str] = set()
    values: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in with_value:
            if not equals and not rest:
                raise WrongUsageError(f"Option {name!r} requires an argument.")
            values[name] = value if equals else rest.pop(0)
        elif name not in flags:
            raise WrongUsageError(f"No such option {name!r}.{did_you_mean(name, (*flags, *with_value))}")
        elif equals:
            raise WrongUsageError(f"Option {name!r} does not take a value.")
        else:
            found.add(name)
    return Leading(frozenset(found), values, rest)


def did_you_mean(given: str, possible: Iterable[str], most: int = 3) -> str:
    """Return " Did you mean ...?" for the name closest to `given`; empty if none is close."""
    near = difflib.get_close_matches(given, sorted(set(possible)), n=most, cutoff=0.7)
    if not near:
        return ""
    named = ", ".join(repr(one) for one in near)
    return f" Did you mean {named}?" if len(near) == 1 else f" Did you mean one of {named}?"


DEFAULT_STORE: Final = "sqlite:///callspan.db"
"""Where `run` and `demo` write and everything else reads by default."""


def stores_of_environment() -> str:
    """Return the stores of `CALLSPAN_STORES` as a comma list, else the default store.

    Prints a line on stderr for each invalid store. Raises SettingError if none is valid.
    """
    # Other invalid variables are reported by the process that records.
    named = load(warn=False).stores
    wrong = {url: error for url in named if (error := _trouble(url)) is not None}
    good = [url for url in named if url not in wrong]
    if wrong and not good:
        raise next(iter(wrong.values()))
    for error in wrong.values():
        print(clean(f"Warning: {error}. This store is left out."), file=sys.stderr)
    return ",".join(good) or DEFAULT_STORE


def _trouble(url: str) -> SettingError | None:
    try:
        parse(url)
    except SettingError as error:
        return error
    return None
