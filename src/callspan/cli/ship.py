"""`callspan ship`: deliver the records that wait on disk, left by processes that ended before delivery."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from callspan.cli.filters import Seconds
from callspan.cli.frame import Frame, framed, progress, wrong
from callspan.formatting import count
from callspan.settings import SettingError
from callspan.settings_loader import load
from callspan.spool.segment import SUFFIX, store_key_of
from callspan.stores.urls import safe_name, split_urls
from callspan.wiring.store_sinks import store_sinks

_EPILOG: Final = """\b
Examples:
  callspan ship
  callspan --store postgresql://me@db/calls ship --timeout 60

Names the same stores, in the same order, as the application did."""


@click.command("ship", short_help="Deliver records that wait on disk.", epilog=_EPILOG)
@click.option("--timeout", "timeout_s", type=Seconds(0.1), default=30.0, show_default=True, help="In seconds.")
@framed
def command(frame: Frame, timeout_s: float) -> None:
    """Deliver waiting records to the store; exit code 1 if some still wait."""
    from callspan.spool.spool import ship_once

    try:
        directory = spool_of(frame.store)
        if not directory.is_dir():
            _report(frame, {}, 0, f"Nothing waits: {directory} does not exist.")
            return
        sinks = store_sinks(split_urls(frame.store), load().prices)
    except SettingError as error:
        raise wrong(error) from error
    with progress(frame, f"{count(waiting_bytes(directory))} bytes to {safe_name(frame.store)}"):
        counters = ship_once(directory, sinks, timeout_s)
    left = waiting_bytes(directory)
    delivered = sum(number for name, number in counters.items() if name.startswith("shipped."))
    message = f"{count(delivered)} records delivered to {safe_name(frame.store)}"
    message += f"; {count(left)} bytes wait." if left else "; nothing waits."
    if others := counters["for_other_stores"]:
        message += f" {count(others)} segments are for another set of stores: name those with --store."
    _report(frame, dict(counters), left, message)
    if left:
        raise click.exceptions.Exit(1)


def _report(frame: Frame, counters: dict[str, int], left: int, message: str) -> None:
    if frame.json:
        frame.emit({"counters": counters, "waiting_bytes": left})
    else:
        frame.screen.paragraph(message)


def spool_of(stores: str) -> Path:
    """Return the directory in which records wait for these stores."""
    from callspan.wiring.recorder import spool_directory

    urls = tuple(split_urls(stores))
    return spool_directory(load({"stores": urls}), urls)


def held_for_others(stores: str) -> list[Path]:
    """Return the segments that wait where those for these stores do, and are for another set of stores.

    Raises SettingError for a store that cannot be used here.
    """
    from callspan.spool.store_key import store_key
    from callspan.wiring.store_sinks import store_sinks

    directory = spool_of(stores)
    if not directory.is_dir():
        return []
    ours = {None, store_key(directory, store_sinks(split_urls(stores)))}
    return [path for path in directory.iterdir() if path.suffix == SUFFIX and store_key_of(path.name) not in ours]


def waiting_bytes(directory: Path) -> int:
    """Return the bytes of all segments in a spool directory; 0 where there is none.

    Segments of living processes count, of which much may be delivered.
    """
    if not directory.is_dir():
        return 0
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file() and path.suffix == SUFFIX)
