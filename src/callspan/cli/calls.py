"""`callspan calls`: a table of calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import click
import msgspec
from rich.console import Group
from rich.text import Text

from callspan.cli.call_text import call_tokens, outcome_text, result_text
from callspan.cli.command_context import CommandContext, reading
from callspan.cli.filter_options import call_options, resolve_session, sort_option
from callspan.cli.follow import LAST, follow_calls
from callspan.cli.json_rows import call_rows, short_ids
from callspan.cli.paging import TABLE_ROWS, page_options, say_more
from callspan.cli.rewards import list_rewards
from callspan.cli.score_filter import NO_SCORING, ScoredReader
from callspan.cli.screen import Column, fitted, reward_style, score_columns, styled
from callspan.cli.unknown_costs import why_unknown
from callspan.formatting import UNKNOWN, duration, local_time, money, reward
from callspan.record.call import CallRecord
from callspan.safe_urls import safe_name
from callspan.stores.aggregates import model_of
from callspan.stores.base import ids_of
from callspan.stores.filters import CallFilter

_COLUMNS: Final = (
    Column("started", rank=4),
    Column("call"),
    Column("model", shrinks=True, rank=1, least=14),
    Column("tokens", right=True, rank=2),
    Column("cost", right=True, rank=5, known=True),
    Column("time", right=True, rank=3),
    Column("outcome", shrinks=True, least=16),
    Column("line", shrinks=True, rank=6, known=True),
    Column("user", shrinks=True, rank=7, known=True),
    Column("output", shrinks=True, rank=6),
)
_EPILOG: Final = """\b
Examples:
  callspan calls --failed --since 2h
  callspan calls --finish length --since 1d
  callspan calls --sort duration --user u1
  callspan calls --session 019aa0 --reverse
  callspan calls --follow --status error
  callspan calls --rewards
  callspan calls --objective feedback --min-score 1
  callspan calls --text "refund" --json | jq '.[].call_id'"""


@click.command("calls", short_help="List calls: model, tokens, time, outcome, output.", epilog=_EPILOG)
@call_options
@page_options("calls")
@click.option("--reverse", is_flag=True, help="Oldest first; with --sort the best first.")
@sort_option
@click.option("-f", "--follow", is_flag=True, help=f"Show the last {LAST} (--limit), then each call that ends. Ctrl-C.")
@click.option("--rewards", is_flag=True, help="List rewards and feedback instead, with what they were given for.")
@reading
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
    is_filtered = which != CallFilter() or context.scoring != NO_SCORING
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
        which = msgspec.structs.replace(resolve_session(context, reader, which), content="response")
        scored = reader if isinstance(reader, ScoredReader) else None
        if context.json:
            if not context.emit_all(
                call_rows(reader, reader.calls(which), None if scored is None else scored.scores_of)
            ):
                raise click.exceptions.Exit(1)
            return
        rows = which.limit or TABLE_ROWS
        found = list(reader.calls(msgspec.structs.replace(which, limit=rows + 1)))
        more: int | None = 0
        if len(found) > rows:
            # To count the others takes a search of all texts.
            more = None if which.text is not None else reader.count_calls(which) - which.offset - rows
        table = found and calls_table(found[:rows], context.screen.console.width, context.scoring.objectives, scored)
    if not table:
        context.no_match(f"No such calls in {safe_name(context.store)}.")
    context.screen.print(table)
    for why in why_unknown(found[:rows]):
        context.screen.paragraph(why, "dim")
    say_more(context, more, which.offset + rows)


def calls_table(
    found: list[CallRecord], width: int, objectives: Sequence[str] = (), scored: ScoredReader | None = None
) -> Group:
    """Return calls as a table of the given width; a narrow table omits the least important columns."""
    ids = short_ids(
        (call.call_id for call in found),
        # `show` resolves a prefix that a call and a session share to the session.
        besides=(call.place.session_id for call in found if call.place.session_id is not None),
    )
    rows = ([*_cells(call, ids[call.call_id]), *_scores(call, objectives, scored)] for call in found)
    return fitted((*_COLUMNS, *score_columns(objectives)), rows, width)


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
        styled(model_of(call) or UNKNOWN),
        call_tokens(call),
        money(call.cost.usd if call.cost else None),
        duration(call.timing.duration_ns),
        outcome_text(call),
        styled(call.custom_id or UNKNOWN),
        styled(call.user or UNKNOWN),
        styled((result_text(call), "dim")),
    ]
