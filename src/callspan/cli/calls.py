"""`callspan calls`: a table of calls, live with `--follow`, or of rewards and feedback."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Final

import click
import msgspec

from callspan import open_store
from callspan.cli.command_context import Command, CommandContext
from callspan.cli.filters import filters
from callspan.cli.json_rows import call_rows, record_fields, short_ids
from callspan.cli.paging import TABLE_ROWS, limit_option, print_page
from callspan.cli.prices import pricer_of_now
from callspan.cli.terminal.call_text import call_tokens, outcome_text, result_text
from callspan.cli.terminal.safe_text import clean
from callspan.cli.terminal.screen import Cell, Column, reward_style
from callspan.cost.unknown import why_unknown
from callspan.formatting import UNKNOWN, duration, local_time, money, reward
from callspan.records import CallRecord, RewardRecord
from callspan.stores import CallFilter, EmptyStoreError, Labels, Reader, Scores, question

_EPILOG: Final = """\
callspan calls --failed --since 2h
callspan calls --sort duration --user u1"""

LAST: Final = 10
"""Number of calls that `--follow` shows at first."""
_POLL_S: Final = 0.5
_OVERLAP_NS: Final = 600_000_000_000
"""How far each poll looks back: calls are selected by their start, but stored at their end."""
_LONGEST_NS: Final = 7_200_000_000_000
"""How far it looks back for long calls: by default, the SDKs give up after ten minutes, with retries after thirty."""
_DELIVER_EVERY: Final = 10
"""Polls between deliveries of records left by ended processes."""
_MODEL_WIDTH, _TOKENS_WIDTH, _TIME_WIDTH, _QUESTION_WIDTH = 17, 12, 7, 24
"""Fixed column widths for `--follow`, so that later lines align with earlier ones."""


@click.command(
    "calls",
    cls=Command,
    page="The command: Filters",
    filters=filters(sort=True),
    short_help="List calls: model, tokens, time, outcome, question, output.",
    epilog=_EPILOG,
)
@limit_option
@click.option("--reverse", is_flag=True, help="Oldest first; with --sort the best first.")
@click.option("-f", "--follow", is_flag=True, help=f"Show the last {LAST}, then each that ends.")
@click.option("--rewards", is_flag=True, help="List rewards and feedback instead.")
def calls_command(
    context: CommandContext,
    selection: CallFilter,
    limit: int | None,
    reverse: bool,
    follow: bool,
    rewards: bool,
) -> None:
    """List calls, newest first: model, tokens, time, outcome, question and output."""
    if rewards and (selection != CallFilter() or reverse or follow):
        raise click.UsageError("--rewards lists all rewards, newest first; it can be combined only with --limit.")
    if follow and (selection.sort != "start_ns" or reverse or selection.until_ns is not None):
        raise click.UsageError(
            "--follow shows calls as they end; it cannot be combined with --sort, --reverse or --until."
        )
    if rewards:
        list_rewards(context, limit)
    elif follow:
        follow_calls(context, selection, limit or LAST)
    else:
        _list(context, msgspec.structs.replace(selection, newest_first=not reverse), limit)


def _list(context: CommandContext, selection: CallFilter, limit: int | None) -> None:
    with context.reader() as reader:
        max_calls = limit if context.json else (limit or TABLE_ROWS) + 1
        selection = msgspec.structs.replace(context.resolved(reader, selection), limit=max_calls)
        rows, table = partial(call_rows, reader, selection=selection), partial(_print_table, context, reader, selection)
        if not print_page(context, reader.calls(selection), limit, json_rows=rows, table=table):
            context.no_match(f"No such calls in {context.store_name}.")


def _print_table(context: CommandContext, reader: Reader, selection: CallFilter, calls: Sequence[CallRecord]) -> None:
    ids = short_ids(
        (call.call_id for call in calls),
        # `show` resolves a prefix that a call and a session share to the session.
        besides=(call.place.session_id for call in calls if call.place.session_id is not None),
    )
    columns = (
        Column("started", lambda call: local_time(call.timing.start_ns)),
        Column("call", lambda call: (ids[call.call_id], "cyan")),
        Column("model", lambda call: call.model, shrinks=True),
        Column("tokens", call_tokens, right=True),
        Column("cost", lambda call: money(call.cost.usd if call.cost else None), right=True),
        Column("time", lambda call: duration(call.timing.duration_ns), right=True),
        Column("outcome", outcome_text, shrinks=True),
        Column("line", lambda call: call.custom_id, shrinks=True),
        Column("user", lambda call: call.user_id, shrinks=True),
        Column("question", question, shrinks=True),
        Column("output", lambda call: (result_text(call), "dim"), shrinks=True),
    )
    objectives = selection.objectives
    of_calls = (
        (reader.call_scores(calls, objectives), reader.call_labels(calls, objectives)) if objectives else ({}, {})
    )
    scores = (Column(name, partial(_score, *of_calls, name), right=True, stays=True) for name in objectives)
    context.screen.table((*columns, *scores), calls)
    for reason in why_unknown(calls, pricer_of_now):
        context.screen.paragraph(reason, "dim")


def _score(scores: Mapping[str, Scores], call_labels: Mapping[str, Labels], objective: str, call: CallRecord) -> Cell:
    """Return a call's score for an objective; without a score, its labels for it."""
    value = scores[call.call_id].get(objective)
    labels = call_labels[call.call_id].get(objective, ()) if value is None else ()
    return ", ".join(dict.fromkeys(labels)) or reward(value), reward_style(value)


