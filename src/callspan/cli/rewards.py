"""`callspan calls --rewards`: a table of rewards and feedback."""

from __future__ import annotations

from functools import partial
from typing import Final

from callspan.cli.command_context import CommandContext
from callspan.cli.json_rows import record_fields
from callspan.cli.paging import print_page
from callspan.cli.screen import Column, reward_style
from callspan.formatting import UNKNOWN, local_time, reward
from callspan.records import RewardRecord


def list_rewards(context: CommandContext, limit: int | None) -> None:
    """List rewards and feedback with their targets, newest first."""
    table = partial(context.screen.table, _COLUMNS)
    with context.reader() as reader:
        if not print_page(context, reader.rewards(), limit, json_rows=partial(map, record_fields), table=table):
            context.no_match(f"No rewards in {context.store_name}.")


def _target(record: RewardRecord) -> str:
    """Return the narrowest target of a reward."""
    named = {
        "event": record.event_id, "call": record.call_id, "step": record.timestep_id, "session": record.session_id,
    }  # fmt: skip
    return next((f"{kind} {ident}" for kind, ident in named.items() if ident is not None), UNKNOWN)


_COLUMNS: Final = (
    Column("given", lambda one: local_time(one.time_ns)),
    Column("objective", lambda one: (one.objective, "magenta"), shrinks=True),
    Column("value", lambda one: (reward(one.value), reward_style(one.value)), right=True),
    Column("label", lambda one: one.label, shrinks=True),
    Column("for", lambda one: (_target(one), "cyan")),
    Column("source", lambda one: one.source, shrinks=True),
    Column("comment", lambda one: (one.annotation or UNKNOWN, "dim"), shrinks=True),
)
