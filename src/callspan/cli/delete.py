"""`callspan delete SESSION`: deletes one session with everything in it."""

from __future__ import annotations

import sys
from typing import Final

import click
import msgspec

from callspan.cli.frame import Frame, reading, store_errors, usage_error
from callspan.cli.safe_text import clean
from callspan.formatting import count, local_time, plural
from callspan.settings import SettingError
from callspan.stores.base import SessionSummary
from callspan.stores.retention import Removed, delete_session
from callspan.stores.urls import safe_name, split_urls

_EPILOG: Final = """\b
Examples:
  callspan delete 019aa0c1-77
  callspan delete conversation-7 --yes
  callspan sessions --user u1 --json | jq -r '.[].session_id' | xargs -n1 callspan delete --yes"""


@click.command("delete", short_help="Delete one session with everything in it.", epilog=_EPILOG)
@click.argument("ident", metavar="SESSION")
@click.option("--dry-run", is_flag=True, help="Delete nothing; show what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@reading
def command(frame: Frame, ident: str, dry_run: bool, yes: bool) -> None:
    """Delete one session with its calls, steps, events, messages and rewards, and content that nothing else refers to.

    SESSION is its id or a unique prefix. It is deleted from every store given. For readable stores: SQLite, JSON Lines,
    Postgres, ClickHouse.
    """
    summary = _session(frame, ident)
    session_id = summary.session.session_id
    if dry_run:
        _say(frame, f"{_described(summary)} would be deleted.", {"session_id": session_id, "dry_run": True})
        return
    if not yes:
        _confirm(summary)
    removed = _removed(frame, session_id)
    text = (
        f"{clean(session_id)}: {plural(removed.calls, 'call')}, {count(removed.others)} steps and events, "
        f"{plural(removed.contents, 'content')} deleted."
    )
    _say(frame, text, {"session_id": session_id} | msgspec.structs.asdict(removed))


def _session(frame: Frame, ident: str) -> SessionSummary:
    with frame.reader() as reader:
        found = reader.session(ident)
    if found is None:
        frame.no_match(f"No session {clean(ident)} in {safe_name(frame.store)}, or several ids begin so.")
    return found


def _described(summary: SessionSummary) -> str:
    session = summary.session
    name = f" ({clean(session.name)})" if session.name else ""
    inside = f"{plural(summary.calls, 'call')} and {plural(summary.timesteps, 'timestep')}"
    return f"Session {clean(session.session_id)}{name} of {local_time(session.start_ns)} with {inside}"


def _confirm(summary: SessionSummary) -> None:
    """Ask for confirmation on a terminal. Raises UsageError without a terminal, Abort for "no"."""
    if not _is_terminal():
        raise click.UsageError("Not a terminal, so nobody can confirm: add --yes.")
    click.confirm(f"{_described(summary)} will be deleted. Continue?", abort=True, err=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _removed(frame: Frame, session_id: str) -> Removed:
    """Deliver what waits for each store, delete the session from all of them, and return the counts of the first."""
    frame.deliver(to_all=True)
    try:
        found = [delete_session(url, session_id) for url in split_urls(frame.store)]
    except SettingError as error:
        raise usage_error(error) from error
    except store_errors() as error:
        frame.fail(str(error))
    return found[0]


def _say(frame: Frame, text: str, row: dict[str, object]) -> None:
    if frame.json:
        frame.emit(row)
    else:
        frame.screen.paragraph(text)
