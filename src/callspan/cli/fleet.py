"""Fleet: the processes that write to a store, for `callspan doctor --fleet`."""

from __future__ import annotations

import time
from typing import Final

from callspan.cli.command_context import CommandContext
from callspan.cli.terminal.screen import Column
from callspan.formatting import UNKNOWN, count, duration, iso
from callspan.stores import ProcessActivity

_DAY_NS: Final = 86_400 * 10**9
_WAITING: Final = "What waits in these processes, and what they lost, is in their metrics: docs, 'What to alert on'"


def print_fleet(context: CommandContext, since_ns: int | None) -> None:
    """Print the processes that were active since a Unix time, by default in the last day; the last active first."""
    now_ns = time.time_ns()
    with context.reader() as reader:
        processes = list(reader.processes(now_ns - _DAY_NS if since_ns is None else since_ns))
    if context.json:
        context.emit([process._asdict() | {"newest": iso(process.newest_ns)} for process in processes])
    elif processes:
        context.screen.table(_columns(now_ns), processes)
        context.screen.print()
        context.screen.line(_WAITING)
    if not processes:
        context.no_match(f"No process has written to {context.store_name} since then.")


def _columns(now_ns: int) -> tuple[Column, ...]:
    def age(process: ProcessActivity) -> str:
        return f"{duration(max(0, now_ns - process.newest_ns))} ago"

    return (
        Column("host", lambda process: process.host or UNKNOWN, shrinks=True, stays=True),
        Column("pid", lambda process: UNKNOWN if process.pid is None else str(process.pid), right=True, stays=True),
        Column("service", lambda process: process.service or UNKNOWN, shrinks=True, stays=True),
        Column("calls", lambda process: count(process.calls), right=True, stays=True),
        Column("sessions", lambda process: count(process.sessions), right=True, stays=True),
        Column("newest record", age, right=True, stays=True),
    )
