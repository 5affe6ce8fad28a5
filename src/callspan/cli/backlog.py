"""Backlog: delivers waiting records of ended processes before a store is read, and reports what still waits."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from callspan.cli.safe_text import clean
from callspan.formatting import plural
from callspan.spool.losses import read_losses
from callspan.stores.spools import hold_segments
from callspan.stores.urls import first_readable, split_urls

if TYPE_CHECKING:
    from callspan.delivery.takeover import SpoolLocation
    from callspan.spool.directory import Waiting

_SHORTLY_S: Final = 0.25
ShowProgress: TypeAlias = Callable[[str], AbstractContextManager[Callable[[int], object]]]
"""Shows a progress bar with a title while a block runs; yields its update function."""


class Backlog:
    """The records that wait for the store a command reads."""

    def __init__(self, stores: str, progress: ShowProgress, *, deliver: bool, store: str | None = None) -> None:
        """`stores` is a comma list, `store` the one of them that is meant. Raises SettingError.

        `deliver` False leaves everything as it is; `store` None: the first that can be read.
        """
        self._progress = progress
        self._deliver = deliver
        self._store = first_readable(stores) if store is None else store
        self._urls = split_urls(stores)
        self._places: Sequence[SpoolLocation] = ()
        self._errors: tuple[str, ...] = ()

    def deliver(self) -> None:
        """Deliver the segments that no running process holds, and print how many records they had."""
        # Importing the delivery code takes longer than most commands run.
        if not hold_segments(self._store):
            return
        from callspan.delivery.takeover import places, take_over

        self._places = places(self._urls, self._store)
        if not self._deliver:
            return
        with self._progress("records that ended processes left") as tell:
            done = take_over(self._places, self._store, progress=tell)
        self._errors = done.errors
        if done.delivered:
            where = ", ".join(map(str, done.directories))
            _say(f"Delivered {plural(done.delivered, 'record')} that ended processes had left in {where}.")
        if done.corrupt_bytes:
            _say(f"{plural(done.corrupt_bytes, 'byte')} there are damaged: see callspan doctor.")

    def say(self) -> bool:
        """Print on stderr which records still wait and why; return whether any do."""
        if not self._places:
            return False
        lines = self._lines()
        for line in (*lines, *self._losses(), *self._refused()):
            _say(line)
        return bool(lines)

    def sentences(self) -> list[str]:
        """Return which records still wait and why, and what was lost."""
        return [*self._lines(), *self._losses(), *self._refused()] if self._places else []

    def _lines(self) -> list[str]:
        from callspan.delivery.takeover import for_others, still_waiting

        found = still_waiting(self._places)
        moving = self._moving(found)
        sums: defaultdict[tuple[Path, str], int] = defaultdict(int)
        for one in found:
            if one.path not in moving:
                sums[one.path.parent, self._why(one)] += one.records
        lines = [
            f"{plural(records, 'record', 'wait')} in {directory}: {why}." for (directory, why), records in sums.items()
        ]
        for other in for_others(self._places):
            whose = f"for {other.store}: callspan ship delivers them"
            unnamed = "for other stores: name those with --store"
            what = plural(other.records, "record", "wait")
            lines.append(f"{what} in {other.directory} {unnamed if other.store is None else whose}.")
        return lines

    def _moving(self, found: Sequence[Waiting]) -> frozenset[Path]:
        """Return the segments that a running process is delivering right now; they are not reported."""
        from callspan.delivery.takeover import still_waiting

        held = {one.path: one.offset for one in found if one.held}
        if not held:
            return frozenset()
        time.sleep(_SHORTLY_S)
        there = {one.path: one.offset for one in still_waiting(self._places)}
        return frozenset(path for path, offset in held.items() if there.get(path) != offset)

    def _refused(self) -> list[str]:
        from callspan.delivery.takeover import refused

        return [f"{sentence}." for sentence in refused(self._places)]

    def _losses(self) -> list[str]:
        """Return a line for each loss: records that were dropped or given up and will never reach this store."""
        found: list[str] = []
        for place in self._places:
            losses = read_losses(place.directory)
            given_up = losses.given_up.get(place.key)
            counted = [] if given_up is None else [(given_up, f"for {given_up.name} given up")]
            counted += [(loss, f"dropped ({reason})") for reason, loss in losses.dropped.items() if place.own]
            found += [
                f"Lost at {place.directory}: {loss.what()} {what}, {loss.when()}; see callspan doctor."
                for loss, what in counted
            ]
        return found

    def _why(self, one: Waiting) -> str:
        if one.held:
            return "a running process has them"
        if self._errors:
            return self._errors[0]
        return "callspan ship delivers them"


def _say(line: str) -> None:
    click.echo(clean(line), err=True)
