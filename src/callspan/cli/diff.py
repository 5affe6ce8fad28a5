"""`callspan diff A B`: two calls or two sessions side by side, and where they first differ."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby
from typing import Final

import click
import msgspec
from rich.padding import Padding
from rich.text import Text

from callspan.cli.command_context import CommandContext, reading
from callspan.cli.filter_options import Rows
from callspan.cli.safe_text import clean, clean_lines
from callspan.cli.screen import Column, Screen, fitted, styled
from callspan.comparison.diff import Diff, Fact, Pair, diff
from callspan.comparison.diff_text import STATUS_WORDS, against_text, first_difference_text, name_text, value_text
from callspan.comparison.sides import Side, read_side, text_of
from callspan.comparison.text_changes import Run, Unit
from callspan.formatting import plural
from callspan.stores.base import Reader, SessionSummary
from callspan.stores.named import named_by, why_unnamed

_LIMIT: Final = 1000
_AROUND: Final = 60
"""Characters of equal text that are shown on each side of a difference."""
_MARKS: Final = {"a": ("[-", "-]", "red"), "b": ("{+", "+}", "green"), "both": ("", "", "")}
_EPILOG: Final = """\b
Examples:
  callspan diff chat-8843 chat-8842          two sessions
  callspan diff 019aa0c1-77 019aa0c2 --all   two calls, with what is equal
  callspan diff 019aa0c1 019aa0c2 --lines --json"""


@click.command("diff", short_help="Compare two calls or two sessions.", epilog=_EPILOG)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--lines", is_flag=True, help="Compare texts by lines. Default: by words.")
@click.option("--all", "whole", is_flag=True, help="Show what is equal, too.")
@click.option("--limit", type=Rows(1), default=_LIMIT, help=f"Calls of each session. Default: {_LIMIT:,}.")
@reading
def diff_command(context: CommandContext, first: str, second: str, lines: bool, whole: bool, limit: int) -> None:
    """Compare two calls or two sessions: facts, parameters, tools, and messages by words or lines.

    A and B are ids as those of `callspan show`. Messages are aligned; ids of tool calls are no difference.
    """
    unit: Unit = "lines" if lines else "words"
    with context.reader() as reader:
        a, b = (_side(context, reader, ident, limit) for ident in (first, second))
    if a.kind != b.kind:
        raise click.UsageError(f"A is a {a.kind} and B a {b.kind}: name two calls or two sessions")
    found = diff(a, b, unit)
    if context.json:
        context.emit(_json(found))
        return
    with context.screen.paged():
        _print(context.screen, found, whole=whole)


def _side(context: CommandContext, reader: Reader, ident: str, limit: int) -> Side:
    named = named_by(reader, ident)
    if named is None:
        context.no_match(why_unnamed(reader, ident, context.store))
    if isinstance(named, SessionSummary) and named.calls > limit:
        its = f"{clean(named.session.session_id)}: only its first"
        click.echo(f"{its} {plural(limit, 'call')} of {named.calls:,}", err=True)
    return read_side(reader, named, limit)


def _json(found: Diff) -> dict[str, object]:
    value = msgspec.to_builtins(found, builtin_types=(Decimal, msgspec.Raw))
    section, place = found.first_difference or (None, None)
    value["first_difference"] = None if section is None else {"section": section, "place": place}
    return dict(value)


def _print(screen: Screen, found: Diff, *, whole: bool) -> None:
    for name, side in (("A", found.a), ("B", found.b)):
        screen.line((name, "bold"), "  ", (side.kind, "dim"), " ", (side.id, "cyan"))
    for heading, rows in (("", found.facts), ("parameters", found.parameters), ("tools", found.tools)):
        shown = [row for row in rows if whole or row.status != "same"]
        if shown:
            screen.print()
            columns = (Column(heading), Column("A", shrinks=True), Column("B", shrinks=True), Column("B against A"))
            screen.print(fitted(columns, map(_cells, shown), screen.console.width))
    for is_same, pairs in groupby(found.messages, key=lambda pair: pair.status == "same" and not whole):
        if is_same:
            screen.print()
            screen.line((f"{plural(len([*pairs]), 'message')} the same", "dim"))
            continue
        for pair in pairs:
            _print_message(screen, found, pair)
    screen.print()
    screen.paragraph(first_difference_text(found))


def _cells(row: Fact) -> list[Text | str]:
    style = "dim" if row.status == "same" else ""
    values = (value_text(row.name, row.a), value_text(row.name, row.b))
    return [styled((cell, style)) for cell in (name_text(row), *values, against_text(row))]


def _print_message(screen: Screen, found: Diff, pair: Pair) -> None:
    screen.print()
    screen.line((pair.role, "bold"), "  ", (STATUS_WORDS[pair.status], "dim"))
    text = Text()
    for start, body, end, style in _stretches(found, pair):
        text.append(clean_lines(f"{start}{body}{end}"), style=style or None)
    screen.print(Padding(text, (0, 0, 0, 2)))


def _stretches(found: Diff, pair: Pair) -> Iterator[tuple[str, str, str, str]]:
    """Yield what is printed of a message: before, text, behind, style; of long equal text only what is around."""
    if pair.status == "differs":
        last = len(pair.changes) - 1
        for place, run in enumerate(pair.changes):
            start, end, style = _MARKS[run.where]
            yield start, _around(run, place, last), end, style
        return
    only = found.b.messages[pair.b or 0] if pair.a is None else found.a.messages[pair.a]
    start, end, style = _MARKS[{"only_a": "a", "only_b": "b"}.get(pair.status, "both")]
    yield start, text_of(only), end, style


def _around(run: Run, place: int, last: int) -> str:
    if run.where != "both" or len(run.text) <= 3 * _AROUND:
        return run.text
    head = run.text[:_AROUND] if place else ""
    tail = run.text[-_AROUND:] if place < last else ""
    return f"{head} … {tail}"
