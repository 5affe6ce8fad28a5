"""`callspan reprice`: recomputes the cost of stored calls."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from callspan.cli.command_context import CommandContext, reading
from callspan.cli.filter_options import File, call_options, resolve_session
from callspan.cli.progress import progress
from callspan.cost import PriceFileError, Pricer, pricer_for
from callspan.cost.price_table import PROVIDER
from callspan.cost.published import is_installed
from callspan.formatting import count, exact, money
from callspan.record.call import CallRecord
from callspan.record.merging import first_seen
from callspan.record.usage import Cost
from callspan.safe_urls import error_text, safe_name
from callspan.settings import SettingError
from callspan.settings_loader import load
from callspan.stores.aggregates import exact_sum, model_of
from callspan.stores.filters import CallFilter
from callspan.stores.protocol import Sink
from callspan.stores.urls import find_store, split_urls

if TYPE_CHECKING:
    from typing_extensions import Self

_BATCH: Final = 100
_EPILOG: Final = """\b
Examples:
  callspan reprice                            calls that have no cost yet
  callspan reprice --all --prices mine.json   every call, by your own prices
  callspan reprice --all --since 30d --dry-run

A cost that the provider reported is never changed."""


@click.command("reprice", short_help="Recompute costs from prices.", epilog=_EPILOG)
@call_options
@click.option("--prices", type=File(exists=True, dir_okay=False), help="Your own price file.")
@click.option("--all", "every", is_flag=True, help="Also reprice calls that have a cost.")
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would change.")
@reading
def reprice_command(
    context: CommandContext, which: CallFilter, prices: Path | None, every: bool, dry_run: bool
) -> None:
    """Compute the cost of stored calls from their tokens and the prices of their day."""
    pricer = _pricer(context, prices)
    changes = CostChanges()
    with context.reader() as reader, progress("calls", shown=not context.json) as tell:
        which = msgspec.structs.replace(resolve_session(context, reader, which), newest_first=False)
        total = reader.count_calls(which)
        with Rewriter(None if dry_run else _sink(context, reader.name)) as rewriter:
            for number, call in enumerate(reader.calls(which), 1):
                tell(number, total)
                cost = _new_cost(pricer, call, every=every)
                changes.count(call, cost)
                if cost is not None and cost != call.cost:
                    rewriter.write(call, cost)
    _report(context, changes, dry_run=dry_run)


@dataclass
class CostChanges:
    """Counts of the calls checked and of the costs that change."""

    calls: int = 0
    changed: list[Decimal] = field(default_factory=list)
    """The new costs."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Number of calls without a price, by model."""

    def count(self, call: CallRecord, cost: Cost | None) -> None:
        """Count a call and its new cost; None: the cost stays as it is."""
        self.calls += 1
        if cost is not None and cost != call.cost:
            self.changed.append(cost.usd)
        elif cost is None and call.cost is None and call.outcome not in {"started", "in_progress"}:
            self.unknown[model_of(call) or "unknown"] += 1


class Rewriter:
    """Writes new versions of calls to a store, as a shipper does; without a sink, nothing."""

    def __init__(self, sink: Sink | None) -> None:
        self._sink = sink
        self._waiting: list[CallRecord] = []

    def __enter__(self) -> Self:
        """Open the store."""
        if self._sink is not None:
            self._sink.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Write the rest of the batch and close the sink."""
        self._flush()
        if self._sink is not None:
            self._sink.close()

    def write(self, call: CallRecord, cost: Cost) -> None:
        """Write a call with its new cost as a later version: a copy that waits in a spool cannot replace it."""
        again = msgspec.structs.replace(
            call, cost=cost, seen_ns=time.time_ns(), first_seen_ns=first_seen(call), conversation=None
        )
        self._waiting.append(again)
        if len(self._waiting) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._sink is not None and waiting:
            self._sink.deliver(waiting)


def _sink(context: CommandContext, name: str) -> Sink:
    """Return the sink of the store that is read, else the first."""
    stores = list(map(find_store, split_urls(context.store)))
    return next((store for store in stores if store.name == name), stores[0]).sink()


def _pricer(context: CommandContext, prices: Path | None) -> Pricer:
    try:
        pricer = pricer_for(prices or load().prices)
    except (PriceFileError, SettingError) as error:
        raise click.UsageError(error_text(error)) from error
    if pricer.table is None and not is_installed():
        context.fail('There are no prices: pip install "callspan[cost]", or name your own with --prices.')
    return pricer


def _new_cost(pricer: Pricer, call: CallRecord, *, every: bool) -> Cost | None:
    if call.cost is not None and (not every or call.cost.source == PROVIDER):
        return None
    return pricer.cost(call)


def _report(context: CommandContext, changes: CostChanges, *, dry_run: bool) -> None:
    total = exact_sum(changes.changed)
    if context.json:
        context.emit(
            {
                "calls": changes.calls,
                "changed": len(changes.changed),
                "cost_usd": exact(total),
                "unknown": dict(changes.unknown.most_common()),
                "written": not dry_run,
            }
        )
        return
    if not changes.calls:
        context.no_match(f"No such calls in {safe_name(context.store)}.")
    done = "would get" if dry_run else "got"
    worth = f", {money(total)} together" if total is not None else ""
    context.screen.line(
        (f"{count(len(changes.changed))} of {count(changes.calls)} calls {done} a new cost{worth}", "bold")
    )
    for model, number in changes.unknown.most_common():
        context.screen.line(("no price or no tokens: ", "yellow"), f"{model} ({count(number)})")
