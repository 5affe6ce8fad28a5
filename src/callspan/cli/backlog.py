"""Backlog: delivers records left by ended processes before a store is read; reports waiting and lost records."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from callspan.cli.progress import progress
from callspan.cli.safe_text import clean
from callspan.formatting import plural
from callspan.spool.losses import read_losses
from callspan.stores.spools import directories_for

if TYPE_CHECKING:
    from callspan.spool.directory import WaitingSegment

_SHORTLY_S: Final = 0.25


class Backlog:
    """The records that wait for the store a command reads."""

    def __init__(self, store: str) -> None:
        """Raises SettingError for an invalid URL."""
        self._store = store
        self._directories: Sequence[Path] = directories_for(self._store)
        self._error: str | None = None

    def deliver(self, *, shown: bool) -> None:
        """Deliver the segments that no running process holds and print the number of their records.

        `shown`: show a progress bar.
        """
        if not self._directories:
            return
        # Importing the delivery code takes longer than most commands run.
        from callspan.delivery import leftovers

        with progress("records that ended processes left", shown=shown) as tell:
            done = leftovers.deliver(self._store, progress=tell)
        self._error = done.error
        if done.delivered:
            where = ", ".join(map(str, done.directories))
            _print(f"Delivered {plural(done.delivered, 'record')} that ended processes had left in {where}.")
        if done.damaged:
            _print(f"{plural(done.damaged, 'record')} there are damaged: see callspan doctor.")

    def say(self) -> bool:
        """Print on stderr which records still wait and why; return whether any do."""
        lines = self._lines()
        for line in (*lines, *self._losses()):
            _print(line)
        return bool(lines)

    def sentences(self) -> list[str]:
        """Return the records that still wait, with the reason, and the lost ones."""
        return [*self._lines(), *self._losses()]

    def _lines(self) -> list[str]:
        if not self._directories:
            return []
        sums: defaultdict[tuple[Path, str], int] = defaultdict(int)
        for one in self._still_waiting():
            sums[one.path.parent, self._why(one)] += one.records
        return [
            f"{plural(records, 'record', 'wait')} in {directory}: {why}." for (directory, why), records in sums.items()
        ]

    def _still_waiting(self) -> list[WaitingSegment]:
        """Return the waiting records, without the segments that a running process is delivering."""
        from callspan.delivery.leftovers import waiting

        found = waiting(self._store)
        if not any(one.held for one in found):
            return found
        time.sleep(_SHORTLY_S)
        later = {one.path: one.records for one in waiting(self._store)}
        return [one for one in found if not one.held or later.get(one.path) == one.records]

    def _losses(self) -> list[str]:
        """Return a line for each loss of records that will never reach this store."""
        found: list[str] = []
        for directory in self._directories:
            losses = read_losses(directory)
            counted = [(loss, f"dropped ({reason})") for reason, loss in losses.dropped.items()]
            counted += [(loss, f"given up for {name}") for name, loss in losses.given_up.items()]
            found += [f"Lost at {directory}: {loss} {what}; see callspan doctor." for loss, what in counted]
        return found

    def _why(self, one: WaitingSegment) -> str:
        if one.held:
            return "a running process has them"
        return self._error or "callspan ship delivers them"


def _print(line: str) -> None:
    click.echo(clean(line), err=True)
