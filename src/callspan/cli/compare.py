"""`callspan compare A B`: the differences of two groups of sessions, with their intervals."""

from __future__ import annotations

from typing import Final

import click

from callspan.cli.command_context import Command, CommandContext
from callspan.cli.filters import filters
from callspan.cli.group_table import measure_row, measure_text
from callspan.cli.terminal.safe_text import clean
from callspan.cli.terminal.screen import Cell, Column, reward_style
from callspan.comparison.differences import Difference, compare_groups, parse_selector, select_groups
from callspan.comparison.groups import Group, session_values
from callspan.comparison.intervals import MIN_VALUES
from callspan.formatting import UNKNOWN, plural, reward
from callspan.records import REWARD
from callspan.stores import CallFilter, Number

_EPILOG: Final = """\
callspan compare meta:prompt_version=3 =4
callspan compare baseline prompts-2             two experiments"""
_MEASURE_NAMES: Final = {
    "timesteps": "steps",
    "input_tokens": "tokens in",
    "output_tokens": "tokens out",
    "reasoning_tokens": "reasoning",
    "cost_usd": "cost",
    "duration_ns": "time",
    "active_ns": "active",
}
_TOO_FEW: Final = "too few to tell"
_POINTS: Final = " points"


@click.command(
    "compare",
    cls=Command,
    page="The command: Groups and comparison",
    filters=filters(),
    short_help="Compare two groups of sessions.",
    epilog=_EPILOG,
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def compare_command(context: CommandContext, selection: CallFilter, first: str, second: str) -> None:
    """Compare two groups of sessions: success, scores, and the means of steps, calls, tokens, cost and time.

    A group is KEY=VALUE, with a key of `callspan sessions --by`; a word alone is an experiment, =VALUE uses A's key.
    If both have at least five tasks in common, each task is compared with itself. The options select the sessions.
    """
    try:
        a = parse_selector(first)
        selectors = a, parse_selector(second, a)
    except ValueError as error:
        raise click.UsageError(clean(str(error))) from error
    with context.reader() as reader:
        groupings = [selector.by for selector in selectors]
        sessions = session_values(reader, context.resolved(reader, selection), groupings)
    groups, in_both = select_groups(sessions, selectors)
    for selector, group in zip(selectors, groups, strict=True):
        if not group:
            context.no_match(f"No session with {selector.label} in {context.store_name}.{_in_neither(in_both)}")
    differences = compare_groups(*groups)
    if context.json:
        sizes = {name: _size(group) for name, group in zip("ab", groups, strict=True)}
        context.emit({**sizes, "in_both": in_both, "measures": [_row(difference) for difference in differences]})
    else:
        _print(context, groups, differences, in_both)


def _size(group: Group) -> dict[str, object]:
    return {"group": group.keys[0], "sessions": len(group)}


def _row(difference: Difference) -> dict[str, object]:
    values = {"a": difference.first, "b": difference.second, "difference": difference.difference}
    sample_fields = {"n": list(difference.numbers), "paired": difference.paired, "too_few": difference.is_too_few}
    return measure_row(difference.measure, values, difference.interval) | sample_fields


def _print(context: CommandContext, groups: tuple[Group, Group], differences: list[Difference], in_both: int) -> None:
    names = [clean(group.keys[0] or UNKNOWN) for group in groups]
    screen = context.screen
    for letter, name, group in zip("AB", names, groups, strict=True):
        screen.line((f"{letter}  ", "bold"), (name, "cyan"), f"  {plural(len(group), 'session')}")
    screen.table(_COLUMNS, (row for row in differences if row.first is not None or row.second is not None))
    for line in _footer(differences, in_both):
        screen.paragraph(line)


def _name(difference: Difference) -> str:
    kind, name = difference.measure
    return f"score {name}" if kind == "score" and name != REWARD else _MEASURE_NAMES.get(name, name)


def _sample_sizes(difference: Difference) -> str:
    return f"{difference.numbers[0]:,} tasks" if difference.paired else "{:,}, {:,}".format(*difference.numbers)


def _difference(difference: Difference) -> Cell:
    if difference.is_too_few:
        return _TOO_FEW, "dim"
    if difference.difference is None:
        return None
    text = _signed(difference, difference.difference)
    if difference.interval is None:
        return text
    low, high = (_signed(difference, bound).removesuffix(_POINTS) for bound in difference.interval)
    is_significant = difference.measure.kind != "sum" and not difference.interval.low <= 0 <= difference.interval.high
    return f"{text} ({low} to {high})", reward_style(float(difference.difference)) if is_significant else ""


def _signed(difference: Difference, value: Number) -> str:
    match difference.measure.kind:
        case "success":
            return f"{100 * float(value):+.0f}{_POINTS}"
        case "score":
            return reward(float(value))
    size = -value if value < 0 else value
    return f"{'-' if value < 0 else '+'}{measure_text(difference.measure, size)}"


def _footer(differences: list[Difference], in_both: int) -> list[str]:
    tasks = "; or tasks, each compared with itself" if any(difference.paired for difference in differences) else ""
    lines = [f"Difference: B minus A, with its 95 % interval where it is known. n: sessions of A and B{tasks}."]
    few = [_name(difference) for difference in differences if difference.is_too_few and difference.first is not None]
    if few:
        lines.append(f"{_TOO_FEW.capitalize()}: fewer than {MIN_VALUES} values of {', '.join(few)}.")
    if in_both:
        lines.append(_in_neither(in_both).strip())
    return lines


def _in_neither(in_both: int) -> str:
    return f" {plural(in_both, 'session')} with both values, in neither group." if in_both else ""


_COLUMNS: Final = (
    Column("", _name),
    Column("A", lambda difference: measure_text(difference.measure, difference.first), right=True),
    Column("B", lambda difference: measure_text(difference.measure, difference.second), right=True),
    Column("difference", _difference, shrinks=True),
    Column("n", _sample_sizes, right=True),
)
