"""Group table: the output of `callspan sessions --by`: sums, means and intervals of groups of sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Final, cast

from callspan.cli.command_context import CommandContext
from callspan.cli.paging import print_page
from callspan.cli.terminal.screen import Cell, Column, key_columns, least, reward_style
from callspan.cli.values import keys_row
from callspan.comparison.groups import (
    SUCCESS,
    Group,
    Measure,
    group_sessions,
    mean_of_measure,
    measures_of,
    objectives_of,
)
from callspan.comparison.intervals import Interval
from callspan.formatting import UNKNOWN, count, duration, money, reward, short_count, tokens
from callspan.records import REWARD
from callspan.stores import CallFilter, Number, SessionValues, as_row

_COST: Final = Measure("sum", "cost_usd")
_FOOTER: Final = "each: the mean of a session; in brackets 95 % intervals (success: Wilson; means: BCa bootstrap)"
_WITHOUT_INTERVALS: Final = "each: the mean of a session; --json has the 95 % intervals and what does not fit here"
_MAX_INTERVALS: Final = 2
"""Of more objectives, intervals would leave no room for success, cost and time."""


def print_groups(
    context: CommandContext,
    selection: CallFilter,
    sessions: SessionValues,
    keys: Sequence[str],
    limit: int | None,
) -> bool:
    """Print the groups of sessions, largest first; return whether there is any."""
    groups = group_sessions(sessions, keys)
    objectives = objectives_of(groups)
    if selection.objectives:
        objectives = [*dict.fromkeys([*(name for name in objectives if name == REWARD), *selection.objectives])]
    rows, table = partial(map, partial(_row, keys)), partial(_print_table, context, keys, objectives)
    return print_page(context, groups, limit, json_rows=rows, table=table)


def _print_table(
    context: CommandContext, keys: Sequence[str], objectives: Sequence[str], groups: Sequence[Group]
) -> None:
    mean = _mean_with_interval if len(objectives) <= _MAX_INTERVALS else _mean
    columns = (
        *key_columns(keys),
        Column("sessions", lambda group: count(len(group)), right=True),
        Column("success", partial(mean, SUCCESS), right=True),
        *(_score(name, partial(mean, Measure("score", name))) for name in objectives),
        _each("steps", "timesteps"),
        _each("calls", "calls"),
        Column("tokens each", _tokens, right=True),
        Column("cost", _cost, right=True),
        _each("cost", "cost_usd"),
        _each("time", "duration_ns"),
    )
    context.screen.table(columns, groups)
    context.screen.paragraph(_FOOTER if mean is _mean_with_interval else _WITHOUT_INTERVALS)


def _score(name: str, value: Callable[[Group], Cell]) -> Column:
    """Return the column of an objective, which may have the same name as any other column."""
    return Column(name, value, right=True, kind=REWARD if name == REWARD else "score")


def _mean_with_interval(measure: Measure, group: Group) -> Cell:
    """Return a success rate or mean score with its interval, such as `80 % (49 to 94)`."""
    return _mean(measure, group, mean_of_measure(measure, group).interval)


def _mean(measure: Measure, group: Group, interval: Interval | None = None) -> Cell:
    """Return a success rate or mean score."""
    mean = mean_of_measure(measure, group).mean
    if mean is None:
        return None
    bounds = "" if interval is None else " ({} to {})".format(*(_bound(measure, end) for end in interval))
    style = reward_style(float(mean)) if measure.kind == "score" else ""
    return f"{measure_text(measure, mean)}{bounds}", style


def _bound(measure: Measure, value: float) -> str:
    return f"{100 * value:.0f}" if measure.kind == "success" else f"{value:+.3g}"


def _each(name: str, measure: str) -> Column:
    sum_of = Measure("sum", measure)
    return Column(f"{name} each", lambda group: measure_text(sum_of, mean_of_measure(sum_of, group).mean), right=True)


def _cost(group: Group) -> str:
    """Return the cost of all sessions. `cost each` leaves out those that lack the cost of some calls."""
    cost = mean_of_measure(_COST, group)
    return least(cast("Decimal | None", cost.sum), is_partial=cost.is_lower_bound)


def _tokens(group: Group) -> Cell:
    means = [mean_of_measure(Measure("sum", name), group).mean for name in ("input_tokens", "output_tokens")]
    return tokens(*(None if mean is None else round(mean) for mean in means))


def _row(keys: Sequence[str], group: Group) -> dict[str, object]:
    rows = []
    for measure in measures_of([group]):
        mean = mean_of_measure(measure, group)
        values = {"sum": mean.sum, "mean": mean.mean}
        rows.append(
            measure_row(measure, values, mean.interval) | {"n": mean.number, "sum_is_lower_bound": mean.is_lower_bound}
        )
    return {**keys_row(keys, group.keys), "sessions": len(group), "measures": rows}


def measure_row(measure: Measure, values: Mapping[str, Number | None], interval: Interval | None) -> dict[str, object]:
    """Return the values and the interval of a measure for JSON: money as exact text."""
    bounds = {"low": interval.low, "high": interval.high} if interval else {"low": None, "high": None}
    numbers = as_row({**values, **bounds})
    return {"kind": measure.kind, "measure": measure.name, **numbers}


def measure_text(measure: Measure, value: Number | None) -> str:
    """Return a value of a measure for a table."""
    if value is None:
        return UNKNOWN
    if measure.kind == "success":
        return f"{100 * float(value):.0f} %"
    if measure.kind == "score":
        return reward(float(value))
    if measure == _COST:
        return money(Decimal(str(value)))
    return duration(float(value)) if measure.is_time else short_count(float(value))
