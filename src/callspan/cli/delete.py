"""`callspan delete`: erase records, by id, filter or age, from SQLite, Postgres and the spool."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Literal, TypeAlias

import click
import msgspec

from callspan import erase
from callspan.cli.command_context import Command, CommandContext, store_errors
from callspan.cli.filters import filters
from callspan.cli.json_rows import CUT
from callspan.cli.terminal.safe_text import clean, clean_lines
from callspan.cli.values import MOMENT
from callspan.erasing import ErasureCounts, Receipt
from callspan.formatting import plural
from callspan.records import CallRecord
from callspan.stores import CallFilter, ReadableStore, Reader, SqlStore, find_store, id_of, split_urls

_Kind: TypeAlias = Literal["session", "call"]
_EPILOG: Final = """\
callspan delete --user u1 --dry-run
callspan delete --older-than 30d --yes"""
_COUNTED: Final = ("session", "call", "timestep", "event", "message", "reward")
_BY_HAND: Final = "callspan deletes nothing there; run:"
_NOTHING: Final = "nothing can be deleted there: sent records cannot be recalled."
_COPIES: Final = "pages in use may hold copies of some bytes; callspan delete --vacuum rewrites the file."


@click.command(
    "delete",
    cls=Command,
    page="Stores: Deleting",
    filters=filters("ids", "session_id", scores=False),
    short_help="Erase sessions, calls, a user, or the selection of a filter.",
    epilog=_EPILOG,
)
@click.argument("sessions", metavar="[SESSION]...", nargs=-1)
@click.option("--call", "calls", metavar="ID", multiple=True, help="Only this call; may be repeated.")
@click.option("--older-than", "older_ns", type=MOMENT, metavar="TIME", help="Records that ended before: 30d, ISO 8601.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; count the records.")
@click.option("--vacuum", is_flag=True, help="Rewrite SQLite files, without copies of deleted bytes.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete_command(
    context: CommandContext,
    selection: CallFilter,
    sessions: Sequence[str],
    calls: Sequence[str],
    older_ns: int | None,
    dry_run: bool,
    vacuum: bool,
    yes: bool,
) -> None:
    """Erase sessions and calls from SQLite, Postgres, ClickHouse and the spool.

    Filters of calls (--model, --failed, ...) erase only calls. For other stores it prints what to do by hand.
    --vacuum alone deletes nothing, but rewrites the files.
    Exit code 1 if records remain, or no store has a given id.
    """
    is_empty = not (sessions or calls) and older_ns is None and selection == CallFilter()
    if is_empty and vacuum and not dry_run:
        _rewrite(context)
        return
    if is_empty:
        raise click.UsageError("Say what to delete: SESSION, --call, --user or another filter, or --older-than.")
    if older_ns is not None and (sessions or calls or selection != CallFilter()):
        raise click.UsageError("--older-than cannot be combined with SESSION, --call or a filter; use --until.")
    session_ids, call_ids = _full_ids(context, "session", sessions), _full_ids(context, "call", calls)
    act = partial(erase, context.store, selection, sessions=session_ids or None, calls=call_ids or None, vacuum=vacuum)
    act = partial(act, older_than_ns=older_ns)
    if not (dry_run or yes):
        planned = act(dry_run=True)
        _require_store(context, planned)
        if not _erases_nothing(planned):
            _confirm(clean_lines("\n".join(_lines(planned))))
    _show(context, act(dry_run=dry_run))


def _rewrite(context: CommandContext) -> None:
    """Rewrite the SQLite files without copies of deleted bytes. Ends the command with exit code 1 if one is in use."""
    reasons = {}
    for store in map(find_store, split_urls(context.store)):
        if isinstance(store, SqlStore) and store.is_file:
            reasons[store.name] = store.rewrite()
    if context.json:
        context.emit({"rewritten": [name for name, reason in reasons.items() if reason is None], "left": reasons})
    else:
        for name, reason in reasons.items():
            context.screen.paragraph(f"{name}: {'rewritten' if reason is None else f'left: {reason}'}.")
    if not reasons or any(reasons.values()):
        raise click.exceptions.Exit(1)


def _full_ids(context: CommandContext, kind: _Kind, ids: Sequence[str]) -> list[str]:
    """Return the full ids of sessions or calls, each of the first store that has it; some may be cut as lists do.

    Ends the command if one matches none.
    """
    is_cut_by_ident = {ident.rstrip(CUT): ident.endswith(CUT) for ident in ids}
    full_ids: dict[str, str] = {}
    urls = [url for url in split_urls(context.store) if isinstance(find_store(url), ReadableStore)]
    for url in urls:
        if unresolved := [ident for ident in is_cut_by_ident if ident not in full_ids]:
            with CommandContext(url, json=context.json).reader() as reader:
                for ident in unresolved:
                    if url == urls[-1] or reader.is_erased(kind, ident) or reader.ids_like(kind, ident):
                        full_ids[ident] = _full_id(context, reader, kind, ident, is_cut=is_cut_by_ident[ident])
    return [full_ids.get(ident, ident) for ident in is_cut_by_ident]


def _full_id(context: CommandContext, reader: Reader, kind: _Kind, ident: str, *, is_cut: bool) -> str:
    if reader.is_erased(kind, ident):  # it may also be a prefix of other ids
        return ident
    session_or_call = context.named(reader, ident)
    full_id = id_of(session_or_call)
    if isinstance(session_or_call, CallRecord) != (kind == "call") or not full_id.startswith(ident):
        context.no_match(f"{ident} is no {kind}: it names {full_id}.")
    if full_id != ident and not is_cut:
        context.no_match(f"{ident} is no {kind}, but {full_id} begins with it: say so by {ident}{CUT}")
    return full_id


def _erases_nothing(receipt: Receipt) -> bool:
    return receipt.is_complete and not any(counts.total for counts in receipt.stores)


def _require_store(context: CommandContext, receipt: Receipt) -> None:
    """End the command if it has found nothing because the store is missing or empty."""
    if not (receipt.by_hand or any(counts.total for counts in receipt.stores)):
        with suppress(*store_errors()), context.reader():
            pass  # it ends the command with the store's reason; the receipt has other errors


def _show(context: CommandContext, receipt: Receipt) -> None:
    """Print a receipt. Ends the command with exit code 1 if records remain or a store does not exist."""
    _require_store(context, receipt)
    if context.json:
        context.emit(msgspec.to_builtins(receipt) | {"complete": receipt.is_complete})
    else:
        for line in _lines(receipt):
            context.screen.paragraph(line)
        for name, statements in receipt.by_hand.items():
            context.screen.paragraph(f"{name}: {_BY_HAND if statements else _NOTHING}")
            for statement in statements:
                click.echo(clean(statement))
    if not receipt.is_complete:
        raise click.exceptions.Exit(1)


def _lines(receipt: Receipt) -> list[str]:
    verb = "would be deleted" if receipt.dry_run else "deleted"
    stores = receipt.stores
    lines = [f"{store.store}: {_counts(store)} {verb}." for store in stores if store.total or store.left is None]
    lines += [f"{store.store}: left: {store.left}." for store in stores if store.left is not None]
    lines += [f"{store.store}: {_COPIES}" for store in stores if store.copies]
    return lines


def _counts(erased: ErasureCounts) -> str:
    numbers = {word: getattr(erased, f"{word}s") for word in _COUNTED}
    return ", ".join(plural(number, word) for word, number in numbers.items() if number) or "nothing"


def _confirm(question: str) -> None:
    """Ask for confirmation on a terminal. Raises UsageError without a terminal, Abort for "no"."""
    if not _is_terminal():
        raise click.UsageError("Not a terminal, so the deletion cannot be confirmed: add --yes.")
    click.confirm(f"{question}\nContinue?", abort=True, err=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty()
