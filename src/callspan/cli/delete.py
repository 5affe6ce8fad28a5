"""`callspan delete` erases what its filters select, or what is old, from SQLite, Postgres and what waits on disk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import click
import msgspec

from callspan.cli.command_context import CommandContext, reading, store_errors, usage_error
from callspan.cli.filter_options import MOMENT, selecting
from callspan.cli.safe_text import clean
from callspan.erasing import Erased, Receipt, erase, whole_ids
from callspan.formatting import plural
from callspan.safe_urls import error_text, safe_name
from callspan.settings import SettingError
from callspan.stores.filters import CallFilter
from callspan.stores.urls import split_urls

_EPILOG: Final = """\b
Examples:
  callspan delete 019aa0c1-77
  callspan delete --user u1 --dry-run
  callspan delete --user u1 --yes --json
  callspan delete --tag trial --until 2026-01-01
  callspan delete --older-than 30d"""
_COUNTED: Final = ("session", "call", "timestep", "event", "message", "reward")
_BY_HAND: Final = "callspan deletes nothing there; run:"
_NOTHING: Final = "nothing can be deleted there: what it was sent cannot be taken back."
_COPIES: Final = "pages in use may hold copies of some bytes; delete --vacuum writes the file anew."


@click.command("delete", short_help="Erase sessions, calls, a user, whatever a filter selects.", epilog=_EPILOG)
@click.argument("ids", metavar="[SESSION]...", nargs=-1)
@click.option("--session", "sessions", metavar="ID", multiple=True, help="This session; may be repeated.")
@click.option("--call", "calls", metavar="ID", multiple=True, help="Only this call; may be repeated.")
@selecting
@click.option("--older-than", "older_ns", type=MOMENT, metavar="TIME", help="What ended before: 30d, 12h, ISO 8601.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; show what would be deleted.")
@click.option("--vacuum", is_flag=True, help="Write SQLite files anew, so that no copy of a byte is left in them.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@reading
def delete_command(  # noqa: PLR0913, PLR0917 - one for each option
    context: CommandContext,
    which: CallFilter,
    ids: Sequence[str],
    sessions: Sequence[str],
    calls: Sequence[str],
    older_ns: int | None,
    dry_run: bool,
    vacuum: bool,
    yes: bool,
) -> None:
    """Erase sessions and calls from SQLite and Postgres, and from what waits for any store given on disk.

    A session (its id or a unique prefix) that fits the filters goes with its calls, steps, events, messages and
    rewards, each call that fits by itself; with a filter for calls (--model, --error, --text, ...) only calls go.
    What arrives later of what was erased is not stored, except for
    --older-than, which takes sessions by their end. For other stores it prints what to run. Exit code 1 if something is
    left, or no store has or had a given id; 0 with a receipt where nothing fits the filters.
    """
    if not (ids or sessions or calls or older_ns) and which == CallFilter():
        raise click.UsageError("Say what to delete: SESSION, --call, --user or another filter, or --older-than.")
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
    act = partial(erase, context.store, which, sessions=chosen or None, calls=single or None, older_than_ns=older_ns)
    act = partial(act, vacuum=vacuum)
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
    if _fits_nothing(receipt) and not receipt.by_hand:
        with context.reader():
            pass  # says why there is no store
    if context.json:
        context.emit(msgspec.to_builtins(receipt) | {"complete": receipt.is_complete})
    else:
        for line in _lines(receipt):
            context.screen.paragraph(line)
        for name, statements in receipt.by_hand.items():
            context.screen.paragraph(f"{clean(name)}: {_BY_HAND if statements else _NOTHING}")
            for one in statements:
                click.echo(clean(one))
    if not receipt.is_complete:
        raise click.exceptions.Exit(1)


def _lines(receipt: Receipt) -> list[str]:
    done = "would be deleted" if receipt.dry_run else "deleted"
    lines = [f"{clean(one.store)}: {_counts(one)} {done}." for one in receipt.stores if one.total or one.left is None]
    lines += [f"{clean(one.store)}: left: {clean(one.left)}." for one in receipt.stores if one.left is not None]
    lines += [f"{clean(one.store)}: {_COPIES}" for one in receipt.stores if one.copies]
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
