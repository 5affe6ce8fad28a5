"""Options read with the standard library, for `callspan run`, which works without click; and the default store."""

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
    """The command line is wrong. The message says what is."""


class Leading(NamedTuple):
    """The options before the first word that is none, and what follows them."""

    flags: frozenset[str]
    values: dict[str, str]
    rest: list[str]


def leading_options(arguments: Sequence[str], flags: Collection[str], with_value: Collection[str]) -> Leading:
    """Read options up to the first other word, or up to `--`. Raises WrongUsageError for one that does not exist."""
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
    """Return a sentence that names what `given` may have meant, with a space before it; empty where nothing is near."""
    near = difflib.get_close_matches(given, sorted(set(possible)), n=most, cutoff=0.7)
    if not near:
        return ""
    named = ", ".join(repr(one) for one in near)
    return f" Did you mean {named}?" if len(near) == 1 else f" Did you mean one of {named}?"


DEFAULT_STORE: Final = "sqlite:///callspan.db"
"""Where `run` and `demo` write and everything else reads by default."""


def stores_of_environment() -> str:
    """Return the stores of `CALLSPAN_STORES` as a comma list, else the default store.

    Of those that cannot be used a line is printed on stderr. Raises SettingError where none can.
    """
    # What else is wrong with the environment is for the process to say that records.
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
