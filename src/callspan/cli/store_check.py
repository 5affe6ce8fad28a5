"""Store check: finds out whether a store takes records, and writes none."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from callspan import SettingError
from callspan.cli.command_context import store_errors
from callspan.safe_urls import error_text
from callspan.stores import EmptyStoreError, Store, find_store

NOT_YET: Final = "does not exist yet"


def store_check(url: str) -> tuple[str | None, str]:
    """Return (error, observation); the error is None if the check passed.

    A store that does not exist yet is not created: the observation then begins with `NOT_YET`.
    """
    try:
        store = find_store(url)
        store.sink()
        return None, store.try_out() or "not tried out: its store has no trial"
    except EmptyStoreError:
        return _could_be_made(store)
    except store_errors(SettingError) as error:
        return error_text(error), ""


def _could_be_made(store: Store) -> tuple[str | None, str]:
    if store.path is not None and store.path.is_dir():
        return f"{store.path} is a directory: name a file in it", ""
    if store.path is not None and (refused := refusal_of(store.path.absolute().parent)) is not None:
        return f"it does not exist, and cannot be made: {refused}", ""
    return None, f"{NOT_YET}: it is made with the first record"


def refusal_of(directory: Path) -> str | None:
    """Return why no file can be made in a directory, or in the nearest above it that exists; None: one was made.

    Permissions do not tell it: root has them all, also in `/proc` and on a disk that is mounted read-only.
    """
    existing = next(one for one in (directory, *directory.parents) if one.exists())
    try:
        with TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return f"no file can be made in {existing} ({error.strerror})"
