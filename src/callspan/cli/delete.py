"""`callspan delete` erases what its filters select from every store given, `callspan prune` deletes old records."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import click
import msgspec

from callspan.cli.command_context import CommandContext, reading, store_errors, usage_error
from callspan.cli.filter_options import MOMENT, selecting
from callspan.cli.progress import progress
from callspan.cli.safe_text import clean
from callspan.erasing import Erased, Receipt, erase, whole_ids
from callspan.formatting import count, iso, plural
from callspan.safe_urls import error_text, safe_name
from callspan.settings import SettingError
from callspan.stores.base import CallFilter
from callspan.stores.retention import prune
from callspan.stores.urls import split_urls

_EPILOG: Final = """\b
Examples:
  callspan delete 019aa0c1-77
  callspan delete --user u1 --dry-run
  callspan delete --user u1 --everywhere --yes --json
  callspan delete --tag trial --until 2026-01-01"""
_SHOWN: Final = 10
_COUNTED: Final = ("session", "call", "timestep", "event", "message", "reward", "content")
_WORTH_SAYING: Final = 10**7
"""Free bytes of a file from which on they are mentioned."""
_PRUNE_EPILOG: Final = """\b
Examples:
  callspan prune --older-than 30d
  callspan prune --older-than 30d --dry-run
  callspan prune --older-than 2026-01-01"""


@click.command("delete", short_help="Erase sessions, calls, a user, whatever a filter selects.", epilog=_EPILOG)
@click.argument("ids", metavar="[SESSION]...", nargs=-1)
@click.option("--session", "sessions", metavar="ID", multiple=True, help="This session; may be repeated.")
@click.option("--call", "calls", metavar="ID", multiple=True, help="Only this call; may be repeated.")
@selecting
@click.option("--everywhere", is_flag=True, help="Also calls of others whose requests hold a message of these users.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; show what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@reading
def delete_command(
    context: CommandContext,
    which: CallFilter,
    ids: Sequence[str],
    sessions: Sequence[str],
    calls: Sequence[str],
    everywhere: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Erase sessions and calls from every store given, from what waits for it on disk, and from batches.

    A session (its id or a unique prefix) that fits the filters goes with its calls, steps, events, messages and
    rewards, each call that fits by itself; with a filter for calls (--model, --error, --text, ...) only calls go.
    Content goes that nothing else refers to. What arrives later of what was erased is not stored. Exit code 1 if
    something is left, or no store has or had a given id; 0 with a receipt where nothing fits the filters.
    """
    if not (ids or sessions or calls) and which == CallFilter():
        raise click.UsageError("Say what to delete: SESSION, --call, --user or another filter.")
    context.deliver(to_all=True)
    try:
        chosen, single = whole_ids(context.store, (*ids, *sessions), calls)
    except KeyError as error:
        kind, ident = error.args
        context.no_match(f"No {kind} {clean(ident)} in {_names(context)}, or several ids begin so.")
    except SettingError as error:
        raise usage_error(error) from error
    except store_errors() as error:
        context.fail(error_text(error))
    act = partial(erase, context.store, which, sessions=chosen or None, calls=single or None, everywhere=everywhere)
    try:
        _delete(context, act, dry_run=dry_run, yes=yes)
    except SettingError as error:
        raise usage_error(error) from error


def _delete(context: CommandContext, act: Callable[..., Receipt], *, dry_run: bool, yes: bool) -> None:
    if dry_run or not yes:
        planned = act(dry_run=True)
        if dry_run:
            _show(context, planned)
            return
        if not _fits_nothing(planned):
            _confirm("\n".join(_lines(planned)))
    _show(context, act())


def _fits_nothing(receipt: Receipt) -> bool:
    return receipt.is_complete and not any(one.total for one in receipt.stores)


def _names(context: CommandContext) -> str:
    return ", ".join(map(safe_name, split_urls(context.store)))


def _show(context: CommandContext, receipt: Receipt) -> None:
    """Print a receipt. Ends the command with exit code 1 if something is left, or there is no store."""
    if _fits_nothing(receipt):
        with context.reader():
            pass  # says why there is no store
    if context.json:
        context.emit(msgspec.to_builtins(receipt) | {"complete": receipt.is_complete})
    else:
        for line in _lines(receipt):
            context.screen.paragraph(line)
    if not receipt.is_complete:
        raise click.exceptions.Exit(1)


def _lines(receipt: Receipt) -> list[str]:
    done = "would be deleted" if receipt.dry_run else "deleted"
    lines = [f"{clean(one.store)}: {_counts(one)} {done}." for one in receipt.stores if one.total or one.left is None]
    lines += [f"{clean(one.store)}: left: {clean(one.left)}." for one in receipt.stores if one.left is not None]
    lines += [f"{clean(name)}: cannot erase: what it was sent cannot be taken back." for name in receipt.cannot_erase]
    if receipt.shared_by:
        some = ", ".join(map(clean, receipt.shared_by[:_SHOWN])) + (", …" if len(receipt.shared_by) > _SHOWN else "")
        which = plural(len(receipt.shared_by), "other call")
        stay = "--everywhere deletes these too" if receipt.dry_run else "these stay"
        ends = "these go too" if receipt.everywhere else stay
        lines.append(f"Messages of users in it stand in the requests of {which} ({some}); {ends}.")
    return lines


def _counts(erased: Erased) -> str:
    found = {word: getattr(erased, f"{word}s") for word in _COUNTED}
    return ", ".join(plural(number, word) for word, number in found.items() if number) or "nothing"


def _confirm(question: str) -> None:
    """Ask for confirmation on a terminal. Raises UsageError without a terminal, Abort for "no"."""
    if not _is_terminal():
        raise click.UsageError("Not a terminal, so the deletion cannot be confirmed: add --yes.")
    click.confirm(f"{question}\nContinue?", abort=True, err=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


@click.command("prune", short_help="Delete old records.", epilog=_PRUNE_EPILOG)
@click.option("--older-than", "older_ns", type=MOMENT, metavar="TIME", required=True, help="30d, 12h, or ISO 8601.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; show how much would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@reading
def prune_command(context: CommandContext, older_ns: int, dry_run: bool, yes: bool) -> None:
    """Delete calls and sessions from before a time, and content that nothing else refers to.

    A session is deleted as a whole, by its end. For readable stores: SQLite, JSON Lines, Postgres, ClickHouse.
    """
    if dry_run:
        _preview(context, older_ns)
        return
    if not yes:
        _confirm("{} sessions and {} calls".format(*map(count, _old(context, older_ns))) + " will be deleted.")
    with context.reader():
        pass  # delivers the waiting records and reports those that still wait
    try:
        with progress("pruning", shown=not context.json):
            removed = prune(split_urls(context.store)[0], older_ns)
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
    sessions, calls = _old(context, older_ns)
    if context.json:
        context.emit({"sessions": sessions, "calls": calls, "dry_run": True})
        return
    context.screen.paragraph(
        f"From before {iso(older_ns)}: {count(sessions)} sessions and {count(calls)} calls would be deleted."
    )


def _old(context: CommandContext, older_ns: int) -> tuple[int, int]:
    """Return how many sessions and calls are from before a time."""
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
    return sessions, calls
