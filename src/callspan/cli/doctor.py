"""`callspan doctor`: what is patched, who else patches, where spans and records go, and whether they get there."""

from __future__ import annotations

from itertools import groupby
from typing import Final

import click
from rich.table import Table
from rich.text import Text as RichText

from callspan.cli.checks import Check, every_check
from callspan.cli.frame import Frame, framed
from callspan.cli.safe_text import clean

_MARKS: Final = {"ok": ("✓", "green"), "note": ("·", "dim"), "warning": ("!", "yellow"), "failed": ("✗", "bold red")}
_AREAS: Final = (
    "SDKs",
    "private names",
    "other instrumentations",
    "stores",
    "spans",
    "changed settings",
    "versions",
    "settings",
)
_PLACES: Final = {area: place for place, area in enumerate(_AREAS)}
_NAME_WIDTH: Final = 38
_EPILOG: Final = """\b
Examples:
  callspan doctor
  CALLSPAN_STORES=postgresql://me@db/calls callspan doctor --json

Exit code 1 if a check failed. Passwords are not shown."""


@click.command("doctor", short_help="Check hooks, stores, OTLP and settings.", epilog=_EPILOG)
@framed
def command(frame: Frame) -> None:
    """Check SDKs, hooks, other instrumentations, stores (by a test record), OTLP and settings."""
    checks = list(every_check(frame.store))
    failed = sum(check.state == "failed" for check in checks)
    if frame.json:
        frame.emit({"failed": failed, "checks": [check._asdict() for check in checks]})
    else:
        _print(frame, checks)
    if failed:
        raise click.exceptions.Exit(1)


def _title(check: Check) -> str:
    return "changed settings" if check.changed else check.area


def _order(check: Check) -> int:
    return 0 if check.state in ("failed", "warning") else _PLACES.get(_title(check), 0) + 1


def _print(frame: Frame, checks: list[Check]) -> None:
    width = min(_NAME_WIDTH, max(len(check.name) for check in checks))
    # What is wrong comes first, and settings as they are by default last.
    checks = sorted(checks, key=_order)
    for area, group in groupby(checks, key=_title):
        frame.screen.line((area, "bold"))
        table = _grid(width)
        for check in group:
            detail = RichText(clean(check.detail))
            if check.advice:
                detail.append(f"\n{clean(check.advice)}", style="yellow")
            mark, name = RichText(*_MARKS[check.state]), clean(check.name)
            if len(name) <= width:
                table.add_row(mark, name, detail)
                continue
            frame.screen.print(table)
            frame.screen.line("  ", _MARKS[check.state], f" {name}")
            table = _grid(width)
            table.add_row("", "", detail)
        frame.screen.print(table)
    bad = [check for check in checks if check.state == "failed"]
    frame.screen.print()
    frame.screen.line((f"{len(bad)} failed" if bad else "All checks passed.", "bold red" if bad else "bold green"))


def _grid(width: int) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=3, justify="right")
    table.add_column(min_width=width)
    table.add_column()
    return table
