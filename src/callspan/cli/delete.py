"""`callspan delete SESSION` deletes one session with everything in it, `callspan prune` old records."""

from __future__ import annotations

import sys
from typing import Final

import click
import msgspec

from callspan.cli.command_context import CommandContext, reading, store_errors, usage_error
from callspan.cli.filters import MOMENT
from callspan.cli.progress import progress
from callspan.cli.safe_text import clean
from callspan.cli.ship import spool_of
from callspan.formatting import count, iso, local_time, plural
from callspan.safe_urls import error_text, safe_name
from callspan.settings import SettingError
from callspan.stores.base import CallFilter, DeletionResult, DeletionScope, SessionSummary
from callspan.stores.retention import delete_session, erasable, prune, remove_uploads
from callspan.stores.urls import split_urls

_EPILOG: Final = """\b
Examples:
  callspan delete 019aa0c1-77
  callspan delete conversation-7 --yes
  callspan sessions --user u1 --json | jq -r '.[].session_id' | xargs -n1 callspan delete --yes"""
_WORTH_SAYING: Final = 10**7
"""Free bytes of a file from which on they are mentioned."""
_PRUNE_EPILOG: Final = """\b
Examples:
  callspan prune --older-than 30d
  callspan prune --older-than 30d --dry-run
  callspan prune --older-than 2026-01-01"""


@click.command("delete", short_help="Delete one session with everything in it.", epilog=_EPILOG)
@click.argument("ident", metavar="SESSION")
@click.option("--dry-run", is_flag=True, help="Delete nothing; show what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@reading
def delete_command(context: CommandContext, ident: str, dry_run: bool, yes: bool) -> None:
    """Delete one session with its calls, steps, events, messages and rewards, and content that nothing else refers to.

    SESSION is its id or a unique prefix. It is deleted from every store given. For readable stores: SQLite, JSON Lines,
    Postgres, ClickHouse.
    """
    summary = _session(context, ident)
    session_id = summary.session.session_id
    if dry_run:
        _say(context, f"{_described(summary)} would be deleted.", {"session_id": session_id, "dry_run": True})
        return
    if not yes:
        _confirm(summary)
    removed = _removed(context, session_id)
    text = (
        f"{clean(session_id)}: {plural(removed.calls, 'call')}, {count(removed.others)} steps and events, "
        f"{plural(removed.contents, 'content')} deleted."
    )
    _say(context, text, {"session_id": session_id} | msgspec.structs.asdict(removed))


def _session(context: CommandContext, ident: str) -> SessionSummary:
    with context.reader() as reader:
        found = reader.session(ident)
    if found is None:
        context.no_match(f"No session {clean(ident)} in {safe_name(context.store)}, or several ids begin so.")
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


def _removed(context: CommandContext, session_id: str) -> DeletionResult:
    """Deliver what waits for each store, delete the session from all of them, and return the counts of the first."""
    context.deliver(to_all=True)
    try:
        urls = split_urls(context.store)
        for url in urls:
            erasable(url)  # before anything is deleted
        found = [delete_session(url, session_id) for url in urls]
        remove_uploads(spool_of(context.store), DeletionScope(session_id=session_id))
    except SettingError as error:
        raise usage_error(error) from error
    except store_errors() as error:
        context.fail(error_text(error))
    return found[0]


def _say(context: CommandContext, text: str, row: dict[str, object]) -> None:
    if context.json:
        context.emit(row)
    else:
        context.screen.paragraph(text)


@click.command("prune", short_help="Delete old records.", epilog=_PRUNE_EPILOG)
@click.option("--older-than", "older_ns", type=MOMENT, metavar="TIME", required=True, help="30d, 12h, or ISO 8601.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; show how much would be deleted.")
@reading
def prune_command(context: CommandContext, older_ns: int, dry_run: bool) -> None:
    """Delete calls and sessions from before a time, and content that nothing else refers to.

    A session is deleted as a whole, by its end. For readable stores: SQLite, JSON Lines, Postgres, ClickHouse.
    """
    if dry_run:
        _preview(context, older_ns)
        return
    with context.reader():
        pass  # delivers the waiting records and reports those that still wait
    try:
        with progress("pruning", shown=not context.json):
            removed = prune(split_urls(context.store)[0], older_ns)
            remove_uploads(spool_of(context.store), DeletionScope(older_than_ns=older_ns))
    except SettingError as error:
        raise usage_error(error) from error
    except store_errors() as error:
        context.fail(error_text(error))
    if context.json:
        context.emit(removed)
        return
    context.screen.paragraph(
        f"From before {iso(older_ns)}: {count(removed.sessions)} sessions, {count(removed.calls)} calls, "
        f"{count(removed.others)} steps and events, {count(removed.contents)} contents deleted."
    )
    if (removed.free_bytes or 0) >= _WORTH_SAYING:
        context.screen.paragraph(
            f"{(removed.free_bytes or 0) // 10**6:,} MB of the file are free for new records; "
            "SQLite's VACUUM gives them back to the disk."
        )


def _preview(context: CommandContext, older_ns: int) -> None:
    """Print how many sessions and calls would be deleted."""
    with context.reader() as reader, progress("sessions", shown=not context.json) as tell:
        calls, sessions = reader.count_calls(CallFilter(until_ns=older_ns)), 0
        for number, summary in enumerate(reader.sessions(), 1):
            tell(number)
            session = summary.session
            ended = session.end_ns if session.end_ns is not None else session.start_ns
            if ended is not None and ended < older_ns:
                sessions += 1
                # A session's calls are deleted with it, even those that began after its end.
                late = summary.last_ns is not None and summary.last_ns >= older_ns
                its_own = CallFilter(session_id=session.session_id, since_ns=older_ns)
                calls += reader.count_calls(its_own) if late else 0
    if context.json:
        context.emit({"sessions": sessions, "calls": calls, "dry_run": True})
        return
    context.screen.paragraph(
        f"From before {iso(older_ns)}: {count(sessions)} sessions and {count(calls)} calls would be deleted."
    )
