"""`callspan prune`: deletes old records."""

from __future__ import annotations

from typing import Final

import click

from callspan.cli.filters import MOMENT
from callspan.cli.frame import Frame, progress, reading, store_errors, usage_error
from callspan.formatting import count, iso
from callspan.settings import SettingError
from callspan.stores.base import CallFilter
from callspan.stores.urls import split_urls

_WORTH_SAYING: Final = 10**7
"""Free bytes of a file from which on they are mentioned."""
_EPILOG: Final = """\b
Examples:
  callspan prune --older-than 30d
  callspan prune --older-than 30d --dry-run
  callspan prune --older-than 2026-01-01"""


@click.command("prune", short_help="Delete old records.", epilog=_EPILOG)
@click.option("--older-than", "older_ns", type=MOMENT, metavar="TIME", required=True, help="30d, 12h, or ISO 8601.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; show how much would be deleted.")
@reading
def command(frame: Frame, older_ns: int, dry_run: bool) -> None:
    """Delete calls and sessions from before a time, and content that nothing else refers to.

    A session is deleted as a whole, by its end. For readable stores: SQLite, JSON Lines, Postgres, ClickHouse.
    """
    from callspan.stores.retention import prune

    if dry_run:
        _preview(frame, older_ns)
        return
    with frame.reader():
        pass  # delivers the waiting records and reports those that still wait
    try:
        with progress(frame, "pruning"):
            removed = prune(split_urls(frame.store)[0], older_ns)
    except SettingError as error:
        raise usage_error(error) from error
    except store_errors() as error:
        frame.fail(str(error))
    if frame.json:
        frame.emit(removed)
        return
    frame.screen.paragraph(
        f"From before {iso(older_ns)}: {count(removed.sessions)} sessions, {count(removed.calls)} calls, "
        f"{count(removed.others)} steps and events, {count(removed.contents)} contents deleted."
    )
    if (removed.free_bytes or 0) >= _WORTH_SAYING:
        frame.screen.paragraph(
            f"{(removed.free_bytes or 0) // 10**6:,} MB of the file are free for new records; "
            "SQLite's VACUUM gives them back to the disk."
        )


def _preview(frame: Frame, older_ns: int) -> None:
    """Print how many sessions and calls would be deleted."""
    with frame.reader() as reader, progress(frame, "sessions") as tell:
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
    if frame.json:
        frame.emit({"sessions": sessions, "calls": calls, "dry_run": True})
        return
    frame.screen.paragraph(
        f"From before {iso(older_ns)}: {count(sessions)} sessions and {count(calls)} calls would be deleted."
    )
