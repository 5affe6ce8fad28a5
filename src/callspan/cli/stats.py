"""`callspan stats`: sums over calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import click
import msgspec

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.filters import filters
from callspan.cli.paging import limit_option, print_page
from callspan.cli.prices import pricer_of_now
from callspan.cli.terminal.screen import Column, cost_text, errors_cell, key_columns
from callspan.cli.values import grouping, keys_row
from callspan.cost.unknown import why_unknown
from callspan.formatting import UNKNOWN, count, duration, exact, tokens
from callspan.stores import GROUPINGS, CallFilter, Reader, Summary

_COLUMNS: Final = (
    Column("calls", lambda summary: count(summary.calls), right=True, stays=True),
    Column("errors", errors_cell, right=True),
    Column("retries", lambda summary: count(summary.retries), right=True),
    Column("tokens", lambda summary: tokens(summary.input_tokens, summary.output_tokens), right=True),
    Column("cost", cost_text, right=True),
    Column("p50", lambda summary: duration(summary.duration_p50_ns), right=True),
    Column("p95", lambda summary: duration(summary.duration_p95_ns), right=True),
    Column("first token", lambda summary: duration(summary.first_token_p50_ns), right=True),
)
_MAY_BE_BILLED: Final = Column("may be billed", lambda summary: count(summary.may_be_billed), right=True)
"""Requests without an answer; only shown if there are any."""
_MAX_EXPLAINED_CALLS: Final = 1_000
"""Number of newest calls that are searched for reasons of unknown costs."""
_EPILOG: Final = """\
callspan stats --by user,model --since 1d
callspan stats --by meta:variant --experiment prompts-2"""


@click.command(
    "stats",
    cls=Command,
    page="The command",
    filters=filters(),
    short_help="Show sums per model, session, day, user or metadata.",
    epilog=_EPILOG,
)
@click.option(
    "--by",
    "keys",
    type=grouping(GROUPINGS),
    default="model",
    metavar="KEY",
    help=f"Group by {', '.join(GROUPINGS)}, meta:KEY; or several: user,model.",
)
@limit_option
def stats_command(context: CommandContext, selection: CallFilter, keys: list[str], limit: int | None) -> None:
    """Sum calls, errors, tokens and cost, with latency (p50, p95), time to first token and retries.

    A dash means unknown, never zero.
    """
    with context.reader() as reader:
        selection = context.resolved(reader, selection)
        summaries = list(reader.summary(keys, selection))
        rows, table = partial(map, partial(_row, keys)), partial(_print_table, context, reader, selection, keys)
        if not print_page(context, summaries, limit, json_rows=rows, table=table):
            context.no_match(f"No such calls in {context.store_name}.")


def _row(keys: Sequence[str], summary: Summary) -> dict[str, object]:
    row = msgspec.structs.asdict(summary)
    del row["keys"]
    return keys_row(keys, summary.keys) | row | {"cost_usd": exact(summary.cost_usd)}


def _print_table(
    context: CommandContext, reader: Reader, selection: CallFilter, keys: Sequence[str], summaries: Sequence[Summary]
) -> None:
    billed = [_MAY_BE_BILLED] if any(summary.may_be_billed for summary in summaries) else []
    context.screen.table((*key_columns(keys), *_COLUMNS, *billed), summaries)
    unpriced = list(_unpriced(summaries))
    for line in unpriced:
        context.screen.paragraph(line, "yellow")
    if not unpriced and not billed:
        return
    newest = msgspec.structs.replace(selection, limit=_MAX_EXPLAINED_CALLS, content="none")
    is_part = sum(summary.calls for summary in summaries) > _MAX_EXPLAINED_CALLS
    for reason in why_unknown(reader.calls(newest), pricer_of_now):
        context.screen.paragraph(
            f"{reason} (of the newest {_MAX_EXPLAINED_CALLS:,} calls)" if is_part else reason, "dim"
        )


def _unpriced(summaries: Sequence[Summary]) -> Iterator[str]:
    """Yield a line for each sum that lacks the cost of some calls."""
    for summary in summaries:
        if summary.calls_without_cost:
            name = ", ".join(key or UNKNOWN for key in summary.keys)
            yield f"{name}: {summary.calls_without_cost:,} of {summary.calls:,} calls have no known cost"
