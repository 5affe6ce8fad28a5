"""`callspan calls --follow`: the last calls, then each call as it ends."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import click
import msgspec

from callspan.cli.call_text import call_tokens, outcome_text, result_text
from callspan.cli.command_context import CommandContext
from callspan.cli.json_rows import call_rows
from callspan.cli.safe_text import clean
from callspan.formatting import UNKNOWN, duration, local_time
from callspan.records import CallRecord
from callspan.stores import CallFilter, Reader

LAST: Final = 10
"""Calls that are shown at first."""
_POLL_S: Final = 0.5
_OVERLAP_NS: Final = 600_000_000_000
"""How far to look back: a call is sorted by its start but stored at its end."""
_DELIVER_EVERY: Final = 10
"""Polls between deliveries of records that ended processes left."""
_MODEL, _TOKENS, _TIME = 17, 12, 7
"""Fixed widths of columns, so that later lines align with earlier ones."""


def follow_calls(context: CommandContext, which: CallFilter, number: int) -> None:
    """Show the last calls, one line each, oldest first, and new ones as they end; with --json a JSON object a line.

    Ctrl-C ends it.
    """
    polls = _polls(context)
    with suppress(KeyboardInterrupt):
        next(polls)
        reason = context.why_empty()
        if reason is not None and not context.json:
            click.echo(clean(f"{reason}; waiting for the first record"), err=True)
        while context.why_empty() is not None:
            next(polls)
        _follow(context, which, number, polls)


def _polls(context: CommandContext) -> Iterator[None]:
    """Yield now and then, and deliver more seldom what ended processes left."""
    for poll in itertools.count():
        if poll % _DELIVER_EVERY == 0:
            context.deliver()
        yield
        time.sleep(_POLL_S)


def _follow(context: CommandContext, which: CallFilter, number: int, polls: Iterator[None]) -> None:
    with context.reader() as reader:
        which = context.resolved(reader, which)
        began_ns = time.time_ns()
        last = list(reader.calls(msgspec.structs.replace(which, limit=number)))
        shown = {call.call_id for call in last}
        running = {call.call_id for call in last if call.outcome == "in_progress"}
        for call in reversed(last):
            _show(context, reader, call)
        for _ in polls:
            # Those that ran at first, whenever they began, and those that ended since.
            ended = [call for call in map(reader.call, running) if call is not None and call.outcome != "in_progress"]
            since_ns = max(which.since_ns or 0, time.time_ns() - _OVERLAP_NS)
            recent = reader.calls(msgspec.structs.replace(which, since_ns=since_ns))
            ended += [
                call
                for call in recent
                if call.call_id not in shown and call.outcome != "in_progress" and _end_ns(call) >= began_ns
            ]
            for call in sorted(ended, key=_end_ns):
                _show(context, reader, call)
            shown.update(call.call_id for call in ended)
            running.difference_update(call.call_id for call in ended)


def _end_ns(call: CallRecord) -> int:
    return call.timing.start_ns + (call.timing.duration_ns or 0)


def _show(context: CommandContext, reader: Reader, call: CallRecord) -> None:
    if context.json:
        context.emit(*call_rows(reader, [call]))
        return
    context.screen.line(
        (local_time(call.timing.start_ns), "dim"),
        f"  {call.model or UNKNOWN:<{_MODEL}}",
        f"  {call_tokens(call):>{_TOKENS}}",
        f"  {duration(call.timing.duration_ns):>{_TIME}}  ",
        outcome_text(call),
        (f"  {result_text(call)}", "dim"),
    )
