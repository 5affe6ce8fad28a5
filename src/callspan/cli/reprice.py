"""`callspan reprice`: recomputes the cost of stored calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.filters import filters
from callspan.cli.prices import configured_pricer
from callspan.cli.terminal.progress import progress
from callspan.cli.values import EXISTING_FILE
from callspan.cost import Pricer
from callspan.cost.price_table import PROVIDER
from callspan.cost.published import is_installed
from callspan.formatting import count
from callspan.records import CallRecord
from callspan.stores import CallFilter, Store, end_of, find_store, split_urls

_EPILOG: Final = """\
callspan reprice                            calls that have no cost yet
callspan reprice --all --prices mine.json   every call, by your own prices"""


@click.command(
    "reprice",
    cls=Command,
    page="Cost: Your own prices",
    filters=filters(),
    short_help="Recompute costs from prices.",
    epilog=_EPILOG,
)
@click.option("--prices", type=EXISTING_FILE, help="Your own price file.")
@click.option("--all", "every", is_flag=True, help="Also reprice calls that have a cost.")
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would change.")
def reprice_command(
    context: CommandContext, selection: CallFilter, prices: Path | None, every: bool, dry_run: bool
) -> None:
    """Compute the cost of stored calls from their tokens and the prices of their day.

    A cost that the provider reported is never changed.
    """
    pricer = _pricer(context, prices)
    calls = changes = 0
    with context.reader() as reader, progress("calls", visible=not context.json) as update:
        selection = msgspec.structs.replace(context.resolved(reader, selection), newest_first=False)
        total = reader.count_calls(selection)

        def versions() -> Iterator[CallRecord]:
            nonlocal calls, changes
            for calls, call in enumerate(reader.calls(selection), 1):
                update(calls, total)
                priced = _repriced(pricer, call, every=every)
                if priced is not None:
                    changes += 1
                    yield priced

        if dry_run:
            deque(versions(), maxlen=0)
        else:
            _store(context, reader.name).write(versions())
    if context.json:
        context.emit({"calls": calls, "changed": changes, "written": not dry_run})
    elif calls:
        verb = "would get" if dry_run else "got"
        context.screen.line((f"{count(changes)} of {count(calls)} calls {verb} a new cost", "bold"))
    if not calls:
        context.no_match(f"No such calls in {context.store_name}.")


def _store(context: CommandContext, name: str) -> Store:
    """Return the configured store of that name, else the first."""
    stores = list(map(find_store, split_urls(context.store)))
    return next((store for store in stores if store.name == name), stores[0])


def _pricer(context: CommandContext, prices: Path | None) -> Pricer:
    pricer = configured_pricer(prices)
    if pricer.table is None and not is_installed():
        context.fail('There are no prices: pip install "callspan[cost]", or name your own with --prices.')
    return pricer


def _repriced(pricer: Pricer, call: CallRecord, *, every: bool) -> CallRecord | None:
    """Return a later version of a call with another cost, which a copy that waits in a spool cannot replace.

    It is hardly later, because a store keeps what was seen lately for `retain_days`.
    """
    if call.cost is not None and (not every or call.cost.source == PROVIDER):
        return None
    repriced = pricer.priced(msgspec.structs.replace(call, cost=None))
    if repriced.cost in (None, call.cost):
        return None
    return msgspec.structs.replace(repriced, seen_ns=max(call.seen_ns or 0, end_of(call)) + 1, conversation=None)
