"""The figures of `make bench` as markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import budgets
import page
from columns import ENCODING
from repeated import Piece
from rows import BARE, DEFAULT, FLOOR
from startup import Startup
from timing import Measured, Spread

_HELD = """\
KB of Python's memory that callspan adds to each. A buffer of the SDKs' own, some 14 KB, is there or not as the moment
has it, with callspan and without: a figure that is off by that much is not callspan's doing.
"""
_ROUNDS = """\
Per {unit}, µs; {rounds} rounds; in brackets the quartiles of what the row cost more than the bare SDK in the same
round.
"""
_REPEATED = """\
Median µs of pieces of a call: in their place, where the SDK has just run, and the last of several times when the very
same is done again at once. Nothing but what the caches and the branch predictor remember differs.
"""
_DELIVERY = """\
From the spool into a store, on the thread of that store: reading the frame, decoding, pricing by the published prices,
the rows and the store's own work. Per record of a call with a request of 1 KB, of which 50 bytes are
new, and an answer of 0.5 KB.
"""
_FELT = """\
Wall time of a call of 1 KB, 500 a second, with records to SQLite and with spans only: two processes that take turns,
2 s each. The mocked wire takes 0.2 ms, so that a call waits and feels every other thread when it goes on.
"""
_UNCOUNTED = "Not counted: it takes valgrind on x86-64.\n"


def times(
    done: Sequence[Measured], pieces: Sequence[Piece], starts: Startup, held_kb: Mapping[str, float],
    neighbours: page.Neighbours, delivered: str, felt: str,
) -> str:  # fmt: skip
    """Return the part on times, memory and starting up."""
    compared = [each for each in done if each.name != ENCODING]
    parts = ["## Times", page.conditions(neighbours), "### Budgets, by time", budgets.section(done)]
    parts += ["### Summary, µs added", _brief(compared, 1000, 2)]
    parts += [_details(each) for each in compared]
    parts += ["### First and repeated execution", _REPEATED, _repeated(pieces), _startup(starts), _memory(held_kb)]
    parts += ["### Delivery", _DELIVERY, delivered, "### Calls beside delivery", _FELT, felt]
    return "\n\n".join(part.strip() for part in parts)


def instructions(counted: Sequence[tuple[Measured, Measured]], delivered: str = "") -> str:
    """Return the part on instructions and allocations; empty: nothing could be counted."""
    parts = ["## Instructions and allocations", page.conditions()]
    if not counted:
        return "\n\n".join([*parts, _UNCOUNTED])
    done = [each for each, _ in counted]
    compared = [each for each in done if each.name != ENCODING]
    allocated = [each for _, each in counted if each.rounds and each.name != ENCODING]
    parts += ["### Budgets, by instructions", budgets.section(done)]
    parts += ["### Thousands of instructions added", _brief(compared, 1000, 1)]
    if allocated:
        parts += ["### Allocations added", _ALLOCATED, _brief(allocated, 1, 1)]
    parts += ["### Delivery, by instructions", _DELIVERY, delivered]
    return "\n\n".join(part.strip() for part in parts)


_ALLOCATED = "Calls of Python's allocator; what its free lists serve is not among them."


def summary(measured: Measured) -> str:
    """Return one line of progress."""
    rows = [name for name in measured.rounds if name not in (BARE, FLOOR)]
    figures = [f"{name}: {measured.added(name, BARE).middle / 1000:.2f}" for name in rows]
    if FLOOR in measured.rounds:
        figures.insert(0, f"floor {measured.added(FLOOR, BARE).middle / 1000:.2f}")
    return ", ".join([f"{measured.name}: bare {measured.cost(BARE).middle / 1000:.1f}", *figures])


def _brief(done: Sequence[Measured], scale: float, digits: int) -> str:
    others = [name for name in done[0].rounds if name not in (BARE, FLOOR)] if done else []
    head = (
        "work",
        "per",
        "bare",
        "floor",
        *(name.removeprefix("callspan, ") for name in others),
        "default of bare",
        "of floor",
    )
    rows = []
    for each in done:
        bare, floor = each.cost(BARE).middle, each.added(FLOOR, BARE).middle
        default = each.added(DEFAULT, BARE).middle
        added = [each.added(name, BARE).middle for name in others]
        shown = [f"{value / scale:.{digits}f}" for value in (bare, floor, *added)]
        part = "" if each.agent else f"{default / bare:.1%}"
        rows.append((each.name, each.unit, *shown, part, _ratio(default, floor, bare)))
    return page.table(head, rows)


def _details(measured: Measured) -> str:
    floor, bare = measured.added(FLOOR, BARE).middle, measured.cost(BARE).middle
    rows = [(BARE, f"{bare / 1000:.1f}", "", "", "")]
    for name in [name for name in measured.rounds if name != BARE]:
        cost, added = measured.cost(name).middle, measured.added(name, BARE)
        of_bare = "" if measured.agent else f"{added.middle / bare:.1%}"
        rows.append((name, f"{cost / 1000:.1f}", _micro(added), of_bare, _ratio(added.middle, floor, bare)))
    text = _ROUNDS.format(unit=measured.unit, rounds=len(measured.rounds[FLOOR]))
    shown = page.table(("", "costs", "adds", "of bare", "of the floor"), rows)
    return f"### {measured.name}\n\n{text}\n{shown}"


def _ratio(added: float, floor: float, bare: float) -> str:
    """How many times the floor it is, where the floor is measurable."""
    return f"{added / floor:.2f}" if floor > 0.005 * bare else ""


def _micro(spread: Spread) -> str:
    return f"{spread.middle / 1000:.2f} ({spread.low / 1000:.2f} to {spread.high / 1000:.2f})"


def _repeated(pieces: Sequence[Piece]) -> str:
    shown = list(dict.fromkeys(piece.column for piece in pieces))
    taken = {(piece.name, piece.column): (f"{piece.in_place:.1f}", f"{piece.again:.1f}") for piece in pieces}
    head = ["piece", *(cell for name in shown for cell in (name, "again at once"))]
    names = dict.fromkeys(piece.name for piece in pieces)
    return page.table(head, ([name, *(cell for column in shown for cell in taken[name, column])] for name in names))


def _startup(starts: Startup) -> str:
    work = (
        ("`import opentelemetry.trace`", starts.trace_ms),
        ("`import callspan`", starts.import_ms),
        ("and `instrument()`", starts.instrument_ms),
    )
    rows = [(name, f"{ms:.1f}", f"{ms / starts.trace_ms:.2f}") for name, ms in work]
    head = ("", "ms of CPU", "of `import opentelemetry.trace`")
    return f"### Starting up\n\n{page.table(head, rows)}\n`instrument()` starts {starts.threads} threads."


def _memory(held_kb: Mapping[str, float]) -> str:
    rows = [(family, f"{kb:.1f}") for family, kb in held_kb.items()]
    return f"### Half-read streams\n\n{_HELD}\n{page.table(('', 'KB'), rows)}"
