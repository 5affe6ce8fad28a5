"""`callspan stats`: sums over calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Final

import click
import msgspec
from click.shell_completion import CompletionItem
from rich.console import Group
from rich.text import Text

from callspan.cli.command_context import CommandContext, reading
from callspan.cli.filter_options import TextType, call_options, resolve_session
from callspan.cli.paging import TABLE_ROWS, page_options, say_more
from callspan.cli.run import did_you_mean
from callspan.cli.safe_text import clean, whole_characters
from callspan.cli.screen import Column, fitted, styled
from callspan.cli.unknown_costs import why_unknown
from callspan.formatting import UNKNOWN, count, exact, milliseconds, money, tokens
from callspan.safe_urls import safe_name
from callspan.stores.base import Summary
from callspan.stores.filters import CallFilter
from callspan.stores.sums import GROUPINGS, META, checked_grouping

_COLUMNS: Final = (
    Column("calls", right=True),
    Column("errors", right=True, rank=5),
    Column("retries", right=True, rank=7),
    Column("tokens", right=True, rank=1),
    Column("cost", right=True, rank=2),
    Column("p50", right=True, rank=3),
    Column("p95", right=True, rank=4),
    Column("first token", right=True, rank=6),
)
_EXPLAINED: Final = 1_000
"""Newest calls of which the reasons for unknown costs are counted."""
_EPILOG: Final = """\b
Examples:
  callspan stats
  callspan stats --by session --since 1d
  callspan stats --by meta:variant --experiment prompts-2
  callspan stats --by day --model gpt-5-mini --json
  callspan stats --by hour --rate-limited --since 1d
  callspan stats --by user,model --since 1d

A dash means unknown, never zero: a provider that reports no tokens, a model without a price."""


class By(TextType):
    """What to group by: fields, or `meta:KEY`; several are separated by commas."""

    def __init__(self, groupings: Sequence[str] = GROUPINGS, check: Callable[[str], str] = checked_grouping) -> None:
        """`check` returns a valid grouping, and raises ValueError for another."""
        self.name = "|".join((*groupings, f"{META}KEY"))
        self._groupings, self._check = groupings, check

    def convert(  # type: ignore[override]
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        """Return the groupings."""
        return [self._grouping(one, param, ctx) for one in self._split(str(whole_characters(str(value))))]

    def _grouping(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return self._check(text)
        except ValueError:
            meant = did_you_mean(text, self._groupings)
            self.fail(f"{clean(text)!r} is not one of {', '.join(self._groupings)}, {META}KEY.{meant}", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the groupings that begin with the incomplete word."""
        del ctx, param
        before, comma, word = incomplete.rpartition(",")
        return [CompletionItem(before + comma + one) for one in (*self._groupings, META) if one.startswith(word)]

    def _split(self, text: str) -> list[str]:
        """Return the parts between commas. A key of metadata may have commas, too."""
        found: list[str] = []
        for part in map(str.strip, text.split(",")):
            if found and found[-1].startswith(META) and part not in self._groupings and not part.startswith(META):
                found[-1] += f",{part}"
            else:
                found.append(part)
        return found


@click.command("stats", short_help="Show sums per model, session, day, user or metadata.", epilog=_EPILOG)
@call_options
@click.option(
    "--by",
    type=By(),
    multiple=True,
    default=("model",),
    show_default=True,
    help="Group by; for two keys: user,model.",
)
@page_options("groups")
@reading
def stats_command(
    context: CommandContext, which: CallFilter, by: tuple[list[str], ...], limit: int | None, offset: int
) -> None:
    """Sum calls, errors, tokens and cost, with latency (p50, p95), time to first token and retries."""
    keys = [*chain.from_iterable(by)]
    with context.reader() as reader:
        which = resolve_session(context, reader, which)
        found = list(reader.summary(keys, which))
        shown = found[offset:][: limit or TABLE_ROWS]
        newest = msgspec.structs.replace(which, limit=_EXPLAINED, content="none")
        reasons = [] if context.json or not any(_unpriced(shown)) else list(why_unknown(reader.calls(newest)))
    if context.json:
        page = found[offset:][:limit]
        context.emit_all(dict(zip(keys, summary.keys, strict=True)) | _row(summary) for summary in page)
    if not shown:
        context.no_match(f"No such calls in {safe_name(context.store)}.")
    if not context.json:
        context.screen.print(_table(keys, shown, context.screen.console.width))
        for line in _unpriced(shown):
            context.screen.line((line, "yellow"))
        for why in reasons:
            context.screen.paragraph(why, "dim")
        say_more(context, len(found) - offset - len(shown), offset + len(shown))


def _row(summary: Summary) -> dict[str, object]:
    row = msgspec.structs.asdict(summary)
    del row["keys"]
    return row | {"cost_usd": exact(summary.cost_usd)}


def _table(by: Sequence[str], found: list[Summary], width: int) -> Group:
    columns = (*(Column(one, shrinks=True, least=14) for one in by), *_COLUMNS)
    return fitted(columns, (_cells(summary) for summary in found), width)


def _cells(summary: Summary) -> list[Text | str]:
    return [
        *(styled((key or UNKNOWN, "cyan")) for key in summary.keys),
        count(summary.calls),
        styled((count(summary.errors), "red" if summary.errors else "")),
        count(summary.retries),
        tokens(summary.input_tokens, summary.output_tokens),
        money(summary.cost_usd),
        milliseconds(summary.p50_ms),
        milliseconds(summary.p95_ms),
        milliseconds(summary.ttft_p50_ms),
    ]


def _unpriced(found: list[Summary]) -> Iterator[str]:
    """Report sums of cost that omit calls without a price. Calls that failed without tokens are not reported."""
    for summary in found:
        unknown = summary.calls_without_cost
        if unknown > summary.errors or (summary.cost_usd is None and summary.input_tokens is not None):
            name = ", ".join(key or UNKNOWN for key in summary.keys)
            yield f"{name}: {unknown:,} of {summary.calls:,} calls have no known cost"
