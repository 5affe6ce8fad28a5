"""Groups: the table and JSON of `callspan sessions --by`: sums, means and intervals of groups of sessions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import partial
from typing import Final

from callspan.cli.command_context import CommandContext
from callspan.cli.paging import print_page
from callspan.cli.screen import Cell, Column, key_columns, reward_style
from callspan.comparison.differences import Number
from callspan.comparison.groups import MEASURES, Amount, Group, group_sessions, objectives_of
from callspan.comparison.intervals import Interval
from callspan.formatting import UNKNOWN, count, duration, exact, money, reward, short_count, tokens
from callspan.stores import SessionSummary

_NS_PER_MS: Final = 1e6
_FOOTER: Final = "each: the mean of a session; in brackets 95 % intervals (success: Wilson; means: BCa bootstrap)"


def print_groups(
    context: CommandContext, sessions: Iterable[SessionSummary], keys: Sequence[str], limit: int | None
) -> bool:
    """Print the groups of the sessions, those with the most sessions first; return whether there is one."""
    groups = group_sessions(sessions, keys)
    rows, table = partial(map, partial(_row, keys)), partial(_print_table, context, keys, groups)
    return print_page(context, groups, limit, json_rows=rows, table=table)


def _print_table(context: CommandContext, keys: Sequence[str], groups: Sequence[Group], shown: Sequence[Group]) -> None:
    objectives = context.scoring.objectives or objectives_of(one for group in groups for one in group.sessions)
    columns = (
        *key_columns(keys),
        Column("sessions", lambda group: count(len(group.sessions)), right=True),
        Column("success", lambda group: share(group.success_rate, group.success_interval), right=True),
        *(Column(objective, partial(_score, objective), right=True) for objective in objectives),
        _each("steps", "steps"),
        _each("calls", "calls"),
        Column("tokens each", _tokens, right=True),
        Column("cost", lambda group: shown_measure("cost_usd", group.amount("cost_usd").sum), right=True),
        _each("cost", "cost_usd"),
        _each("time", "duration_ns"),
    )
    context.screen.table(columns, shown)
    context.screen.paragraph(_FOOTER)


def _score(objective: str, group: Group) -> Cell:
    found = group.mean(objective)
    if found is None:
        return None
    return f"{reward(found.mean)}{between(found.interval)}", reward_style(found.mean)


def _each(name: str, measure: str) -> Column:
    return Column(f"{name} each", lambda group: shown_measure(measure, group.amount(measure).mean), right=True)


def _tokens(group: Group) -> Cell:
    means = [group.amount(name).mean for name in ("input_tokens", "output_tokens")]
    return tokens(*(None if one is None else round(one) for one in means))


def share(rate: float | None, interval: Interval | None) -> str:
    """Return a share in percent with its interval, such as `80 % (49 to 94)`."""
    if rate is None:
        return UNKNOWN
    return f"{100 * rate:.0f} %" + (f" ({100 * interval.low:.0f} to {100 * interval.high:.0f})" if interval else "")


def between(interval: Interval | None) -> str:
    """Return an interval in brackets; nothing for None."""
    return "" if interval is None else f" ({interval.low:+.3g} to {interval.high:+.3g})"


def _row(keys: Sequence[str], group: Group) -> dict[str, object]:
    scores = {}
    for objective in objectives_of(group.sessions):
        found = group.mean(objective)
        if found is not None:
            scores[objective] = {"mean": found.mean, "count": found.count, **bounds(found.interval)}
    return {
        **dict(zip(keys, group.keys, strict=True)),
        "sessions": len(group.sessions),
        "successes": group.successes,
        "judged": len(group.judged),
        "success_rate": group.success_rate,
        **{f"success_{name}": value for name, value in bounds(group.success_interval).items()},
        "scores": scores,
        **{name.replace("_ns", "_ms"): _amount(name, group.amount(name)) for name in MEASURES},
    }


def bounds(interval: Interval | None) -> dict[str, float | None]:
    """Return the bounds of an interval for JSON."""
    return {"low": interval.low if interval else None, "high": interval.high if interval else None}


def _amount(name: str, amount: Amount) -> dict[str, object]:
    return {"sum": plain(name, amount.sum), "mean": plain(name, amount.mean), "count": amount.count}


def plain(name: str, value: Number | None) -> object:
    """Return the value of a measure for JSON: money as exact text, times in milliseconds."""
    if isinstance(value, Decimal):
        return exact(value)
    return value / _NS_PER_MS if value is not None and name.endswith("_ns") else value


def shown_measure(name: str, value: Number | None) -> str:
    """Return the value of a measure in a table."""
    if name == "cost_usd":
        return money(None if value is None else Decimal(str(value)))
    return duration(_float(value)) if name.endswith("_ns") else short_count(_float(value))


def _float(value: Number | None) -> float | None:
    return None if value is None else float(value)
