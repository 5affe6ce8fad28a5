"""`callspan stats`: sums over calls."""

from __future__ import annotations

from typing import Final, get_args

import click
import msgspec
from rich.table import Table

from callspan.cli.filters import choosing_calls, of_one_session
from callspan.cli.frame import Frame, framed
from callspan.cli.rows import amount
from callspan.cli.screen import UNKNOWN, count, milliseconds, money, styled, tokens
from callspan.stores.base import CallFilter, Grouping, Summary
from callspan.stores.opening import safe_name

_EPILOG: Final = """\b
Examples:
  callspan stats
  callspan stats --by session --since 1d
  callspan stats --by day --model gpt-5-mini --json

A dash is unknown, never zero: a provider that tells no tokens, a model without a price."""


@click.command("stats", short_help="Sums per model, provider, session or day.", epilog=_EPILOG)
@choosing_calls
@click.option("--by", type=click.Choice(get_args(Grouping)), default="model", show_default=True, help="Group by.")
@framed
def command(frame: Frame, which: CallFilter, by: Grouping) -> None:
    """Sum calls, errors, tokens and cost, with latency (p50, p95), time to first token and retries."""
    with frame.reader() as reader:
        found = list(reader.summary(by, of_one_session(frame, reader, which)))
    if frame.json:
        frame.emit_all({by: summary.key, **_row(summary)} for summary in found)
    if not found:
        frame.nothing(f"No such calls in {safe_name(frame.store)}.")
    if not frame.json:
        frame.screen.print(_table(by, found))
        _unpriced(frame, found)


def _row(summary: Summary) -> dict[str, object]:
    row = msgspec.structs.asdict(summary)
    del row["key"]
    return row | {"cost_usd": amount(summary.cost_usd)}


def _table(by: str, found: list[Summary]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(by, no_wrap=True, overflow="ellipsis", max_width=28)
    for name in ("calls", "errors", "retries", "tokens", "cost", "p50", "p95", "first token"):
        table.add_column(name, justify="right", no_wrap=True)
    for summary in found:
        table.add_row(
            styled((summary.key or UNKNOWN, "cyan")),
            count(summary.calls),
            styled((count(summary.errors), "red" if summary.errors else "")),
            count(summary.retries),
            tokens(summary.input_tokens, summary.output_tokens),
            money(summary.cost_usd),
            milliseconds(summary.p50_ms),
            milliseconds(summary.p95_ms),
            milliseconds(summary.ttft_p50_ms),
        )
    return table


def _unpriced(frame: Frame, found: list[Summary]) -> None:
    """Say which sums of money leave calls out. Calls that failed without tokens are not worth a word."""
    for summary in found:
        unknown = summary.calls_without_cost
        if unknown > summary.errors or (summary.cost_usd is None and summary.input_tokens is not None):
            left_out = f"{summary.key or UNKNOWN}: {unknown:,} of {summary.calls:,} calls have no known cost"
            frame.screen.line((left_out, "yellow"))
    if all(summary.cost_usd is None for summary in found):
        frame.screen.line(("prices: pip install 'callspan[cost]' or name your own, then `callspan reprice`", "dim"))
