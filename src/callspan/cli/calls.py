"""`callspan calls`: a table of calls."""

from __future__ import annotations

from typing import Final

import click
import msgspec
from rich.console import Group
from rich.text import Text

from callspan.cli.filters import Rows, call_options, resolve_session
from callspan.cli.frame import Frame, reading
from callspan.cli.rows import call_row, output_text, short_ids
from callspan.cli.screen import OUTCOME_STYLES, Column, fitted, styled
from callspan.formatting import UNKNOWN, duration, local_time, money, tokens
from callspan.record.call import CallRecord
from callspan.stores.aggregates import model_of
from callspan.stores.base import CallFilter
from callspan.stores.urls import safe_name

_COLUMNS: Final = (
    Column("started", rank=4),
    Column("call"),
    Column("model", shrinks=True, rank=1, least=14),
    Column("tokens", right=True, rank=2),
    Column("cost", right=True, rank=5, known=True),
    Column("time", right=True, rank=3),
    Column("outcome", shrinks=True, least=16),
    Column("user", shrinks=True, rank=7, known=True),
    Column("output", shrinks=True, rank=6),
)
_EPILOG: Final = """\b
Examples:
  callspan calls --error --since 2h
  callspan calls --session 019aa0 --oldest-first
  callspan calls --user u1 --meta variant=b
  callspan calls --text "refund" --json | jq '.[].call_id'"""


@click.command("calls", short_help="List calls: model, tokens, time, outcome, output.", epilog=_EPILOG)
@call_options
@click.option("--limit", type=Rows(1), default=50, show_default=True, help="Show at most N calls.")
@click.option("--offset", type=Rows(0), default=0, help="Skip the first N calls.")
@click.option("--oldest-first", is_flag=True, help="Oldest first instead of newest first.")
@reading
def command(frame: Frame, which: CallFilter, limit: int, offset: int, oldest_first: bool) -> None:
    """List calls, newest first: model, tokens, time, outcome and output."""
    with frame.reader() as reader:
        which = resolve_session(frame, reader, which)
        which = msgspec.structs.replace(
            which, limit=limit, offset=offset, newest_first=not oldest_first, content="response"
        )
        if frame.json:
            if not frame.emit_all(call_row(call) for call in reader.calls(which)):
                raise click.exceptions.Exit(1)
            return
        if which.text is not None:
            # To count the others takes a search of all texts.
            found = list(reader.calls(msgspec.structs.replace(which, limit=limit + 1)))
            found, more = found[:limit], "more" if len(found) > limit else ""
        else:
            found = list(reader.calls(which))
            others = reader.count_calls(which) - offset - len(found)
            more = f"{others:,} more" if others > 0 else ""
    if not found:
        frame.no_match(f"No such calls in {safe_name(frame.store)}.")
    with frame.screen.paged():
        frame.screen.print(calls_table(found, frame.screen.console.width))
        if more:
            frame.screen.line((f"{more}: --limit, --offset", "dim"))


def calls_table(found: list[CallRecord], width: int) -> Group:
    """Return calls as a table of the given width; a narrow table omits the least important columns."""
    ids = short_ids(
        (call.call_id for call in found),
        # `show` resolves a prefix that a call and a session share to the session.
        besides=(call.place.session_id for call in found if call.place.session_id is not None),
    )
    return fitted(_COLUMNS, (_cells(call, ids[call.call_id]) for call in found), width)


def _cells(call: CallRecord, short: str) -> list[Text | str]:
    return [
        local_time(call.timing.start_ns),
        styled((short, "cyan")),
        styled(model_of(call) or UNKNOWN),
        _tokens(call),
        money(call.cost.usd if call.cost else None),
        duration(call.timing.duration_ns),
        outcome_text(call),
        styled(call.user or UNKNOWN),
        styled((output_text(call) or (call.error.message if call.error else None) or "", "dim")),
    ]


def outcome_text(call: CallRecord) -> Text:
    """Return a call's outcome with its HTTP status and number of retries."""
    status = call.error.status if call.error else None
    word = call.outcome if status is None else f"{call.outcome} {status}"
    if call.stream is not None and call.stream.end == "cut_off":
        word += ", cut off"
    if call.response is not None and call.response.unrecognized:
        word += ", not recognized"
    retried = f", {call.retries} retr{'y' if call.retries == 1 else 'ies'}" if call.retries else ""
    return styled((word, OUTCOME_STYLES.get(call.outcome, "")), (retried, "yellow"))


def _tokens(call: CallRecord) -> str:
    return tokens(call.usage.input_tokens, call.usage.output_tokens) if call.usage else UNKNOWN
