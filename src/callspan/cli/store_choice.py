"""Store choice: which store a sub-command uses when none is named on the command line."""

from __future__ import annotations

from typing import Final

from callspan.config import load

DEFAULT_STORE: Final = "sqlite:///callspan.db"
"""Where `run` and `demo` write and everything else reads when nothing else is said."""


def stores_of_environment() -> str:
    """Return the stores of `CALLSPAN_STORES` as a comma list, else the default store.

    Raises SettingError where a setting of the environment is invalid.
    """
    return ",".join(load().stores) or DEFAULT_STORE
