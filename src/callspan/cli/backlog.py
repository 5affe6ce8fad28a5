"""Backlog: delivers records left by ended processes before a store is read; reports waiting and lost records."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from callspan.cli.terminal.progress import progress
from callspan.cli.terminal.safe_text import clean
from callspan.formatting import plural
from callspan.spool.losses import read_losses
from callspan.stores import first_readable, split_urls
from callspan.stores.spools import directories_for, findings_for

if TYPE_CHECKING:
    from callspan.spool.directory import WaitingSegment

_RECHECK_S: Final = 0.25


class Backlog:
    """The records that wait for the store a command reads."""

    def __init__(self, stores: str) -> None:
        """`stores` are the command's stores; the first readable one is read. Raises SettingError."""
        self._store, self._urls = first_readable(stores), split_urls(stores)
        self._directories: Sequence[Path] = directories_for(self._store, self._urls)
        self._error: str | None = None

    def deliver(self, *, visible: bool) -> None:
        """Deliver the segments of ended processes and print the number of their records.

        `visible`: show a progress bar.
        """
        if not self._directories:
            return
        # Importing the delivery code takes longer than most commands run.
        from callspan.delivery import leftovers

        with progress("records that ended processes left", visible=visible) as update:
            result = leftovers.deliver(self._store, other_urls=self._urls, progress=update)
        self._error = result.error
        if result.delivered:
            directories = ", ".join(map(str, result.directories))
            _print(f"Delivered {plural(result.delivered, 'record')} that ended processes had left in {directories}.")
        if result.damaged:
            _print(f"{plural(result.damaged, 'record')} there are damaged: see callspan doctor.")

    def say(self) -> bool:
        """Print on stderr which records still wait and why; return whether any do."""
        lines = self._lines()
        for line in (*lines, *self._losses()):
            _print(line)
        return bool(lines)

    def sentences(self) -> list[str]:
        """Return a sentence for each directory with waiting records, with the reason, and one for each loss."""
        return [*self._lines(), *self._losses()]

    def _findings(self) -> list[str]:
        """Return a sentence for each place with records that no command delivers."""
        findings = findings_for([self._store, *self._urls])
        return [f"{finding}; see callspan doctor." for finding in findings if finding.holds_records]

    def _lines(self) -> list[str]:
        lines = self._findings()
        if not self._directories:
            return lines
        sums: defaultdict[tuple[Path, str], int] = defaultdict(int)
        for segment in self._still_waiting():
            sums[segment.path.parent, self._reason(segment)] += segment.records
        return lines + [
            f"{plural(records, 'record', 'wait')} in {directory}: {reason}."
            for (directory, reason), records in sums.items()
        ]

    def _still_waiting(self) -> list[WaitingSegment]:
        """Return the waiting segments, except those that a running process is just delivering."""
        from callspan.delivery.leftovers import waiting

        segments = waiting(self._store, self._urls)
        if not any(segment.is_held for segment in segments):
            return segments
        time.sleep(_RECHECK_S)
        records_later = {segment.path: segment.records for segment in waiting(self._store, self._urls)}
        return [
            segment for segment in segments if not segment.is_held or records_later.get(segment.path) == segment.records
        ]

    def _losses(self) -> list[str]:
        """Return a line for each loss of records that will never reach this store."""
        lines: list[str] = []
        for directory in self._directories:
            losses = read_losses(directory)
            causes = [(loss, f"dropped ({reason})") for reason, loss in losses.dropped.items()]
            causes += [(loss, f"given up for {name}") for name, loss in losses.given_up.items()]
            lines += [f"Lost at {directory}: {loss} {cause}; see callspan doctor." for loss, cause in causes]
        return lines

    def _reason(self, segment: WaitingSegment) -> str:
        if segment.is_held:
            return "a running process has them"
        return self._error or "callspan ship delivers them"


def _print(line: str) -> None:
    click.echo(clean(line), err=True)
