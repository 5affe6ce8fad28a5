"""`callspan sessions`: a table of sessions with outcome, reward, tokens, cost and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import click
import msgspec
from rich.text import Text

from callspan.cli.command_context import Command, CommandContext, selecting
from callspan.cli.filters import OPTIONS, filter_options
from callspan.cli.group_table import print_groups
from callspan.cli.json_rows import session_row, short_ids
from callspan.cli.paging import page_options, print_page
from callspan.cli.screen import Column, marks, reward_style, session_style, styled
from callspan.cli.values import grouping
from callspan.comparison.groups import SESSION_GROUPINGS
from callspan.formatting import UNKNOWN, count, duration, local_time, money, reward, tokens
from callspan.stores import CallFilter, Reader, SessionSummary

_COLUMNS: Final = (
    Column("started"),
    Column("session"),
    Column("name", shrinks=True),
    Column("user", shrinks=True),
    Column("outcome"),
    Column("reward", right=True),
    Column("steps", right=True),
    Column("calls", right=True),
    Column("errors", right=True),
    Column("tokens", right=True),
    Column("cost", right=True),
    Column("time", right=True),
    Column("active", right=True),
    Column("first words", shrinks=True),
)
_EPILOG: Final = """\
callspan sessions --since 1d --min-reward 0.5
callspan sessions --by meta:prompt_version"""


@click.command("sessions", cls=Command, short_help="List sessions: outcome, reward, tokens, cost.", epilog=_EPILOG)
@filter_options(*(field for field in OPTIONS if field != "outcome"), sort=True)
@click.option(
    "--by",
    "keys",
    type=grouping(SESSION_GROUPINGS),
    metavar="KEY",
    help=f"Group by {', '.join(SESSION_GROUPINGS)}, meta:KEY; or two: user,model.",
)
@click.option("--status", "session_outcome", metavar="WORD", help="With this outcome: success, error, …")
@page_options
@selecting
def sessions_command(
    context: CommandContext,
    which: CallFilter,
    limit: int | None,
    offset: int,
    keys: list[str] | None,
    session_outcome: str | None,
) -> None:
    """List sessions, newest first, with outcome, reward, tokens, cost and time; with --by groups of them.

    --min-cost, --min-duration and --sort apply to all of a session, other filters to one of its calls.
    """
    with context.reader() as reader:
        which = msgspec.structs.replace(context.resolved(reader, which), session_outcome=session_outcome)
        fitting = reader.sessions(since_ns=which.since_ns, which=which)
        if keys:
            found = print_groups(context, fitting, keys, limit, offset)
        else:
            table = partial(_print_table, context, reader)
            found = print_page(context, fitting, limit, offset, json_row=session_row, table=table)
    if not found and (offset or context.scoring.chooses or which != CallFilter()):
        context.no_match(f"No such sessions in {context.store_name}.")
    if not found:
        context.no_match(f"No sessions in {context.store_name}. Calls outside a session: `callspan calls`.")


def _print_table(context: CommandContext, reader: Reader, found: Sequence[SessionSummary]) -> None:
    objectives = context.scoring.objectives
    ids = short_ids(summary.session.session_id for summary in found)
    words = reader.first_words([*ids])
    rows = (
        [
            *_cells(one, ids[one.session.session_id]),
            words.get(one.session.session_id, UNKNOWN),
            *_scores(one, objectives),
        ]
        for one in found
    )
    context.screen.table((*_COLUMNS, *(Column(one, right=True, stays=True) for one in objectives)), rows)


def _scores(summary: SessionSummary, objectives: Sequence[str]) -> Iterator[Text | str]:
    """Yield the mean of each objective, with its number where that is not one."""
    for objective in objectives:
        value, given = summary.score(objective), summary.scores.get(objective)
        number = f" ({count(given.count)})" if given is not None and given.count > 1 else ""
        yield styled((f"{reward(value)}{number}", reward_style(value)))


def _cells(summary: SessionSummary, short: str) -> list[Text | str]:
    session = summary.session
    return [
        local_time(session.start_ns),
        styled((short, "cyan")),
        session.name or UNKNOWN,
        session.user_id or UNKNOWN,
        styled((", ".join((summary.outcome, *marks(summary))), session_style(summary))),
        styled((reward(summary.reward), reward_style(summary.reward))),
        count(summary.timesteps),
        count(summary.calls),
        styled((count(summary.errors), "red" if summary.errors else "")),
        tokens(summary.input_tokens, summary.output_tokens),
        money(summary.cost_usd),
        duration(summary.duration_ns),
        duration(summary.active_ns),
    ]
