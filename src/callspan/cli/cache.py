"""`callspan cache`: what calls read from their provider's prompt cache, and why they did not read more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import partial
from typing import Final

import click
import msgspec

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.filters import filters
from callspan.cli.json_rows import short_ids
from callspan.cli.paging import TABLE_ROWS, limit_option, print_page
from callspan.cli.prices import pricer_of_now
from callspan.cli.terminal.screen import Cell, Column, least
from callspan.formatting import count, duration, exact, excerpt, plural
from callspan.stores import CacheUse, CallFilter, exact_sum, known_sum

_EPILOG: Final = """\
callspan cache --since 1d                       what broke the prefix of the calls of a day
callspan cache chat-8843                        what each call of a session read"""
_EXPECTED: Final = frozenset({"hit", "first"})


class _Cause(msgspec.Struct):
    """The calls that read too little for the same reason."""

    first: CacheUse
    """The earliest of them."""
    calls: int = 0
    lost_tokens: int | None = None
    lost_usd: Decimal | None = None
    is_partial: bool = False
    """Whether some of them have no price."""
    is_estimated: bool = False
    """Whether a cost among them is an estimate."""

    def add(self, use: CacheUse) -> None:
        """Count a call."""
        self.calls += 1
        self.lost_tokens = known_sum((self.lost_tokens, use.lost_tokens))
        self.lost_usd = exact_sum((self.lost_usd, use.lost_usd))
        self.is_partial |= bool(use.lost_tokens) and use.lost_usd is None
        self.is_estimated |= use.lost_usd_estimated
        if use.start_ns < self.first.start_ns:
            self.first = use


@click.command(
    "cache",
    cls=Command,
    page="Prompt cache",
    filters=filters("session_id", scores=False),
    short_help="Say why the prompt cache missed.",
    epilog=_EPILOG,
)
@click.argument("session", metavar="[SESSION]", default="")
@click.option("--no-text", is_flag=True, help="Leave out what the requests say.")
@limit_option
def cache_command(
    context: CommandContext, selection: CallFilter, session: str, no_text: bool, limit: int | None
) -> None:
    """Sum what calls read from the prompt cache, and what broke the prefix of the others; of a SESSION, list its calls.

    A request is compared with the one before it in its session, in the order of the cache: tools, instructions,
    messages. Lost tokens are those that the call before had left and that were not read.
    """
    selection = msgspec.structs.replace(selection, session_id=session or None)
    with context.reader() as reader:
        uses: Iterable[CacheUse] = reader.prompt_cache(context.resolved(reader, selection), pricer_of_now().priced)
        if no_text:
            uses = (msgspec.structs.replace(use, before=None, after=None) for use in uses)
        if session:
            table = partial(_print_calls, context)
            has_calls = print_page(context, uses, limit, json_rows=partial(map, cache_row), table=table)
        else:
            has_calls = _report(context, uses, limit)
        if not has_calls:
            context.no_match(f"No such calls in {context.store_name}.")


def cache_row(use: CacheUse) -> dict[str, object]:
    """Return what a call read as `--json` prints it."""
    return msgspec.structs.asdict(use) | {"lost_usd": exact(use.lost_usd)}


def _report(context: CommandContext, uses: Iterable[CacheUse], limit: int | None) -> bool:
    """Print the sums over calls and the causes of what was lost; return whether there is any call."""
    calls = silent = stated = read = 0
    causes: dict[str, _Cause] = {}
    for use in uses:
        calls += 1
        if use.read_tokens is None or use.input_tokens is None:
            silent += 1
            continue
        stated, read = stated + use.input_tokens, read + use.read_tokens
        if use.lost_tokens or use.place is not None:
            causes.setdefault(use.cause, _Cause(use)).add(use)
    rows = sorted(causes.values(), key=lambda row: (row.lost_tokens or 0, row.calls), reverse=True)
    lost, usd = known_sum(row.lost_tokens for row in rows), exact_sum(row.lost_usd for row in rows)
    is_estimated = any(row.is_estimated for row in rows)
    if context.json:
        sums = {"calls": calls, "calls_that_state_nothing": silent, "input_tokens": stated, "read_tokens": read}
        sums_of_lost = {"lost_tokens": lost, "lost_usd": exact(usd), "lost_usd_estimated": is_estimated}
        context.emit(sums | sums_of_lost | {"causes": [*map(_cause_row, rows[:limit])]})
        return calls > 0
    screen = context.screen
    cost = _cost(usd, is_partial=any(row.is_partial for row in rows), is_estimated=is_estimated)
    if stated:
        more = f"; {lost:,} more could have been: {cost}" if lost else ""
        screen.paragraph(
            f"{read:,} of {stated:,} input tokens were read from the cache ({100 * read / stated:.0f} %){more}"
        )
    if rows:
        _print_causes(context, rows[: limit or TABLE_ROWS])
    if silent:
        screen.paragraph(f"not counted: {plural(silent, 'call')} whose usage does not mention the cache", "dim")
    return calls > 0


def _cause_row(row: _Cause) -> dict[str, object]:
    sums = {"calls": row.calls, "lost_tokens": row.lost_tokens, "lost_usd": exact(row.lost_usd)}
    sums |= {"lost_usd_estimated": row.is_estimated}
    return {"cause": row.first.cause, **sums, "first": cache_row(row.first)}


def _print_causes(context: CommandContext, rows: Sequence[_Cause]) -> None:
    ids = short_ids(row.first.call_id for row in rows)
    columns = (
        Column("calls", lambda row: count(row.calls), right=True, stays=True),
        Column("tokens", lambda row: count(row.lost_tokens), right=True),
        Column(
            "cost",
            lambda row: _cost(row.lost_usd, is_partial=row.is_partial, is_estimated=row.is_estimated),
            right=True,
        ),
        Column("what broke the prefix", lambda row: _cause(row.first)),
        Column("first seen", lambda row: (ids[row.first.call_id], "cyan")),
        Column("there", lambda row: _texts(row.first), shrinks=True),
    )
    context.screen.table(columns, rows)


def _print_calls(context: CommandContext, uses: Sequence[CacheUse]) -> None:
    ids = short_ids(use.call_id for use in uses)
    columns = (
        Column("call", lambda use: (ids[use.call_id], "cyan")),
        Column("model", lambda use: use.model, shrinks=True),
        Column("read", lambda use: f"{count(use.read_tokens)} of {count(use.input_tokens)}", right=True),
        Column("tokens", lambda use: count(use.lost_tokens or None), right=True, kind="score"),
        Column("cost", lambda use: _cost_of(use) if use.lost_tokens else None, right=True),
        Column("cache", lambda use: (_cause(use), "" if use.cause in _EXPECTED else "yellow")),
        Column("there", _texts, shrinks=True, kind="output"),
    )
    context.screen.table(columns, uses)


def _cause(use: CacheUse) -> str:
    """Return the cause, how sure it is, and what the provider says."""
    late = f" after {duration(use.since_previous_ns)}" if use.cause == "expired" else ""
    doubt = "" if use.is_certain or use.cause == "unknown" else " perhaps"
    return f"{use.cause}{late}{doubt}" + (f" (provider: {use.stated})" if use.stated else "")


def _cost(usd: Decimal | None, *, is_partial: bool, is_estimated: bool) -> str:
    """Return an amount of money; a partial one as `at least`, and marked if it is an estimate."""
    return least(usd, is_partial=is_partial) + (", estimated" if is_estimated else "")


def _cost_of(use: CacheUse) -> str:
    return _cost(use.lost_usd, is_partial=False, is_estimated=use.lost_usd_estimated)


def _texts(use: CacheUse) -> Cell:
    """Return the place of the first difference, with both texts around it."""
    if use.place is None:
        return None
    texts = " → ".join(f'"{excerpt(text)}"' for text in (use.before, use.after) if text is not None)
    return f"{use.place}: {texts}" if texts else use.place, "dim"


def cache_line(use: CacheUse) -> str | None:
    """Return what a call read in one line; None if its usage does not state it."""
    if use.read_tokens is None:
        return None
    line = f"{use.read_tokens:,} of {count(use.input_tokens)} tokens"
    if use.cause in _EXPECTED:
        return line
    at = "" if use.place is None else f" at {use.place}"
    if use.before is not None and use.after is not None:
        at = f" at byte {use.at_byte:,} of {use.place}"
    since = "" if use.previous_call_id is None else f" since {use.previous_call_id}"
    lost = f", {use.lost_tokens:,} lost: {_cost_of(use)}" if use.lost_tokens else ""
    return f"{line}; {_cause(use)}{at}{since}{lost}"
