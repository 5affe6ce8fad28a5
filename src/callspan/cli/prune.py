"""`callspan prune`: delete what is old."""

from __future__ import annotations

from typing import Final

import click

from callspan.cli.filters import MOMENT
from callspan.cli.frame import Frame, framed, store_errors, wrong
from callspan.cli.progress import progress
from callspan.cli.screen import count, iso
from callspan.config import SettingError
from callspan.stores.opening import split_urls

_EPILOG: Final = """\b
Examples:
  callspan prune --older-than 30d
  callspan prune --older-than 2026-01-01"""


@click.command("prune", short_help="Delete what is old.", epilog=_EPILOG)
@click.option("--older-than", "older_ns", type=MOMENT, metavar="TIME", required=True, help="30d, 12h, or ISO 8601.")
@framed
def command(frame: Frame, older_ns: int) -> None:
    """Delete calls and sessions from before a time, and every content that only they referred to.

    Sessions go whole, by their end. For stores that can be read: SQLite, JSON Lines, Postgres, ClickHouse.
    """
    from callspan.stores.retention import prune

    try:
        with progress(frame, "pruning"):
            removed = prune(split_urls(frame.store)[0], older_ns)
    except SettingError as error:
        raise wrong(error) from error
    except store_errors() as error:
        frame.fail(str(error))
    if frame.json:
        frame.emit(removed)
        return
    frame.screen.paragraph(
        f"From before {iso(older_ns)}: {count(removed.sessions)} sessions, {count(removed.calls)} calls, "
        f"{count(removed.others)} steps and events, {count(removed.contents)} contents deleted."
    )
