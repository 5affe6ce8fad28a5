"""`callspan calls`: a table of calls, live with `--follow`, or of rewards and feedback."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import click
import msgspec

from callspan.cli.call_text import call_tokens, outcome_text, result_text
from callspan.cli.command_context import Command, CommandContext
from callspan.cli.filters import filters
from callspan.cli.json_rows import call_rows, record_fields, short_ids
from callspan.cli.paging import TABLE_ROWS, limit_option, print_page
from callspan.cli.safe_text import clean
from callspan.cli.screen import Cell, Column, reward_style
from callspan.cost.unknown import why_unknown
from callspan.formatting import UNKNOWN, duration, local_time, money, reward
from callspan.records import CallRecord, RewardRecord
from callspan.stores import CallFilter, Reader, ScoredReader, Scoring, ids_of

_EPILOG: Final = """\
callspan calls --failed --since 2h
callspan calls --sort duration --user u1"""

LAST: Final = 10
"""Number of calls shown at first."""
_POLL_S: Final = 0.5
_OVERLAP_NS: Final = 600_000_000_000
"""How far to look back: a call is sorted by its start but stored at its end."""
_DELIVER_EVERY: Final = 10
"""Polls between deliveries of records left by ended processes."""
_MODEL, _TOKENS, _TIME = 17, 12, 7
"""Fixed widths of columns, so that later lines align with earlier ones."""


@click.command(
    "calls",
    cls=Command,
    filters=filters(sort=True),
    short_help="List calls: model, tokens, time, outcome, output.",
    epilog=_EPILOG,
)
@limit_option
@click.option("--reverse", is_flag=True, help="Oldest first; with --sort the best first.")
@click.option("-f", "--follow", is_flag=True, help=f"Show the last {LAST}, then each that ends.")
@click.option("--rewards", is_flag=True, help="List rewards and feedback instead.")
def calls_command(
    context: CommandContext,
    which: CallFilter,
    limit: int | None,
    reverse: bool,
    follow: bool,
    rewards: bool,
) -> None:
    """List calls, newest first: model, tokens, time, outcome and output."""
    is_filtered = which != CallFilter() or context.scoring != Scoring()
    if rewards and (is_filtered or reverse or follow):
        raise click.UsageError("--rewards lists all rewards, newest first: only --limit goes with it.")
    if follow and (which.sort != "start" or context.scoring.sorts or reverse):
        raise click.UsageError("--follow shows calls as they end: --sort and --reverse do not go with it.")
    if rewards:
        list_rewards(context, limit)
    elif follow:
        follow_calls(context, which, limit or LAST)
    else:
        _list(context, msgspec.structs.replace(which, newest_first=not reverse), limit)


def _list(context: CommandContext, which: CallFilter, limit: int | None) -> None:
    with context.reader() as reader:
        read = limit if context.json else (limit or TABLE_ROWS) + 1
        which = msgspec.structs.replace(context.resolved(reader, which), content="response", limit=read)
        found, rows, table = reader.calls(which), partial(call_rows, reader), partial(_print_table, context, reader)
        if not print_page(context, found, limit, json_rows=rows, table=table):
            context.no_match(f"No such calls in {context.store_name}.")


def _print_table(context: CommandContext, reader: Reader, found: Sequence[CallRecord]) -> None:
    ids = short_ids(
        (call.call_id for call in found),
        # `show` resolves a prefix that a call and a session share to the session.
        besides=(call.place.session_id for call in found if call.place.session_id is not None),
    )
    columns = (
        Column("started", lambda call: local_time(call.timing.start_ns)),
        Column("call", lambda call: (ids[call.call_id], "cyan")),
        Column("model", lambda call: call.model, shrinks=True),
        Column("tokens", call_tokens, right=True),
        Column("cost", lambda call: money(call.cost.usd if call.cost else None), right=True),
        Column("time", lambda call: duration(call.timing.duration_ns), right=True),
        Column("outcome", outcome_text),
        Column("line", lambda call: call.custom_id, shrinks=True),
        Column("user", lambda call: call.user, shrinks=True),
        Column("output", lambda call: (result_text(call), "dim"), shrinks=True),
    )
    scores = (Column(one, partial(_score, reader, one), right=True, stays=True) for one in context.scoring.objectives)
    context.screen.table((*columns, *scores), found)
    for why in why_unknown(found):
        context.screen.paragraph(why, "dim")


def _score(reader: Reader, objective: str, call: CallRecord) -> Cell:
    """Return the score of an objective, else its labels."""
    if not isinstance(reader, ScoredReader):
        return None
    ids = ids_of(call)
    value = reader.scores_of(ids).get(objective)
    labels = reader.labels_of(ids).get(objective, ()) if value is None else ()
    return ", ".join(dict.fromkeys(labels)) or reward(value), reward_style(value)


def follow_calls(context: CommandContext, which: CallFilter, number: int) -> None:
    """Show the last calls, oldest first, and new ones as they end, one per line; with --json as JSON objects.

    Ctrl-C ends it.
    """
    polls = _polls(context)
    with suppress(KeyboardInterrupt):
        next(polls)
        reason = context.why_empty()
        if reason is not None:
            click.echo(clean(f"{reason}; waiting for the first record"), err=True)
        while context.why_empty() is not None:
            next(polls)
        _follow(context, which, number, polls)


def _polls(context: CommandContext) -> Iterator[None]:
    """Yield once per poll; every few polls deliver records left by ended processes."""
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
            # Calls that were running at first, whenever they started, and those that have ended since.
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
