"""`callspan ship`: deliver what waits on disk, left behind by processes that ended too soon."""

from __future__ import annotations

from typing import Final

import click

from callspan.cli.frame import Frame, framed, wrong
from callspan.cli.parameter_types import Seconds
from callspan.cli.progress import progress
from callspan.cli.spool_status import spool_of, waiting_bytes
from callspan.formatting import count
from callspan.settings import SettingError
from callspan.settings_loader import load
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
