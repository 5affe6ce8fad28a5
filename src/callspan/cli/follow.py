"""`callspan calls --follow`: the last calls, then each call as it ends."""

from __future__ import annotations

import itertools
import time
from contextlib import suppress
from typing import Final

import click
import msgspec

from callspan.cli.call_text import call_tokens, outcome_text, result_text
from callspan.cli.command_context import CommandContext, store_errors
from callspan.cli.filter_options import resolve_session
from callspan.cli.json_rows import call_rows
from callspan.cli.safe_text import clean
from callspan.cli.screen import styled
from callspan.formatting import UNKNOWN, duration, local_time
from callspan.record.call import CallRecord
from callspan.safe_urls import error_text
from callspan.settings import SettingError
from callspan.stores.aggregates import model_of
from callspan.stores.base import EmptyStoreError
from callspan.stores.filters import CallFilter
from callspan.stores.reader import Reader
from callspan.stores.urls import open_store

LAST: Final = 10
"""Calls that are shown at first."""
_POLL_S: Final = 0.5
_OVERLAP_NS: Final = 600_000_000_000
"""How far to look back: a call is sorted by its start but stored at its end."""
_DELIVER_EVERY: Final = 10
"""Polls between deliveries of records that ended processes left."""
_RUNNING: Final = frozenset({"started", "in_progress"})
_MODEL, _TOKENS, _TIME = 17, 12, 7
"""Fixed widths of columns, so that later lines align with earlier ones."""


def follow_calls(context: CommandContext, which: CallFilter, number: int) -> None:
    """Show the last calls, one line each, oldest first, and new ones as they end; with --json a JSON object a line.

    Ctrl-C ends it.
    """
    with suppress(KeyboardInterrupt):
        _wait_for(context)
        _follow(context, which, number)


def _follow(context: CommandContext, which: CallFilter, number: int) -> None:
    with context.reader() as reader:
        which = resolve_session(context, reader, which)
        began_ns = time.time_ns()
        shown: set[str] = set()
        last = list(reader.calls(msgspec.structs.replace(which, limit=number)))
        for call in reversed(last):
            _show(context, reader, call, shown)
        running = [call.call_id for call in last if call.outcome in _RUNNING]
        for poll in itertools.count():
            running = _show_ended(context, reader, running)
            if poll and poll % _DELIVER_EVERY == 0:
                context.deliver()
            for call in _finished(reader, which, shown, began_ns):
                _show(context, reader, call, shown)
            time.sleep(_POLL_S)


def _show_ended(context: CommandContext, reader: Reader, running: list[str]) -> list[str]:
    """Show the calls that have ended, regardless of their start; return the ids of the others."""
    still = []
    for call_id in running:
        call = reader.call(call_id)
        if call is not None and call.outcome in _RUNNING:
            still.append(call_id)
        elif call is not None:
            _show(context, reader, call, set())
    return still


def _wait_for(context: CommandContext) -> None:
    """Wait until the store has a record."""
    context.deliver()
    reason = _why_empty(context)
    if reason is not None and not context.json:
        click.echo(clean(f"{reason}; waiting for the first record"), err=True)
    for poll in itertools.count(1):
        if reason is None:
            return
        time.sleep(_POLL_S)
        if poll % _DELIVER_EVERY == 0:
            context.deliver()
        reason = _why_empty(context)


def _why_empty(context: CommandContext) -> str | None:
    """Return why there is nothing to read yet; None if there is something, or for errors reported later."""
    try:
        open_store(context.store).close()
    except EmptyStoreError as error:
        return error_text(error)
    except store_errors(SettingError):
        return None
    return None


def _finished(reader: Reader, which: CallFilter, shown: set[str], began_ns: int) -> list[CallRecord]:
    """Return the calls that finished after the start of the command and were not shown yet, in order of their end."""
    since = max(which.since_ns or 0, time.time_ns() - _OVERLAP_NS)
    found = reader.calls(msgspec.structs.replace(which, since_ns=since))
    new = (call for call in found if call.call_id not in shown and call.outcome not in _RUNNING)
    return sorted((call for call in new if _end_ns(call) >= began_ns), key=_end_ns)


def _end_ns(call: CallRecord) -> int:
    return call.timing.start_ns + (call.timing.duration_ns or 0)


def _show(context: CommandContext, reader: Reader, call: CallRecord, shown: set[str]) -> None:
    shown.add(call.call_id)
    if context.json:
        context.emit(*call_rows(reader, [call]))
        return
    line = styled(
        (local_time(call.timing.start_ns), "dim"),
        ("  ", ""),
        (f"{model_of(call) or UNKNOWN:<{_MODEL}}", ""),
        f"  {call_tokens(call):>{_TOKENS}}",
        f"  {duration(call.timing.duration_ns):>{_TIME}}  ",
    )
    line.append_text(outcome_text(call))
    line.append_text(styled((f"  {result_text(call)}", "dim")))
    context.screen.text(line)
