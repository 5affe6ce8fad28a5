"""`callspan calls`: a table of calls; `callspan tail`: the last calls, and with `-f` new ones as they end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from typing import Final

import click
import msgspec
from rich.console import Group
from rich.text import Text

from callspan.cli.command_context import CommandContext, reading, store_errors
from callspan.cli.filter_options import Rows, call_options, resolve_session, sort_option
from callspan.cli.json_rows import call_rows, output_text, short_ids
from callspan.cli.paging import TABLE_ROWS, page_options, say_more
from callspan.cli.safe_text import clean
from callspan.cli.score_filter import ScoredReader, ScoresOf
from callspan.cli.screen import OUTCOME_STYLES, Column, fitted, reward_style, score_columns, styled
from callspan.cli.unknown_costs import why_unknown
from callspan.formatting import UNKNOWN, duration, local_time, money, reward, tokens
from callspan.record.call import CallRecord
from callspan.safe_urls import error_text, safe_name
from callspan.settings import SettingError
from callspan.stores.aggregates import model_of
from callspan.stores.base import CallFilter, EmptyStoreError, Reader
from callspan.stores.urls import open_store

_COLUMNS: Final = (
    Column("started", rank=4),
    Column("call"),
    Column("model", shrinks=True, rank=1, least=14),
    Column("tokens", right=True, rank=2),
    Column("cost", right=True, rank=5, known=True),
    Column("time", right=True, rank=3),
    Column("outcome", shrinks=True, least=16),
    Column("line", shrinks=True, rank=6, known=True),
    Column("user", shrinks=True, rank=7, known=True),
    Column("output", shrinks=True, rank=6),
)
_EPILOG: Final = """\b
Examples:
  callspan calls --error --since 2h
  callspan calls --finish length --since 1d
  callspan calls --sort cost --user u1
  callspan calls --session 019aa0 --oldest-first
  callspan calls --user u1 --meta variant=b
  callspan calls --objective feedback --min-score 1
  callspan calls --text "refund" --json | jq '.[].call_id'"""
_POLL_S: Final = 0.5
_OVERLAP_NS: Final = 600_000_000_000
"""How far to look back: a call is sorted by its start but stored at its end."""
_DELIVER_EVERY: Final = 10
"""Polls between deliveries of records that ended processes left."""
_WHOLE_EVERY: Final = 20
"""Polls between searches that look back this far; the others read only the newest calls."""
_RECENT: Final = 200
_RUNNING: Final = frozenset({"started", "in_progress"})
_MODEL, _TOKENS, _TIME = 17, 12, 7
"""Fixed widths of columns, so that later lines align with earlier ones."""
_TAIL_EPILOG: Final = """\b
Examples:
  callspan tail -n 20 --error
  callspan tail -f --session 019aa0
  callspan tail -f --json | jq -r .output"""


@click.command("calls", short_help="List calls: model, tokens, time, outcome, output.", epilog=_EPILOG)
@call_options
@page_options("calls")
@click.option("--oldest-first", is_flag=True, help="Oldest first; with --sort the smallest.")
@sort_option
@reading
def calls_command(
    context: CommandContext, which: CallFilter, limit: int | None, offset: int, oldest_first: bool
) -> None:
    """List calls, newest first: model, tokens, time, outcome and output."""
    with context.reader() as reader:
        which = resolve_session(context, reader, which)
        which = msgspec.structs.replace(
            which, limit=limit, offset=offset, newest_first=not oldest_first, content="response"
        )
        scores = reader.scores_of if isinstance(reader, ScoredReader) else None
        if context.json:
            if not context.emit_all(call_rows(reader, reader.calls(which), scores)):
                raise click.exceptions.Exit(1)
            return
        rows = limit or TABLE_ROWS
        found = list(reader.calls(msgspec.structs.replace(which, limit=rows + 1)))
        more: int | None = 0
        if len(found) > rows:
            # To count the others takes a search of all texts.
            more = None if which.text is not None else reader.count_calls(which) - offset - rows
    if not found:
        context.no_match(f"No such calls in {safe_name(context.store)}.")
    with context.screen.paged():
        context.screen.print(
            calls_table(found[:rows], context.screen.console.width, context.scoring.objectives, scores)
        )
        for why in why_unknown(found[:rows]):
            context.screen.line((why, "dim"))
        say_more(context, more, offset + rows)


def calls_table(
    found: list[CallRecord], width: int, objectives: Sequence[str] = (), scores: ScoresOf | None = None
) -> Group:
    """Return calls as a table of the given width; a narrow table omits the least important columns."""
    ids = short_ids(
        (call.call_id for call in found),
        # `show` resolves a prefix that a call and a session share to the session.
        besides=(call.place.session_id for call in found if call.place.session_id is not None),
    )
    rows = ([*_cells(call, ids[call.call_id]), *_scores(call, objectives, scores)] for call in found)
    return fitted((*_COLUMNS, *score_columns(objectives)), rows, width)


def _scores(call: CallRecord, objectives: Sequence[str], scores: ScoresOf | None) -> Iterator[Text]:
    given = scores(call) if scores is not None and objectives else {}
    for objective in objectives:
        value = given.get(objective)
        yield styled((reward(value), reward_style(value)))


def _cells(call: CallRecord, short: str) -> list[Text | str]:
    return [
        local_time(call.timing.start_ns),
        styled((short, "cyan")),
        styled(model_of(call) or UNKNOWN),
        call_tokens(call),
        money(call.cost.usd if call.cost else None),
        duration(call.timing.duration_ns),
        outcome_text(call),
        styled(call.custom_id or UNKNOWN),
        styled(call.user or UNKNOWN),
        styled((result_text(call), "dim")),
    ]


def outcome_text(call: CallRecord) -> Text:
    """Return a call's outcome, what is missing of its answer, its HTTP status and its number of retries."""
    status = call.error.status if call.error else None
    word = call.outcome if status is None else f"{call.outcome} {status}"
    style = OUTCOME_STYLES.get(call.outcome, "")
    for is_so, mark in ((call.is_cut_by_length, "cut by length"), (call.is_cut_off, "cut off")):
        if is_so:
            # Instead of the word for success: 80 columns have room for one.
            word, style = (mark, "yellow") if call.outcome == "success" else (f"{word}, {mark}", style)
    if call.response is not None and call.response.unrecognized:
        word += ", not recognized"
    retried = f", {call.retries} retr{'y' if call.retries == 1 else 'ies'}" if call.retries else ""
    return styled((word, style), (retried, "yellow"))


