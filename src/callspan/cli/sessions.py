"""`callspan sessions`: a table of sessions with outcome, reward, tokens, cost and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Final

import click
import msgspec
from rich.console import Group
from rich.text import Text

from callspan.cli.command_context import CommandContext, reading
from callspan.cli.filter_options import OPTIONS, Amount, options_of, resolve_session, sort_option
from callspan.cli.group_table import print_groups
from callspan.cli.json_rows import session_row, short_ids
from callspan.cli.paging import page_options, print_page
from callspan.cli.screen import Column, fitted, marks, reward_style, score_columns, session_style, styled
from callspan.cli.stats import By
from callspan.comparison.groups import SESSION_GROUPINGS, checked_session_grouping
from callspan.conversion import converter
from callspan.formatting import UNKNOWN, count, duration, local_time, money, reward, tokens
from callspan.safe_urls import safe_name
from callspan.stores.base import SessionSummary
from callspan.stores.filters import CallFilter
from callspan.stores.reader import Reader

_COLUMNS: Final = (
    Column("started", rank=4),
    Column("session"),
    Column("name", shrinks=True, rank=1),
    Column("user", shrinks=True, rank=2, known=True),
    Column("outcome", shrinks=True, least=48),
    Column("reward", right=True, rank=3),
    Column("steps", right=True, rank=8),
    Column("calls", right=True, rank=6),
    Column("errors", right=True, rank=7),
    Column("tokens", right=True, rank=2),
    Column("cost", right=True, rank=5, known=True),
    Column("time", right=True, rank=9),
    Column("active", right=True, rank=11, known=True),
    Column("first words", shrinks=True, rank=10, least=24, known=True),
)
_EPILOG: Final = """\b
Examples:
  callspan sessions --since 1d
  callspan sessions --min-reward 0.5 --status success
  callspan sessions --model gpt-5-mini --failed
  callspan sessions --sort cost --since 1d
  callspan sessions --objective judge --sort score
  callspan sessions --finish length
  callspan sessions --by meta:prompt_version
  callspan sessions --by task,model --json
  callspan sessions --user u1 --meta variant=b
  callspan sessions --json | jq '.[] | select(.reward > 0.5) | .session_id'"""


@click.command("sessions", short_help="List sessions: outcome, reward, tokens, cost, time.", epilog=_EPILOG)
@options_of(*(field for field in OPTIONS if field != "outcome"))
@click.option("--max-reward", type=Amount(), metavar="R", help="Only sessions with at most this reward.")
@click.option(
    "--by",
    type=By(SESSION_GROUPINGS, checked_session_grouping),
    multiple=True,
    help="Sums and means of groups instead of sessions; for two keys: task,model.",
)
@click.option("--status", "outcome", metavar="WORD", help="Only sessions with this outcome: success, error, …")
@page_options("sessions")
@sort_option
@reading
def sessions_command(
    context: CommandContext,
    which: CallFilter,
    limit: int | None,
    offset: int,
    by: tuple[list[str], ...],
    outcome: str | None,
    **options: object,
) -> None:
    """List sessions, newest first, with outcome, reward, tokens, cost and time; with --by groups of them.

    --since and --until apply to the start of a session, --min-cost, --min-duration and --sort to all of it, the other
    options that select calls to one of its calls.
    """
    with context.reader() as reader:
        which = resolve_session(context, reader, which)
        wanted = converter(Wanted)(options)
        which = msgspec.structs.replace(which, session_outcome=outcome)
        fitting = filter(wanted.fits, reader.sessions(since_ns=which.since_ns, which=which))
        if by:
            found = print_groups(context, fitting, [*chain.from_iterable(by)], limit, offset)
        else:
            table = partial(_table, reader, context.scoring.objectives)
            found = print_page(context, fitting, limit, offset, json_row=session_row, table=table)
    if not found and (offset or context.scoring.chooses or wanted != Wanted() or which != CallFilter()):
        context.no_match(f"No such sessions in {safe_name(context.store)}.")
    if not found:
        context.no_match(f"No sessions in {safe_name(context.store)}. Calls outside a session: `callspan calls`.")


class Wanted(msgspec.Struct, frozen=True):
    """Which sessions to list; None applies no filter. A session without a known reward matches no bound."""

    max_reward: float | None = None

    def fits(self, summary: SessionSummary) -> bool:
        """Return whether a session matches the filters."""
        return self.max_reward is None or (summary.reward is not None and summary.reward <= self.max_reward)


def _table(reader: Reader, objectives: Sequence[str], found: list[SessionSummary], width: int) -> Group:
    ids = short_ids(summary.session.session_id for summary in found)
    words = reader.first_words([*ids])
    rows = (
        [
            *_cells(one, ids[one.session.session_id]),
            styled(words.get(one.session.session_id, UNKNOWN)),
            *_scores(one, objectives),
        ]
        for one in found
    )
    return fitted((*_COLUMNS, *score_columns(objectives)), rows, width)


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
        styled(session.name or UNKNOWN),
        styled(session.user_id or UNKNOWN),
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
