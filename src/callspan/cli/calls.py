"""`callspan calls`: a table of calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import click
import msgspec

from callspan.cli.call_text import call_tokens, outcome_text, result_text
from callspan.cli.command_context import Command, CommandContext
from callspan.cli.filters import filters
from callspan.cli.follow import LAST, follow_calls
from callspan.cli.json_rows import call_rows, short_ids
from callspan.cli.paging import TABLE_ROWS, limit_option, print_page
from callspan.cli.rewards import list_rewards
from callspan.cli.screen import Cell, Column, reward_style
from callspan.cost.unknown import why_unknown
from callspan.formatting import duration, local_time, money, reward
from callspan.records import CallRecord
from callspan.stores import CallFilter, Reader, ScoredReader, Scoring, ids_of

_EPILOG: Final = """\
callspan calls --failed --since 2h
callspan calls --sort duration --user u1"""


@click.command(
    "calls",
    cls=Command,
    filters=filters(sort=True),
    short_help="List calls: model, tokens, time, outcome, output.",
    epilog=_EPILOG,
)
@limit_option
@click.option("--reverse", is_flag=True, help="Oldest first; with --sort the best first.")
@click.option("-f", "--follow", is_flag=True, help=f"Show the last {LAST}, then each that ends.")
@click.option("--rewards", is_flag=True, help="List rewards and feedback instead.")
def calls_command(
    context: CommandContext,
    which: CallFilter,
    limit: int | None,
    reverse: bool,
    follow: bool,
    rewards: bool,
) -> None:
    """List calls, newest first: model, tokens, time, outcome and output."""
    is_filtered = which != CallFilter() or context.scoring != Scoring()
    if rewards and (is_filtered or reverse or follow):
        raise click.UsageError("--rewards lists all rewards, newest first: only --limit goes with it.")
    if follow and (which.sort != "start" or context.scoring.sorts or reverse):
        raise click.UsageError("--follow shows calls as they end: --sort and --reverse do not go with it.")
    if rewards:
        list_rewards(context, limit)
    elif follow:
        follow_calls(context, which, limit or LAST)
    else:
        _list(context, msgspec.structs.replace(which, newest_first=not reverse), limit)


def _list(context: CommandContext, which: CallFilter, limit: int | None) -> None:
    with context.reader() as reader:
        read = limit if context.json else (limit or TABLE_ROWS) + 1
        which = msgspec.structs.replace(context.resolved(reader, which), content="response", limit=read)
        found, rows, table = reader.calls(which), partial(call_rows, reader), partial(_print_table, context, reader)
        if not print_page(context, found, limit, json_rows=rows, table=table):
            context.no_match(f"No such calls in {context.store_name}.")


def _print_table(context: CommandContext, reader: Reader, found: Sequence[CallRecord]) -> None:
    ids = short_ids(
        (call.call_id for call in found),
        # `show` resolves a prefix that a call and a session share to the session.
        besides=(call.place.session_id for call in found if call.place.session_id is not None),
    )
    columns = (
        Column("started", lambda call: local_time(call.timing.start_ns)),
        Column("call", lambda call: (ids[call.call_id], "cyan")),
        Column("model", lambda call: call.model, shrinks=True),
        Column("tokens", call_tokens, right=True),
        Column("cost", lambda call: money(call.cost.usd if call.cost else None), right=True),
        Column("time", lambda call: duration(call.timing.duration_ns), right=True),
        Column("outcome", outcome_text),
        Column("line", lambda call: call.custom_id, shrinks=True),
        Column("user", lambda call: call.user, shrinks=True),
        Column("output", lambda call: (result_text(call), "dim"), shrinks=True),
    )
    scores = (Column(one, partial(_score, reader, one), right=True, stays=True) for one in context.scoring.objectives)
    context.screen.table((*columns, *scores), found)
    for why in why_unknown(found):
        context.screen.paragraph(why, "dim")


def _score(reader: Reader, objective: str, call: CallRecord) -> Cell:
    """Return the score of an objective; where it has none, its labels."""
    if not isinstance(reader, ScoredReader):
        return None
    ids = ids_of(call)
    value = reader.scores_of(ids).get(objective)
    labels = reader.labels_of(ids).get(objective, ()) if value is None else ()
    return ", ".join(dict.fromkeys(labels)) or reward(value), reward_style(value)