def result_text(call: CallRecord) -> str:
    """Return a short form of a call's output, else the message of its error."""
    return output_text(call) or (call.error.message if call.error else None) or ""


def call_tokens(call: CallRecord) -> str:
    """Return a call's tokens of input and output."""
    return tokens(call.usage.input_tokens, call.usage.output_tokens) if call.usage else UNKNOWN


@click.command("tail", short_help="Show the last calls; with -f also new ones.", epilog=_TAIL_EPILOG)
@call_options
@click.option("-n", "number", type=Rows(0), default=10, show_default=True, help="Show the last N calls.")
@click.option("-f", "--follow", is_flag=True, help="Keep showing calls as they finish, until Ctrl-C.")
@reading
def tail_command(context: CommandContext, which: CallFilter, number: int, follow: bool) -> None:
    """Show the last calls, one line each, oldest first; with --json, one JSON object per line."""
    with suppress(KeyboardInterrupt) if follow else nullcontext():
        if follow:
            _wait_for(context)
        _tail(context, which, number, follow=follow)


def _tail(context: CommandContext, which: CallFilter, number: int, *, follow: bool) -> None:
    with context.reader() as reader:
        which = resolve_session(context, reader, which)
        began_ns = time.time_ns()
        shown: set[str] = set()
        if number:
            last = list(reader.calls(msgspec.structs.replace(which, limit=number)))
            for call in reversed(last):
                _show(context, reader, call, shown)
        running = [call.call_id for call in last if call.outcome in _RUNNING] if number else []
        for poll in itertools.count() if follow else ():
            running = _show_ended(context, reader, running)
            window = which if poll % _WHOLE_EVERY == 0 else msgspec.structs.replace(which, limit=_RECENT)
            if poll and poll % _DELIVER_EVERY == 0:
                context.deliver()
            for call in _finished(reader, window, shown, began_ns):
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
    """Return the calls that finished after the start of `tail` and were not shown yet, in order of their end."""
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
