"""`callspan show A B`: the differences of two calls or two sessions, and the first one."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby
from typing import Final

import click
import msgspec
from rich.padding import Padding
from rich.text import Text

from callspan.cli.command_context import CommandContext
from callspan.cli.safe_text import clean, clean_lines
from callspan.cli.screen import Column, Screen
from callspan.comparison.diff import Diff, Pair, diff
from callspan.comparison.diff_text import STATUS_WORDS, against_text, first_difference_text, name_text, value_text
from callspan.comparison.sides import Side, read_side, text_of
from callspan.comparison.text_changes import TextRun
from callspan.formatting import plural
from callspan.stores import Reader, SessionSummary

_AROUND: Final = 60
"""Characters of equal text that are shown on each side of a difference."""
_MARKS: Final = {"a": ("[-", "-]", "red"), "b": ("{+", "+}", "green"), "both": ("", "", "")}


def show_difference(context: CommandContext, reader: Reader, first: str, second: str, limit: int) -> None:
    """Show the differences of two calls, or two sessions: facts, parameters, tools, and messages by words.

    Messages are aligned; ids of tool calls are no difference. `limit`: calls of each session that are read.
    """
    a, b = (_side(context, reader, ident, limit) for ident in (first, second))
    if a.kind != b.kind:
        raise click.UsageError(f"A is a {a.kind} and B a {b.kind}: name two calls or two sessions")
    found = diff(a, b)
    if context.json:
        context.emit(_json(found))
    else:
        _print(context.screen, found)


def _side(context: CommandContext, reader: Reader, ident: str, limit: int) -> Side:
    named = context.named(reader, ident)
    if isinstance(named, SessionSummary) and named.calls > limit:
        its = f"{clean(named.session.session_id)}: only its first"
        click.echo(f"{its} {plural(limit, 'call')} of {named.calls:,}", err=True)
    return read_side(reader, named, limit)


def _json(found: Diff) -> dict[str, object]:
    value = msgspec.to_builtins(found, builtin_types=(Decimal, msgspec.Raw))
    section, place = found.first_difference or (None, None)
    value["first_difference"] = None if section is None else {"section": section, "place": place}
    return dict(value)


def _print(screen: Screen, found: Diff) -> None:
    for name, side in (("A", found.a), ("B", found.b)):
        screen.line((name, "bold"), "  ", (side.kind, "dim"), " ", (side.id, "cyan"))
    for heading, rows in (("", found.facts), ("parameters", found.parameters), ("tools", found.tools)):
        shown = [row for row in rows if row.status != "same"]
        if shown:
            screen.print()
            columns = (
                Column(heading, lambda row: name_text(row.name)),
                Column("A", lambda row: value_text(row.name, row.a), shrinks=True),
                Column("B", lambda row: value_text(row.name, row.b), shrinks=True),
                Column("B against A", against_text),
            )
            screen.table(columns, shown)
    for is_same, pairs in groupby(found.messages, key=lambda pair: pair.status == "same"):
        if is_same:
            screen.print()
            screen.line((f"{plural(len([*pairs]), 'message')} the same", "dim"))
            continue
        for pair in pairs:
            _print_message(screen, found, pair)
    screen.print()
    screen.paragraph(first_difference_text(found))


def _print_message(screen: Screen, found: Diff, pair: Pair) -> None:
    screen.print()
    screen.line((pair.role, "bold"), "  ", (STATUS_WORDS[pair.status], "dim"))
    text = Text()
    for start, body, end, style in _stretches(found, pair):
        text.append(clean_lines(f"{start}{body}{end}"), style=style or None)
    screen.print(Padding(text, (0, 0, 0, 2)))


def _stretches(found: Diff, pair: Pair) -> Iterator[tuple[str, str, str, str]]:
    """Yield the printed parts of a message: prefix, text, suffix, style; long equal text is shortened to its ends."""
    if pair.status == "differs":
        last = len(pair.changes) - 1
        for place, run in enumerate(pair.changes):
            start, end, style = _MARKS[run.where]
            yield start, _around(run, place, last), end, style
        return
    only = found.b.messages[pair.b or 0] if pair.a is None else found.a.messages[pair.a]
    start, end, style = _MARKS[{"only_a": "a", "only_b": "b"}.get(pair.status, "both")]
    yield start, text_of(only), end, style


def _around(run: TextRun, place: int, last: int) -> str:
    if run.where != "both" or len(run.text) <= 3 * _AROUND:
        return run.text
    head = run.text[:_AROUND] if place else ""
    tail = run.text[-_AROUND:] if place < last else ""
    return f"{head} … {tail}"
