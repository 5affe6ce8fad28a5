"""`callspan calls --rewards`: a table of rewards and feedback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from callspan.cli.command_context import CommandContext
from callspan.cli.json_rows import record_fields
from callspan.cli.paging import print_page
from callspan.cli.screen import Column, reward_style, styled
from callspan.formatting import UNKNOWN, local_time, reward
from callspan.records import RewardRecord

_COLUMNS: Final = (
    Column("given"),
    Column("objective", shrinks=True),
    Column("value", right=True),
    Column("label", shrinks=True),
    Column("for"),
    Column("source", shrinks=True),
    Column("comment", shrinks=True),
)


def list_rewards(context: CommandContext, limit: int | None, offset: int) -> None:
    """List rewards and feedback with their targets, newest first."""

    def table(found: Sequence[RewardRecord]) -> None:
        context.screen.table(_COLUMNS, map(_cells, found))

    with context.reader() as reader:
        if not print_page(context, reader.rewards(), limit, offset, json_row=record_fields, table=table):
            context.no_match(f"No rewards in {context.store_name}.")


def _cells(record: RewardRecord) -> list[Text | str]:
    return [
        local_time(record.time_ns),
        styled((record.objective, "magenta")),
        styled((reward(record.value), reward_style(record.value))),
        record.label or UNKNOWN,
        styled((_target(record), "cyan")),
        record.source or UNKNOWN,
        styled((record.annotation or UNKNOWN, "dim")),
    ]


def _target(record: RewardRecord) -> str:
    """Return the narrowest target of a reward."""
    named = {
        "event": record.event_id, "call": record.call_id, "step": record.timestep_id, "session": record.session_id,
    }  # fmt: skip
    return next((f"{kind} {ident}" for kind, ident in named.items() if ident is not None), UNKNOWN)
