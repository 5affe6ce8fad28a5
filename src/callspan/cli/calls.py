"""`callspan calls`: a table of calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import click
import msgspec
from rich.text import Text

from callspan.cli.call_text import call_tokens, outcome_text, result_text
from callspan.cli.command_context import Command, CommandContext, selecting
from callspan.cli.filters import filter_options
from callspan.cli.follow import LAST, follow_calls
from callspan.cli.json_rows import call_rows, short_ids
from callspan.cli.paging import TABLE_ROWS, page_options, say_more
from callspan.cli.rewards import list_rewards
from callspan.cli.screen import Column, reward_style, styled
from callspan.cost.unknown import why_unknown
from callspan.formatting import UNKNOWN, duration, local_time, money, reward
from callspan.records import CallRecord
from callspan.stores import CallFilter, ScoredReader, Scoring, ids_of

_COLUMNS: Final = (
    Column("started"),
    Column("call"),
    Column("model", shrinks=True),
    Column("tokens", right=True),
    Column("cost", right=True),
    Column("time", right=True),
    Column("outcome"),
    Column("line", shrinks=True),
    Column("user", shrinks=True),
    Column("output", shrinks=True),
)
_EPILOG: Final = """\
callspan calls --failed --since 2h
callspan calls --sort duration --user u1"""


@click.command("calls", cls=Command, short_help="List calls: model, tokens, time, outcome, output.", epilog=_EPILOG)
@filter_options(sort=True)
@page_options
@click.option("--reverse", is_flag=True, help="Oldest first; with --sort the best first.")
@click.option("-f", "--follow", is_flag=True, help=f"Show the last {LAST}, then each that ends.")
@click.option("--rewards", is_flag=True, help="List rewards and feedback instead.")
@selecting
def calls_command(
    context: CommandContext,
    which: CallFilter,
    limit: int | None,
    offset: int,
    reverse: bool,
    follow: bool,
    rewards: bool,
) -> None:
    """List calls, newest first: model, tokens, time, outcome and output."""
    is_filtered = which != CallFilter() or context.scoring != Scoring()
    if rewards and (is_filtered or reverse or follow):
        raise click.UsageError("--rewards lists all rewards, newest first: only --limit and --offset go with it.")
    if follow and (which.sort != "start" or context.scoring.sorts or offset or reverse):
        raise click.UsageError("--follow shows calls as they end: --sort, --offset and --reverse do not go with it.")
    if rewards:
        list_rewards(context, limit, offset)
    elif follow:
        follow_calls(context, which, limit or LAST)
    else:
        _list(context, msgspec.structs.replace(which, limit=limit, offset=offset, newest_first=not reverse))


def _list(context: CommandContext, which: CallFilter) -> None:
    with context.reader() as reader:
        which = msgspec.structs.replace(context.resolved(reader, which), content="response")
        scored = reader if isinstance(reader, ScoredReader) else None
        if context.json:
            if not context.emit_all(call_rows(reader, reader.calls(which))):
                raise click.exceptions.Exit(1)
            return
        rows = which.limit or TABLE_ROWS
        found = list(reader.calls(msgspec.structs.replace(which, limit=rows + 1)))
        if not found:
            context.no_match(f"No such calls in {context.store_name}.")
        more: int | None = 0
        if len(found) > rows:
            # To count the others takes a search of all texts.
            more = None if which.text is not None else reader.count_calls(which) - which.offset - rows
        _print_table(context, found[:rows], scored)
    for why in why_unknown(found[:rows]):
        context.screen.paragraph(why, "dim")
    say_more(context, more, which.offset + rows)


def _print_table(context: CommandContext, found: Sequence[CallRecord], scored: ScoredReader | None) -> None:
    objectives = context.scoring.objectives
    ids = short_ids(
        (call.call_id for call in found),
        # `show` resolves a prefix that a call and a session share to the session.
        besides=(call.place.session_id for call in found if call.place.session_id is not None),
    )
    rows = ([*_cells(call, ids[call.call_id]), *_scores(call, objectives, scored)] for call in found)
    context.screen.table((*_COLUMNS, *(Column(one, right=True, stays=True) for one in objectives)), rows)


def _scores(call: CallRecord, objectives: Sequence[str], scored: ScoredReader | None) -> Iterator[Text]:
    """Yield the score of each objective; where it has none, its labels."""
    ids = ids_of(call)
    given = scored.scores_of(ids) if scored is not None and objectives else {}
    for objective in objectives:
        value = given.get(objective)
        labels = scored.labels_of(ids).get(objective, ()) if scored is not None and value is None else ()
        yield styled((", ".join(dict.fromkeys(labels)) or reward(value), reward_style(value)))


def _cells(call: CallRecord, short: str) -> list[Text | str]:
    return [
        local_time(call.timing.start_ns),
        styled((short, "cyan")),
        call.model or UNKNOWN,
        call_tokens(call),
        money(call.cost.usd if call.cost else None),
        duration(call.timing.duration_ns),
        outcome_text(call),
        call.custom_id or UNKNOWN,
        call.user or UNKNOWN,
        styled((result_text(call), "dim")),
    ]
