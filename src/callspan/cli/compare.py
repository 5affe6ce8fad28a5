"""`callspan compare A B`: the differences of two groups of sessions, with their intervals."""

from __future__ import annotations

from typing import Final

import click

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.filters import filters
from callspan.cli.group_table import measure_row, value_text
from callspan.cli.safe_text import clean
from callspan.cli.screen import Cell, Column, reward_style
from callspan.comparison.differences import Difference, compare_groups, parse_selector
from callspan.comparison.groups import Group, Number
from callspan.comparison.intervals import MIN_VALUES
from callspan.formatting import UNKNOWN, plural, reward
from callspan.records import REWARD
from callspan.stores import CallFilter

_EPILOG: Final = """\
callspan compare meta:prompt_version=3 =4
callspan compare baseline prompts-2             two experiments"""
_WORDS: Final = {
    "input_tokens": "tokens in",
    "output_tokens": "tokens out",
    "cost_usd": "cost",
    "duration_ns": "time",
    "active_ns": "active",
}
_TOO_FEW: Final = "too few to tell"
_POINTS: Final = " points"


@click.command("compare", cls=Command, filters=filters(), short_help="Compare two groups of sessions.", epilog=_EPILOG)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def compare_command(context: CommandContext, which: CallFilter, first: str, second: str) -> None:
    """Compare two groups of sessions: success, scores, and the means of steps, calls, tokens, cost and time.

    A group is KEY=VALUE, with a key of `callspan sessions --by`; a word alone is an experiment, and =VALUE has A's key.
    Where both have at least five tasks in common, each task is compared with itself. The options select the sessions.
    """
    try:
        a = parse_selector(first)
        b = parse_selector(second, a)
    except ValueError as error:
        raise click.UsageError(clean(str(error))) from error
    groups = Group((a.label,)), Group((b.label,))
    with context.reader() as reader:
        which = context.resolved(reader, which)
        both = 0
        for summary in reader.sessions(which):
            is_in = [choice.matches(summary) for choice in (a, b)]
            both += all(is_in)
            for group in (group for group, here in zip(groups, is_in, strict=True) if here):
                group.sessions.append(summary)
    for choice, group in zip((a, b), groups, strict=True):
        if not group.sessions:
            context.no_match(f"No session with {choice.label} in {context.store_name}.")
    found = compare_groups(*groups)
    if context.json:
        sizes = {name: _size(group) for name, group in zip("ab", groups, strict=True)}
        context.emit({**sizes, "in_both": both, "measures": [_row(one) for one in found]})
    else:
        _print(context, groups, found, both)


def _size(group: Group) -> dict[str, object]:
    return {"group": group.keys[0], "sessions": len(group.sessions)}


def _row(one: Difference) -> dict[str, object]:
    values = {"a": one.first, "b": one.second, "difference": one.difference}
    rest = {"n": list(one.numbers), "paired": one.paired, "too_few": one.is_too_few}
    return measure_row(one.measure, values, one.interval) | rest


def _print(context: CommandContext, groups: tuple[Group, Group], found: list[Difference], both: int) -> None:
    names = [clean(group.keys[0] or UNKNOWN) for group in groups]
    screen = context.screen
    for letter, name, group in zip("AB", names, groups, strict=True):
        screen.line((f"{letter}  ", "bold"), (name, "cyan"), f"  {plural(len(group.sessions), 'session')}")
    screen.table(_COLUMNS, (one for one in found if one.first is not None or one.second is not None))
    for line in _footer(found, both):
        screen.paragraph(line)


def _name(one: Difference) -> str:
    kind, name = one.measure
    return f"score {name}" if kind == "score" and name != REWARD else _WORDS.get(name, name)


def _number(one: Difference) -> str:
    return f"{one.numbers[0]:,} tasks" if one.paired else "{:,}, {:,}".format(*one.numbers)


def _difference(one: Difference) -> Cell:
    if one.is_too_few:
        return _TOO_FEW, "dim"
    if one.difference is None:
        return None
    text = _signed(one, one.difference)
    if one.interval is None:
        return text
    low, high = (_signed(one, bound).removesuffix(_POINTS) for bound in one.interval)
    is_seen = one.measure.kind != "sum" and not one.interval.low <= 0 <= one.interval.high
    return f"{text} ({low} to {high})", reward_style(float(one.difference)) if is_seen else ""


def _signed(one: Difference, value: Number) -> str:
    match one.measure.kind:
        case "success":
            return f"{100 * float(value):+.0f}{_POINTS}"
        case "score":
            return reward(float(value))
    size = -value if value < 0 else value
    return f"{'-' if value < 0 else '+'}{value_text(one.measure, size)}"


def _footer(found: list[Difference], both: int) -> list[str]:
    tasks = "; or tasks, each compared with itself" if any(one.paired for one in found) else ""
    lines = [f"Difference: B less A, with its 95 % interval where it is known. n: sessions of A and B{tasks}."]
    if any(one.is_too_few for one in found):
        lines.append(f"Fewer than {MIN_VALUES}: {_TOO_FEW}.")
    if both:
        lines.append(f"{plural(both, 'session')} in both groups.")
    return lines


_COLUMNS: Final = (
    Column("", _name),
    Column("A", lambda one: value_text(one.measure, one.first), right=True),
    Column("B", lambda one: value_text(one.measure, one.second), right=True),
    Column("difference", _difference, shrinks=True),
    Column("n", _number, right=True),
)
