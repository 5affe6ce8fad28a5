"""Store choice: which store a sub-command uses when none is named on the command line."""

from __future__ import annotations

import sys
from typing import Final

from callspan.cli.safe_text import clean
from callspan.settings import SettingError
from callspan.settings_loader import load
from callspan.stores.urls import parse

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
