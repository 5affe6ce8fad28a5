"""`callspan sessions`: what ran, how it went, what it took."""

from __future__ import annotations

from itertools import islice
from typing import Final

import click
import msgspec
from rich.console import RenderableType
from rich.table import Table

from callspan.cli.filters import MOMENT
from callspan.cli.frame import Frame, framed
from callspan.cli.rows import lasted_ns, session_row, short_ids
from callspan.cli.screen import (
    OUTCOME_STYLES,
    UNKNOWN,
    clock,
    count,
    duration,
    money,
    reward,
    reward_style,
    styled,
    tokens,
)
from callspan.stores.base import SessionSummary
from callspan.stores.opening import safe_name

_EPILOG: Final = """\b
Examples:
  callspan sessions --since 1d
  callspan sessions --min-reward 0.5 --outcome success
  callspan sessions --json | jq '.[] | select(.reward > 0.5) | .session_id'"""


@click.command("sessions", short_help="List sessions: outcome, reward, tokens, cost, time.", epilog=_EPILOG)
@click.option("--since", "since_ns", type=MOMENT, metavar="TIME", help="Not older: 30m, 2h, 3d ago, or ISO 8601.")
@click.option("--min-reward", type=float, help="With at least this reward.")
@click.option("--max-reward", type=float, help="With at most this reward.")
@click.option("--outcome", metavar="WORD", help="Such as success, error, interrupted.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, newest first.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Leave out so many first.")
@framed
def command(frame: Frame, since_ns: int | None, limit: int, offset: int, **options: object) -> None:
    """List sessions, newest first, with outcome, reward, tokens, cost and time."""
    wanted = msgspec.convert(options, Wanted)
    with frame.reader() as reader:
        fitting = filter(wanted.fits, reader.sessions(since_ns=since_ns))
        found = list(islice(fitting, offset, offset + limit))
        more = next(fitting, None) is not None
    if frame.json:
        frame.emit_all(session_row(summary) for summary in found)
    if not found and (offset or wanted != Wanted()):
        frame.nothing(f"No such sessions in {safe_name(frame.store)}.")
    if not found:
        frame.nothing(f"No sessions in {safe_name(frame.store)}. Calls outside a session: `callspan calls`.")
    if not frame.json:
        frame.screen.print(_table(found))
        if more:
            frame.screen.line(("more: --limit, --offset", "dim"))


class Wanted(msgspec.Struct, frozen=True):
    """Which sessions; None asks nothing. A session whose reward is unknown fits no bound."""

    min_reward: float | None = None
    max_reward: float | None = None
    outcome: str | None = None

    def fits(self, summary: SessionSummary) -> bool:
        """Return whether a session is asked for."""
        earned, ended = summary.reward, summary.session.outcome or "running"
        high = self.min_reward is None or (earned is not None and earned >= self.min_reward)
        low = self.max_reward is None or (earned is not None and earned <= self.max_reward)
        return high and low and self.outcome in (None, ended)


def _table(found: list[SessionSummary]) -> Table:
    ids = short_ids(summary.session.session_id for summary in found)
    priced = any(summary.cost_usd is not None for summary in found)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("started", no_wrap=True)
    table.add_column("session", no_wrap=True)
    # The only column that may shrink; its cells are cut, not wrapped.
    table.add_column("name", overflow="ellipsis")
    table.add_column("outcome", no_wrap=True)
    for name in ("reward", "steps", "calls", "errors", "tokens", *(["cost"] if priced else []), "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for summary in found:
        table.add_row(*_cells(summary, ids[summary.session.session_id], priced=priced))
    return table


def _cells(summary: SessionSummary, short: str, *, priced: bool) -> list[RenderableType]:
    session = summary.session
    outcome = session.outcome or "running"
    return [
        clock(session.start_ns),
        styled((short, "cyan")),
        styled(session.name or UNKNOWN),
        styled((outcome, OUTCOME_STYLES.get(outcome, ""))),
        styled((reward(summary.reward), reward_style(summary.reward))),
        count(summary.timesteps),
        count(summary.calls),
        styled((count(summary.errors), "red" if summary.errors else "")),
        tokens(summary.input_tokens, summary.output_tokens),
        *([money(summary.cost_usd)] if priced else []),
        duration(lasted_ns(summary)),
    ]
