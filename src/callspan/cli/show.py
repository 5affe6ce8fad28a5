"""`callspan show ID`: a session as a tree, or one call in full."""

from __future__ import annotations

from typing import Final

import click
import msgspec

from callspan.cli.call_page import print_call
from callspan.cli.frame import Frame, framed
from callspan.cli.parameter_types import Rows
from callspan.cli.rows import call_row, session_row
from callspan.cli.session_page import Page
from callspan.cli.session_tree import session_tree
from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, MessageRecord, RewardRecord
from callspan.stores.base import CallFilter, Event, Reader, SessionSummary
from callspan.stores.urls import safe_name

_LIMIT: Final = 1000
_NAMED: Final = 3
_EPILOG: Final = """\b
Examples:
  callspan show                     the newest session
  callspan show 019aa0c1-77         a session, by the beginning of its id
  callspan show 7bd1f2f5a81c9c1e    a call, by its span id from a tracing backend
  callspan show last --offset 1000  more of a long session"""


@click.command("show", short_help="A session as a tree, or one call in full.", epilog=_EPILOG)
@click.argument("ident", metavar="[ID]", default="last")
@click.option("--limit", type=Rows(1), help=f"Show at most N entries of a session. Default for a tree: {_LIMIT:,}.")
@click.option("--offset", type=Rows(0), default=0, help="Skip the first N entries of a session.")
@framed
def command(frame: Frame, ident: str, limit: int | None, offset: int) -> None:
    """Show a session as a tree of steps, calls, tools and events, or one call in full.

    ID is a session's or a call's id, the beginning of one, a call's span id, or `last`: the newest session, or the
    newest call where it belongs to no session and began later.
    """
    with frame.reader() as reader:
        summary = next(reader.sessions(limit=1), None) if ident == "last" else reader.session(ident)
        later = _later_call(reader, summary) if ident == "last" and summary is not None else None
        if summary is not None and later is None:
            whole = limit is None and frame.json
            _show_session(frame, Page.of(reader, summary, None if whole else limit or _LIMIT, offset))
            return
        newest = later or next(reader.calls(CallFilter(limit=1)), None)
        call = newest if ident == "last" else reader.call(ident)
        if call is None:
            frame.nothing(_missing(frame, reader, ident))
    if frame.json:
        frame.emit(_call_json(call))
    else:
        with frame.screen.paged():
            print_call(frame.screen, call)
            if later is not None and summary is not None:
                before = f"\nThis call is newer than the newest session: callspan show {summary.session.session_id}"
                frame.screen.paragraph(before)


def _later_call(reader: Reader, summary: SessionSummary) -> CallRecord | None:
    """The newest call, where it is of no session and began after the newest session."""
    call = next(reader.calls(CallFilter(limit=1)), None)
    began = summary.session.start_ns
    if call is None or call.place.session_id is not None or began is None or call.timing.start_ns <= began:
        return None
    return call


def _missing(frame: Frame, reader: Reader, ident: str) -> str:
    """Why nothing is shown: there is nothing yet, nothing of that id, or several sessions begin so."""
    store = safe_name(frame.store)
    if ident == "last":
        return f"There is nothing in {store} yet."
    listed = (summary.session.session_id for summary in reader.sessions(limit=_LIMIT))
    several = [session_id for session_id in listed if ident and session_id.startswith(ident)]
    if len(several) > 1:
        more = f" and {len(several) - _NAMED:,} more" if len(several) > _NAMED else ""
        return f"{len(several):,} sessions begin with {ident!r}: {', '.join(several[:_NAMED])}{more}."
    return (
        f"Nothing in {store} has an id that begins with {ident!r}, or several calls have. "
        "See `callspan sessions` and `callspan calls`."
    )


def _show_session(frame: Frame, page: Page) -> None:
    if frame.json:
        frame.emit(_session_json(page))
        return
    screen = frame.screen
    with screen.paged():
        screen.print(session_tree(page, screen.console.width))
        if page.is_part:
            last = page.offset + len(page.items)
            screen.line((f"entries {page.offset + 1:,} to {last:,} of {page.total:,}: --limit, --offset", "dim"))


def _session_json(page: Page) -> dict[str, object]:
    calls, events = page.calls, page.events
    return session_row(page.summary) | {
        "steps": [
            {
                "timestep_id": step.timestep_id,
                "index": step.index,
                "name": step.name,
                "outcome": step.outcome,
                "terminated": step.terminated,
                "truncated": step.truncated,
                "start_ns": step.start_ns,
                "end_ns": step.end_ns,
                "totals": step.totals,
                **_inside(step.timestep_id, calls, events),
            }
            for step in page.steps
        ],
        **{f"loose_{name}": found for name, found in _inside(None, calls, events).items()},
    }


def _inside(step_id: str | None, calls: list[CallRecord], events: list[Event]) -> dict[str, list[object]]:
    here = [item for item in events if item.timestep_id == step_id]
    return {
        "calls": [call_row(call) for call in calls if call.place.timestep_id == step_id],
        "tools": [_fields(item) for item in here if isinstance(item, EventRecord) and item.event_type == "tool"],
        "events": [_fields(item) for item in here if isinstance(item, EventRecord) and item.event_type != "tool"],
        "messages": [_fields(item) for item in here if isinstance(item, MessageRecord)],
        "rewards": [_fields(item) for item in here if isinstance(item, RewardRecord)],
    }


def _fields(item: Event) -> dict[str, object]:
    """Every field, those too that a record leaves out where they say nothing."""
    return {"kind": item.__struct_config__.tag, **msgspec.structs.asdict(item)}


def _call_json(call: CallRecord) -> dict[str, object]:
    record: dict[str, object] = {"record": msgspec.to_builtins(call, builtin_types=(msgspec.Raw,), enc_hook=_plain)}
    return call_row(call) | record


def _plain(value: object) -> object:
    return value if isinstance(value, msgspec.Raw) else str(value)
