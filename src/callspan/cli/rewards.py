"""`callspan calls --rewards`: a table of rewards and feedback."""

from __future__ import annotations

import time
from typing import Final

from rich.console import Group
from rich.text import Text

from callspan.cli.command_context import CommandContext
from callspan.cli.json_rows import record_fields
from callspan.cli.paging import print_page
from callspan.cli.screen import Column, fitted, reward_style, styled
from callspan.formatting import UNKNOWN, duration, local_time, reward
from callspan.record.events import RewardRecord
from callspan.safe_urls import safe_name

_COLUMNS: Final = (
    Column("given", rank=4),
    Column("age", right=True, rank=5),
    Column("objective", shrinks=True),
    Column("value", right=True),
    Column("label", shrinks=True, known=True),
    Column("for", shrinks=True, least=20),
    Column("source", shrinks=True, rank=6, known=True),
    Column("comment", shrinks=True, rank=7, known=True),
)


def list_rewards(context: CommandContext, limit: int | None, offset: int) -> None:
    """List rewards and feedback, newest first, with what they were given for."""
    with context.reader() as reader:
        if not print_page(context, reader.rewards(), limit, offset, json_row=record_fields, table=_table):
            context.no_match(f"No rewards in {safe_name(context.store)}.")


def age(record: RewardRecord) -> str:
    """Return how long ago a reward was given."""
    return UNKNOWN if record.time_ns is None else duration(max(0, time.time_ns() - record.time_ns))


def _table(found: list[RewardRecord], width: int) -> Group:
    return fitted(_COLUMNS, map(_cells, found), width)


def _cells(record: RewardRecord) -> list[Text | str]:
    return [
        local_time(record.time_ns),
        age(record),
        styled((record.objective, "magenta")),
        styled((reward(record.value), reward_style(record.value))),
        styled(record.label or UNKNOWN),
        styled((target(record), "cyan")),
        styled(record.source or UNKNOWN),
        styled((record.annotation or UNKNOWN, "dim")),
    ]


def target(record: RewardRecord) -> str:
    """Return what a reward was given for, the narrowest first."""
    named = {
        "event": record.event_id, "call": record.call_id, "step": record.timestep_id, "session": record.session_id,
    }  # fmt: skip
    return next((f"{kind} {ident}" for kind, ident in named.items() if ident is not None), UNKNOWN)
