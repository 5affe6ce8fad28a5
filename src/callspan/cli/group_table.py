"""Groups: the table and JSON of `callspan sessions --by`: sums, means and intervals of groups of sessions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Final

from rich.text import Text

from callspan.cli.command_context import CommandContext
from callspan.cli.paging import TABLE_ROWS, say_more
from callspan.cli.screen import Column, reward_style, styled
from callspan.comparison.differences import Number
from callspan.comparison.groups import MEASURES, Amount, Group, group_sessions, objectives_of
from callspan.comparison.intervals import Interval
from callspan.formatting import UNKNOWN, count, duration, exact, money, reward, short_count
from callspan.stores import SessionSummary

_NS_PER_MS: Final = 1e6
_EACH: Final = (
    Column("steps each", right=True),
    Column("calls each", right=True),
    Column("tokens each", right=True),
    Column("cost", right=True),
    Column("cost each", right=True),
    Column("time each", right=True),
)
_FOOTER: Final = "each: the mean of a session; in brackets 95 % intervals (success: Wilson; means: BCa bootstrap)"


def print_groups(
    context: CommandContext, sessions: Iterable[SessionSummary], keys: Sequence[str], limit: int | None, offset: int
) -> bool:
    """Print the groups of the sessions, those with the most sessions first; return whether there is one."""
    groups = group_sessions(sessions, keys)
    if context.json:
        shown = groups[offset:][:limit]
        context.emit_all(_row(group, keys) for group in shown)
        return bool(shown)
    shown = groups[offset:][: limit or TABLE_ROWS]
    if not shown:
        return False
    objectives = context.scoring.objectives or objectives_of(one for group in groups for one in group.sessions)
    columns = (
        *(Column(key, shrinks=True, stays=True) for key in keys),
        Column("sessions", right=True),
        Column("success", right=True),
        *(Column(objective, right=True) for objective in objectives),
        *_EACH,
    )
    context.screen.table(columns, ([*_cells(group, objectives)] for group in shown))
    context.screen.paragraph(_FOOTER)
    say_more(context, len(groups) - offset - len(shown), offset + len(shown))
    return True


def _cells(group: Group, objectives: Sequence[str]) -> Iterator[Text | str]:
    yield from (styled((key or UNKNOWN, "cyan")) for key in group.keys)
    yield count(len(group.sessions))
    yield share(group.success_rate, group.success_interval)
    for objective in objectives:
        found = group.mean(objective)
        value = None if found is None else found.mean
        brackets = "" if found is None else between(found.interval)
        yield styled((f"{reward(value)}{brackets}", reward_style(value)))
    amounts = {name: group.amount(name) for name in MEASURES}
    yield short_count(_float(amounts["steps"].mean))
    yield short_count(_float(amounts["calls"].mean))
    known = [_float(amounts[name].mean) for name in ("input_tokens", "output_tokens")]
    yield UNKNOWN if known == [None, None] else "→".join(map(_tokens, known))
    yield money(_decimal(amounts["cost_usd"].sum))
    yield money(_decimal(amounts["cost_usd"].mean))
    yield duration(_float(amounts["duration_ns"].mean))


def _tokens(value: float | None) -> str:
    return short_count(None if value is None else round(value))


def share(rate: float | None, interval: Interval | None) -> str:
    """Return a share in percent with its interval, such as `80 % (49 to 94)`."""
    if rate is None:
        return UNKNOWN
    return f"{100 * rate:.0f} %" + (f" ({100 * interval.low:.0f} to {100 * interval.high:.0f})" if interval else "")


def between(interval: Interval | None) -> str:
    """Return an interval in brackets; nothing for None."""
    return "" if interval is None else f" ({interval.low:+.3g} to {interval.high:+.3g})"


def _row(group: Group, keys: Sequence[str]) -> dict[str, object]:
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


def _decimal(value: Number | None) -> Decimal | None:
    return value if isinstance(value, Decimal) else None
