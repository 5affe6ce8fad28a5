"""`callspan sessions`: a table of sessions with outcome, reward, tokens, cost and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import click

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.filters import Filter, filters
from callspan.cli.group_table import print_groups
from callspan.cli.json_rows import session_row, short_ids
from callspan.cli.paging import limit_option, print_page
from callspan.cli.terminal.screen import (
    Cell,
    Column,
    cost_text,
    errors_cell,
    marks,
    reward_style,
    session_outcome,
    session_style,
)
from callspan.cli.values import grouping
from callspan.comparison.groups import SESSION_GROUPINGS, session_values
from callspan.formatting import count, duration, local_time, plural, reward, tokens
from callspan.stores import CallFilter, Opening, Reader, SessionSummary

_EPILOG: Final = """\
callspan sessions --since 1d --min-reward 0.5
callspan sessions --by meta:prompt_version"""
_NOT_KEPT: Final = "not kept"
"""Stands for the words that the content level of a session keeps out."""


@click.command(
    "sessions",
    cls=Command,
    page="The command: Groups and comparison",
    filters=[
        *filters("outcome", sort=True),
        Filter("--status", "session_outcome", "WORD", fact="outcome"),
        Filter("--explicit", "inferred", fact="", flag_value=False, is_flag=True, default=None),
    ],
    short_help="List sessions: outcome, reward, tokens, cost.",
    epilog=_EPILOG,
)
@click.option(
    "--by",
    "keys",
    type=grouping(SESSION_GROUPINGS),
    metavar="KEY",
    help=f"Group by {', '.join(SESSION_GROUPINGS)}, meta:KEY; or several: user,model.",
)
@limit_option
def sessions_command(
    context: CommandContext,
    selection: CallFilter,
    limit: int | None,
    keys: list[str] | None,
) -> None:
    """List sessions, newest first, or groups of them.

    Times, bounds (--max-cost, ...), user and metadata apply to the session, --no-failed to all its calls, other filters
    to any one of them.
    """
    if keys and selection.sort != "start_ns":
        raise click.UsageError("--by lists the largest groups first; it cannot be combined with --sort.")
    with context.reader() as reader:
        selection = context.resolved(reader, selection)
        if keys:
            any_found = print_groups(context, selection, session_values(reader, selection, keys), keys, limit)
        else:
            table = partial(_print_table, context, reader, selection.objectives)
            any_found = print_page(
                context, reader.sessions(selection), limit, json_rows=partial(map, session_row), table=table
            )
        is_every = selection == CallFilter(objectives=selection.objectives, sort=selection.sort)
        single_calls = reader.count_calls(CallFilter(in_session=False)) if is_every and not any_found else 0
    if any_found:
        return
    if not is_every:
        context.no_match(f"No such sessions in {context.store_name}.")
    if not single_calls:
        context.no_match(f"No sessions in {context.store_name}.")
    if not context.json:
        calls = plural(single_calls, "single call")
        context.screen.paragraph(f"No sessions in {context.store_name}, but {calls}: `callspan calls`.")


def _print_table(
    context: CommandContext, reader: Reader, objectives: Sequence[str], sessions: Sequence[SessionSummary]
) -> None:
    ids = short_ids(summary.session.session_id for summary in sessions)
    openings = reader.openings([*ids])
    columns = (
        Column("started", lambda summary: local_time(summary.session.start_ns)),
        Column("session", lambda summary: (ids[summary.session.session_id], "cyan")),
        Column("name", lambda summary: summary.session.name, shrinks=True),
        Column("user", lambda summary: summary.session.user_id, shrinks=True),
        Column(
            "outcome",
            lambda summary: (", ".join((session_outcome(summary), *marks(summary))), session_style(summary)),
            shrinks=True,
        ),
        Column("reward", lambda summary: (reward(summary.reward), reward_style(summary.reward)), right=True),
        Column("steps", lambda summary: count(summary.timesteps), right=True),
        Column("calls", lambda summary: count(summary.calls), right=True),
        Column("errors", errors_cell, right=True),
        Column("tokens", lambda summary: tokens(summary.input_tokens, summary.output_tokens), right=True),
        Column("cost", cost_text, right=True),
        Column("time", lambda summary: duration(summary.duration_ns), right=True),
        Column("active", lambda summary: duration(summary.active_ns), right=True),
        Column("models", lambda summary: ", ".join(summary.models) or None, shrinks=True),
        Column("reasoning", lambda summary: count(summary.reasoning_tokens), right=True),
        Column("tokens per call", _mean_tokens, right=True),
        Column("task, first words", partial(_subject, openings), shrinks=True),
    )
    scores = (Column(name, partial(_score, name), right=True, stays=True) for name in objectives)
    context.screen.table((*columns, *scores), sessions)


def _subject(openings: Mapping[str, Opening], summary: SessionSummary) -> str | None:
    """Return the task and the first words of a session, or that these are not kept; None if it has none of them.

    Before the words of the next turn of a listed session is an arrow.
    """
    session = summary.session
    words, continues = openings.get(session.session_id) or (None, None)
    words = words or (None if session.content_level == "full" else _NOT_KEPT)
    subject = " · ".join(filter(None, (session.task_id, words)))
    return f"↳ {subject}" if continues else subject or None


def _mean_tokens(summary: SessionSummary) -> str:
    means = (summary.mean_input_tokens, summary.mean_output_tokens)
    return tokens(*(None if mean is None else round(mean) for mean in means))


def _score(objective: str, summary: SessionSummary) -> Cell:
    """Return the mean of an objective, with the number of values if there are several."""
    value, values = summary.score(objective), summary.scores.get(objective)
    number = f" ({count(values.count)})" if values is not None and values.count > 1 else ""
    return f"{reward(value)}{number}", reward_style(value)
