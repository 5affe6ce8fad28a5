"""`callspan sessions`: a table of sessions with outcome, reward, tokens, cost and time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import click

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.filters import filters
from callspan.cli.group_table import print_groups
from callspan.cli.json_rows import session_row, short_ids
from callspan.cli.paging import limit_option, print_page
from callspan.cli.screen import Cell, Column, errors_cell, marks, reward_style, session_style
from callspan.cli.values import grouping
from callspan.comparison.groups import SESSION_GROUPINGS
from callspan.formatting import count, duration, local_time, money, reward, tokens
from callspan.stores import CallFilter, Reader, SessionSummary

_EPILOG: Final = """\
callspan sessions --since 1d --min-reward 0.5
callspan sessions --by meta:prompt_version"""


@click.command(
    "sessions",
    cls=Command,
    filters=filters("outcome", sort=True),
    short_help="List sessions: outcome, reward, tokens, cost.",
    epilog=_EPILOG,
)
@click.option(
    "--by",
    "keys",
    type=grouping(SESSION_GROUPINGS),
    metavar="KEY",
    help=f"Group by {', '.join(SESSION_GROUPINGS)}, meta:KEY; or two: user,model.",
)
@click.option("--status", "session_outcome", metavar="WORD", help="With this outcome: success, error, …")
@limit_option
def sessions_command(
    context: CommandContext,
    which: CallFilter,
    limit: int | None,
    keys: list[str] | None,
) -> None:
    """List sessions, newest first, or groups of them.

    --min-cost and --min-duration are about sessions, other filters about calls.
    """
    with context.reader() as reader:
        which = context.resolved(reader, which)
        fitting = reader.sessions(which)
        if keys:
            found = print_groups(context, fitting, keys, limit)
        else:
            table = partial(_print_table, context, reader)
            found = print_page(context, fitting, limit, json_rows=partial(map, session_row), table=table)
    if not found and (context.scoring.chooses or which != CallFilter()):
        context.no_match(f"No such sessions in {context.store_name}.")
    if not found:
        context.no_match(f"No sessions in {context.store_name}. Calls outside a session: `callspan calls`.")


def _print_table(context: CommandContext, reader: Reader, found: Sequence[SessionSummary]) -> None:
    ids = short_ids(summary.session.session_id for summary in found)
    words = reader.first_words([*ids])
    columns = (
        Column("started", lambda one: local_time(one.session.start_ns)),
        Column("session", lambda one: (ids[one.session.session_id], "cyan")),
        Column("name", lambda one: one.session.name, shrinks=True),
        Column("user", lambda one: one.session.user_id, shrinks=True),
        Column("outcome", lambda one: (", ".join((one.outcome, *marks(one))), session_style(one))),
        Column("reward", lambda one: (reward(one.reward), reward_style(one.reward)), right=True),
        Column("steps", lambda one: count(one.timesteps), right=True),
        Column("calls", lambda one: count(one.calls), right=True),
        Column("errors", errors_cell, right=True),
        Column("tokens", lambda one: tokens(one.input_tokens, one.output_tokens), right=True),
        Column("cost", lambda one: money(one.cost_usd), right=True),
        Column("time", lambda one: duration(one.duration_ns), right=True),
        Column("active", lambda one: duration(one.active_ns), right=True),
        Column("first words", lambda one: words.get(one.session.session_id), shrinks=True),
    )
    scores = (Column(one, partial(_score, one), right=True, stays=True) for one in context.scoring.objectives)
    context.screen.table((*columns, *scores), found)


def _score(objective: str, summary: SessionSummary) -> Cell:
    """Return the mean of an objective, with the number of values if there are several."""
    value, given = summary.score(objective), summary.scores.get(objective)
    number = f" ({count(given.count)})" if given is not None and given.count > 1 else ""
    return f"{reward(value)}{number}", reward_style(value)
