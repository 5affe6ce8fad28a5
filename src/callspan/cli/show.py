"""`callspan show ID`: a session as a tree, or one call in full."""

from __future__ import annotations

from typing import Final

import click
import msgspec

from callspan.cli.call_page import print_call
from callspan.cli.frame import Frame, framed
from callspan.cli.rows import call_row, session_row
from callspan.cli.session_tree import session_tree
from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, MessageRecord, RewardRecord, TimestepRecord
from callspan.stores.base import CallFilter, Happening, Reader, SessionSummary
from callspan.stores.opening import safe_name

_EPILOG: Final = """\b
Examples:
  callspan show 019aa0c1-77         a session, by the beginning of its id
  callspan show 7bd1f2f5a81c9c1e    a call, by its span id from a tracing backend
  callspan show last                the newest session"""


@click.command("show", short_help="A session as a tree, or one call in full.", epilog=_EPILOG)
@click.argument("ident", metavar="ID")
@framed
def command(frame: Frame, ident: str) -> None:
    """Show a session as a tree of steps, calls, tools and events, or a call with all that was said.

    ID is a session's or a call's id, the beginning of one, a call's span id, or `last`.
    """
    with frame.reader() as reader:
        summary = next(reader.sessions(limit=1), None) if ident == "last" else reader.session(ident)
        if summary is not None:
            _show_session(frame, reader, summary)
            return
        call = reader.call(ident)
    if call is None:
        frame.nothing(
            f"Nothing in {safe_name(frame.store)} has an id that begins with {ident!r}, or several have. "
            "See `callspan sessions` and `callspan calls`."
        )
    elif frame.json:
        frame.emit(_call_json(call))
    else:
        print_call(frame.screen, call)


def _show_session(frame: Frame, reader: Reader, summary: SessionSummary) -> None:
    session_id = summary.session.session_id
    steps = list(reader.timesteps(session_id))
    calls = list(reader.calls(CallFilter(session_id=session_id, newest_first=False)))
    happenings = list(reader.happenings(session_id))
    if frame.json:
        frame.emit(_session_json(summary, steps, calls, happenings))
    else:
        frame.screen.print(session_tree(summary, steps, calls, happenings))


def _session_json(
    summary: SessionSummary, steps: list[TimestepRecord], calls: list[CallRecord], happenings: list[Happening]
) -> dict[str, object]:
    return session_row(summary) | {
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
                **_inside(step.timestep_id, calls, happenings),
            }
            for step in steps
        ],
        **{f"loose_{name}": found for name, found in _inside(None, calls, happenings).items()},
    }


def _inside(step_id: str | None, calls: list[CallRecord], happenings: list[Happening]) -> dict[str, list[object]]:
    here = [item for item in happenings if item.timestep_id == step_id]
    return {
        "calls": [call_row(call) for call in calls if call.place.timestep_id == step_id],
        "tools": [item for item in here if isinstance(item, EventRecord) and item.event_type == "tool"],
        "events": [item for item in here if isinstance(item, EventRecord) and item.event_type != "tool"],
        "messages": [item for item in here if isinstance(item, MessageRecord)],
        "rewards": [item for item in here if isinstance(item, RewardRecord)],
    }


def _call_json(call: CallRecord) -> dict[str, object]:
    record: dict[str, object] = {"record": msgspec.to_builtins(call, builtin_types=(msgspec.Raw,), enc_hook=_plain)}
    return call_row(call) | record


def _plain(value: object) -> object:
    return value if isinstance(value, msgspec.Raw) else str(value)
