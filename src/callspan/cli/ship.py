"""`callspan ship`: delivers records that ended processes left on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from callspan.cli.command_context import CommandContext, usage_error, with_context
from callspan.cli.filter_options import Seconds
from callspan.cli.progress import progress
from callspan.delivery.recorder import store_sinks
from callspan.formatting import plural
from callspan.safe_urls import safe_name
from callspan.settings import SettingError
from callspan.settings_loader import load
from callspan.spool.directory import Listing, refusals, size_of, store_keys
from callspan.stores.urls import split_urls

_IDLE_S: Final = 30.0
_LONG_S: Final = 1e6
_SHIPPED: Final = "shipped."
_EPILOG: Final = """\b
Examples:
  callspan ship
  callspan --store postgresql://me@db/calls ship --timeout 60

Name a store whose spool is next to it. Records that other stores still need are kept."""


@click.command("ship", short_help="Deliver records that wait on disk.", epilog=_EPILOG)
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(0.1),
    help=f"Stop after this many seconds. Default: when nothing could be delivered for {_IDLE_S:.0f} s.",
)
@with_context
def ship_command(context: CommandContext, timeout_s: float | None) -> None:
    """Deliver waiting records to the stores. Exit code 1 if some still wait, are damaged, or of another format."""
    from callspan.spool.spool import ship_once

    urls = split_urls(context.store)
    try:
        directory = spool_of(context.store)
        if not directory.is_dir():
            _report(context, {}, {}, [], f"Nothing waits: {directory} does not exist.")
            return
        refused = refused_segments(directory)
        sinks = store_sinks(urls, load().prices)
    except SettingError as error:
        raise usage_error(error) from error
    with progress(f"records to {', '.join(map(safe_name, urls))}", shown=not context.json) as tell:
        counters = ship_once(directory, sinks, timeout_s or _LONG_S, idle_s=_IDLE_S, progress=tell)
    left = {name: records for name, records in waiting_records(context.store).items() if records}
    lines = [
        f"{plural(number, 'record')} delivered to {name.removeprefix(_SHIPPED)}."
        for name, number in counters.items()
        if name.startswith(_SHIPPED)
    ]
    lines += [f"{plural(records, 'record', 'still wait')} for {name}." for name, records in left.items()]
    lines += [f"{sentence}." for sentence in refused]
    if not left and not refused:
        lines.append("Nothing waits.")
    if others := held_for_others(context.store):
        lines.append(f"{plural(len(others), 'segment')} wait in {directory} for other stores: name those with --store.")
    if damaged := counters["corrupt_bytes"]:
        lines.append(f"{plural(damaged, 'byte')} damaged: kept in {directory}/*.bad.")
    _report(context, dict(counters), left, refused, " ".join(lines))
    if left or damaged or refused:
        raise click.exceptions.Exit(1)


def _report(
    context: CommandContext, counters: dict[str, int], left: dict[str, int], refused: list[str], message: str
) -> None:
    if context.json:
        size = size_of(spool_of(context.store))
        context.emit({"counters": counters, "waiting": left, "waiting_bytes": size, "refused": refused})
    else:
        context.screen.paragraph(message)


def spool_of(stores: str) -> Path:
    """Return the spool directory of these stores."""
    from callspan.stores.spools import spool_directory

    urls = tuple(split_urls(stores))
    return spool_directory(load({"stores": urls}), urls)


def refused_segments(directory: Path) -> list[str]:
    """Return a sentence for each other format that segments of a spool directory have. Raises OSError."""
    return [str(refusal) for refusal in refusals(directory)]


def held_for_others(stores: str) -> list[Path]:
    """Return the segments in these stores' spool directory that other stores still need.

    Raises SettingError for an invalid store.
    """
    directory = spool_of(stores)
    if not directory.is_dir():
        return []
    keys = store_keys(directory, store_sinks(split_urls(stores)))
    return [directory / name for name in Listing(directory).for_others(keys)]


def waiting_records(stores: str) -> dict[str, int]:
    """Return how many records wait for each of these stores, by name; 0 if it has all of them. Raises SettingError."""
    from callspan.delivery.takeover import places, still_waiting

    urls = split_urls(stores)
    found: dict[str, int] = {}
    for url in urls:
        left = still_waiting([place for place in places(urls, url) if place.own])
        found[safe_name(url)] = sum(one.records for one in left)
    return found
