"""Losses: records that a spool had to give up or drop, counted in a file beside its segments for the next process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from callspan.fail_open import ours
from callspan.file_lock import locked

FILE: Final = "losses.json"
_LOCK: Final = "losses.lock"


class Loss(msgspec.Struct):
    """Records that were lost for one reason, or to one store."""

    name: str
    """Of the store, or of the reason."""
    records: int = 0
    first_ns: int = 0
    """When the first of them was lost, Unix time."""
    last_ns: int = 0

    def add(self, records: int) -> None:
        """Count more of them, lost now."""
        self.last_ns = time.time_ns()
        self.first_ns = self.first_ns or self.last_ns
        self.records += records


class Losses(msgspec.Struct):
    """What a spool directory has lost since it was made."""

    given_up: dict[str, Loss] = {}
    """Records that one store did not get, by the store's key, because the spool was at its cap."""
    dropped: dict[str, Loss] = {}
    """Records that no store got, by reason."""


def read_losses(directory: Path) -> Losses:
    """Return what was lost there; nothing where the file is missing or damaged."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=Losses)
    except ours(OSError, msgspec.MsgspecError):
        return Losses()


def add_losses(directory: Path, given_up: Mapping[str, tuple[str, int]], dropped: Mapping[str, int]) -> None:
    """Count records that one store did not get, as (name, records) by its key, and that none got. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(directory / _LOCK):
        losses = read_losses(directory)
        for key, (name, records) in given_up.items():
            losses.given_up.setdefault(key, Loss(name)).add(records)
        for reason, records in dropped.items():
            losses.dropped.setdefault(reason, Loss(reason)).add(records)
        fresh = directory / f"{FILE}.new"
        fresh.write_bytes(msgspec.json.encode(losses))
        fresh.chmod(0o600)
        fresh.replace(directory / FILE)