def follow_calls(context: CommandContext, selection: CallFilter, count: int) -> None:
    """Show the last `count` calls, oldest first, then new ones as they end: one line each, with --json one object.

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
        _follow(context, selection, count, polls)


def _polls(context: CommandContext) -> Iterator[None]:
    """Yield once per poll; every few polls deliver records left by ended processes."""
    for poll in itertools.count():
        if poll % _DELIVER_EVERY == 0:
            context.deliver()
        yield
        time.sleep(_POLL_S)


def _follow(context: CommandContext, selection: CallFilter, count: int, polls: Iterator[None]) -> None:
    with context.reader() as reader:
        selection = context.resolved(reader, selection)
        began_ns = time.time_ns()
        newest = list(reader.calls(msgspec.structs.replace(selection, limit=count)))
        for call in reversed(newest):
            _show(context, reader, selection, call)
    shown_ids = {call.call_id for call in newest}
    running = {call.call_id for call in newest if not _has_ended(call)}
    for _ in polls:
        # Each opens the store, because its file may have been replaced.
        with suppress(EmptyStoreError), closing(open_store(context.store)) as reader:
            # Calls that were running at first are looked up by id, because they may have started long ago.
            calls = [*filter(None, map(reader.call, running))]
            new_calls = (call for call in _recent(reader, selection) if call.call_id not in shown_ids)
            calls += (call for call in new_calls if _end_ns(call) >= began_ns)
            for call in sorted(filter(_has_ended, calls), key=_end_ns):
                _show(context, reader, selection, call)
                shown_ids.add(call.call_id)
                running.discard(call.call_id)


def _recent(reader: Reader, selection: CallFilter) -> Iterator[CallRecord]:
    """Yield the calls that started recently, and earlier ones that took long."""
    border_ns = time.time_ns() - _OVERLAP_NS
    yield from reader.calls(msgspec.structs.replace(selection, since_ns=max(selection.since_ns or 0, border_ns)))
    long = msgspec.structs.replace(
        selection,
        since_ns=max(selection.since_ns or 0, border_ns - _LONGEST_NS),
        until_ns=min(selection.until_ns or border_ns, border_ns),
        min_duration_ns=max(selection.min_duration_ns or 0, _OVERLAP_NS // 2),
    )
    yield from reader.calls(long)


def _has_ended(call: CallRecord) -> bool:
    return call.outcome != "in_progress"


def _end_ns(call: CallRecord) -> int:
    return call.timing.start_ns + (call.timing.duration_ns or 0)


def _show(context: CommandContext, reader: Reader, selection: CallFilter, call: CallRecord) -> None:
    if context.json:
        context.emit(*call_rows(reader, [call], selection))
        return
    context.screen.line(
        (local_time(call.timing.start_ns), "dim"),
        f"  {call.model or UNKNOWN:<{_MODEL_WIDTH}}",
        f"  {call_tokens(call):>{_TOKENS_WIDTH}}",
        f"  {duration(call.timing.duration_ns):>{_TIME_WIDTH}}  ",
        outcome_text(call),
        f"  {(question(call) or UNKNOWN)[:_QUESTION_WIDTH]:<{_QUESTION_WIDTH}}",
        (f"  {result_text(call)}", "dim"),
    )


def list_rewards(context: CommandContext, limit: int | None) -> None:
    """List rewards and feedback with their targets, newest first."""
    table = partial(context.screen.table, _REWARD_COLUMNS)
    with context.reader() as reader:
        if not print_page(context, reader.rewards(), limit, json_rows=partial(map, record_fields), table=table):
            context.no_match(f"No rewards in {context.store_name}.")


def _target(record: RewardRecord) -> str:
    """Return the kind and id of the narrowest target of a reward, as `call 019aa0`."""
    ids = {
        "event": record.event_id, "call": record.call_id, "step": record.timestep_id, "session": record.session_id,
    }  # fmt: skip
    return next((f"{kind} {target_id}" for kind, target_id in ids.items() if target_id is not None), UNKNOWN)


_REWARD_COLUMNS: Final = (
    Column("given", lambda record: local_time(record.time_ns)),
    Column("objective", lambda record: (record.objective, "magenta"), shrinks=True),
    Column("value", lambda record: (reward(record.value), reward_style(record.value)), right=True),
    Column("label", lambda record: record.label, shrinks=True),
    Column("for", lambda record: (_target(record), "cyan")),
    Column("source", lambda record: record.source, shrinks=True),
    Column("comment", lambda record: (record.annotation or UNKNOWN, "dim"), shrinks=True),
)
