"""Budgets: the allowed cost of callspan as ratios within one run, and the measured cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import page
import wire_bodies as wire
from columns import ENCODING, LOOP
from rows import BARE, DEFAULT, FLOOR, SPANS, SQLITE, SUPPRESSED
from timing import Measured

_PLAIN = tuple(f"{family} plain {mode}" for family in ("openai", "anthropic") for mode in ("sync", "async"))
_TEN, _LONG = "openai plain 10 KB", "openai 200 KB request"
_WITH_SPANS = {"openai": 1.4, "anthropic": 0.9}
_CHUNK_PERCENT = {"openai": 2.5, "anthropic": 5.0}


@dataclass(frozen=True)
class Budget:
    """One bar, and where the figure stands."""

    what: str
    most: float
    found: float
    of: str

    def row(self) -> tuple[str, str, str, str]:
        """Return it as a row of the table."""
        verdict = "" if self.found <= self.most else "**missed**"
        return (self.what, f"{self.most:g} {self.of}", f"{self.found:.2f}", verdict)


def section(done: Sequence[Measured]) -> str:
    """Return the table of the budgets that these columns speak of."""
    found = {measured.name: measured for measured in done}
    budgets = [*_plain(found), *_streams(found), *_long(found), *_agent(found)]
    return page.table(("budget", "at most", "is", ""), [budget.row() for budget in budgets])


def _plain(found: Mapping[str, Measured]) -> Iterator[Budget]:
    there = {name: found[name] for name in _PLAIN if name in found}
    for name, each in there.items():
        yield Budget(f"{name}, spans only", 2.0, _added(each, DEFAULT) / _added(each, FLOOR), "floors")
    for name, each in there.items():
        most = _WITH_SPANS[name.split()[0]]
        yield Budget(f"{name}, records and spans to stores", most, _added(each, SPANS) / _added(each, FLOOR), "floors")
    for each in (found[name] for name in (_TEN,) if name in found):
        more = (_added(each, SQLITE) - _added(each, DEFAULT)) / _added(each, FLOOR)
        yield Budget(f"{_TEN}, what records to SQLite add to that", 1.2, more, "floors")
    for name, each in there.items():
        part = _added(each, SUPPRESSED) / each.cost(BARE).middle
        yield Budget(f"{name}, suppressed", 1.0, 100 * part, "% of bare")


def _streams(found: Mapping[str, Measured]) -> Iterator[Budget]:
    """Of one chunk: what a long stream costs more than a short one; and the same with the call's own cost over it."""
    for name, each in found.items():
        short = found.get(name.replace(f" {wire.CHUNKS}-", f" {wire.FEW}-"))
        if short is None or short is each:
            continue
        bar = _CHUNK_PERCENT[name.split()[0]]
        added = wire.CHUNKS * _added(each, DEFAULT) - _added(short, DEFAULT)
        bare = wire.CHUNKS * each.cost(BARE).middle - short.cost(BARE).middle
        yield Budget(f"{name}, of one {each.unit}", bar, 100 * added / bare, "% of bare")
        part = _added(each, DEFAULT) / each.cost(BARE).middle
        yield Budget(f"{name}, the call's own cost spread over it", bar, 100 * part, "% of bare")


def _long(found: Mapping[str, Measured]) -> Iterator[Budget]:
    if _LONG in found and ENCODING in found:
        encoding = found[ENCODING].cost(BARE).middle
        for row in (DEFAULT, SQLITE):
            part = _added(found[_LONG], row) / encoding
            yield Budget(f"{_LONG}, {row.removeprefix('callspan, ')}", 4.0, part, "msgspec encodings of it")


def _agent(found: Mapping[str, Measured]) -> Iterator[Budget]:
    for each in (found[name] for name in (LOOP,) if name in found):
        for row, what in ((DEFAULT, "spans only"), (SPANS, "records and spans to stores")):
            yield Budget(f"{LOOP}, {what}", 3.0, _added(each, row) / _added(each, FLOOR), "floors")
    for each in found.values():
        if each.agent:
            yield Budget(each.name, 3.0, _added(each, DEFAULT) / _added(each, FLOOR), "raw spans")
            yield Budget(f"{each.name}, and to stores", 1.0, _added(each, SPANS) / _added(each, FLOOR), "raw spans")


def _added(measured: Measured, row: str) -> float:
    return measured.added(row, BARE).middle
