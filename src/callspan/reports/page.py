"""Page: HTML around charts, tables and rows. All recorded text goes through `escaped` or `json_block`."""

from __future__ import annotations

import base64
import hashlib
import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Final

from callspan.comparison.groups import Group, objectives_of
from callspan.formatting import (
    UNKNOWN,
    count,
    duration,
    escaped,
    json_block,
    milliseconds,
    moment,
    money,
    percent,
    plural,
    reward,
    short_count,
    shown,
    time_range,
)
from callspan.output_file import replacement
from callspan.record.reward_sums import mean_of
from callspan.reports.gathering import BREAKDOWNS, Gathered, ModelTotals, Progress, gather
from callspan.reports.page_rows import NAME
from callspan.stores.aggregates import percentile
from callspan.stores.base import CallFilter, Reader

_WIDTH: Final = 360
_HEIGHT: Final = 170
_LEFT: Final = 36
_BOTTOM: Final = 20
_TOP: Final = 34
_REWARD_TOP: Final = 10
_BINS_PER_DECADE: Final = 6
_WINDOW: Final = 10
_FEW: Final = 2
_CHARACTER: Final = 5.6
"""Approximate width of a character of a label."""
_MANY: Final = 80
_NS_PER_MS: Final = 1e6
_SECOND: Final = 3
"""Power of ten of milliseconds in a second."""
_MODEL_HEADS: Final = ("model", "calls", "errors", "retries", "tokens in", "out", "cost", "p50", "p95", "first token")
_ERROR_HEADS: Final = ("kind", "error", "calls", "models", "last", "last message")
_GROUP_HEADS: Final = ("calls", "errors", "tokens in", "out", "cost", "time each")
_GROUPS: Final = 100
"""Maximum number of groups in a breakdown."""
_OBJECTIVES: Final = 4
_WIDE: Final = frozenset({"retries", "tokens in", "out", "p50", "p95", "first token", "kind", "models", "last"})
"""Columns hidden on narrow screens."""


def histogram(durations_ns: Sequence[float], title: str) -> str:
    """Return the distribution of durations on a logarithmic axis, with the median and the 95th percentile marked."""
    every = sorted(durations_ns)
    values = [value / _NS_PER_MS for value in every if value > 0]
    if not values:
        return f'<p class="none">{escaped(title)}: nothing to show</p>'
    low, high = _decades(values)
    bins = [0] * max(1, round((high - low) * _BINS_PER_DECADE))
    for value in values:
        bins[min(len(bins) - 1, int((math.log10(value) - low) * _BINS_PER_DECADE))] += 1
    tallest = max(bins)
    width = (_WIDTH - _LEFT) / len(bins)
    drawn = [
        _rect("bar", _LEFT + at * width + 0.5, _down(number / tallest), max(1.0, width - 1), _up(number / tallest))
        + f"<title>{escaped(_between(low, at))}: {number}</title></rect>"
        for at, number in enumerate(bins)
        if number
    ]
    powers = range(math.ceil(low), math.floor(high) + 1)
    drawn += [_label(_across(power, low, high), _power(power)) for power in powers]
    for line, (name, share) in enumerate((("p50", 0.5), ("p95", 0.95))):
        value = (percentile(every, share) or 0.0) / _NS_PER_MS
        place = low if value <= 0 else max(low, math.log10(value))
        drawn.append(_mark(f"{name} {milliseconds(value)}", _across(place, low, high), line))
    drawn.append(f'<text class="axis" x="{_LEFT - 6}" y="{_TOP + 8}" text-anchor="end">{tallest:,}</text>')
    return _svg(drawn, f"{title}: {plural(len(values), 'call')}")


def _power(power: int) -> str:
    """Return the axis label of a power of ten of milliseconds."""
    return f"{10.0**power:g} ms" if power < _SECOND else f"{10 ** (power - _SECOND):,} s"


def _mark(text: str, x: float, line: int) -> str:
    """Return a vertical line with a label on the side that has room."""
    anchor, shift = ("end", -4) if x + _CHARACTER * len(text) > _WIDTH else ("start", 4)
    top = 12 + 15 * line
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 9}" y2="{_HEIGHT - _BOTTOM}"/><text class="note" '
        f'x="{x + shift:.1f}" y="{top}" text-anchor="{anchor}">{escaped(text)}</text>'
    )


def reward_curve(rewards: Sequence[tuple[str, float, bool | None]]) -> str:
    """Return a chart of the sessions' rewards in order of their start, with a moving average as a line."""
    values = [reward for _, reward, _ in rewards if math.isfinite(reward)]
    window = max(_WINDOW, len(values) // 20)
    radius, few = (4, "few ") if len(values) <= _MANY else (2, "")
    low, high = min([0.0, *values]), max([0.0, *values])
    span = (high - low) or 1.0

    def place(at: int, value: float) -> tuple[float, float]:
        share = at / max(1, len(rewards) - 1)
        height = (value - low) / span * (_HEIGHT - _BOTTOM - _REWARD_TOP)
        return _LEFT + 6 + share * (_WIDTH - _LEFT - 12), _HEIGHT - _BOTTOM - height

    zero = place(0, 0.0)[1]
    drawn = [f'<line class="zero" x1="{_LEFT}" x2="{_WIDTH}" y1="{zero:.1f}" y2="{zero:.1f}"/>']
    for at, (name, value, success) in enumerate(rewards):
        if math.isfinite(value):
            x, y = place(at, value)
            look = few + {True: "good", False: "bad", None: "plain"}[success]
            title = f"<title>{escaped(name)}: {value:+.4g}</title>"
            drawn.append(f'<circle class="{look}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{title}</circle>')
    if len(values) > _FEW:
        means = [sum(values[max(0, at - window + 1) : at + 1]) / min(at + 1, window) for at in range(len(values))]
        points = " ".join("{:.1f},{:.1f}".format(*place(at, mean)) for at, mean in enumerate(means))
        drawn.append(f'<polyline class="mean" points="{points}"/>')
    for value in sorted({low, high}):
        y = place(0, value)[1] + 4
        drawn.append(f'<text class="axis" x="{_LEFT - 6}" y="{y:.1f}" text-anchor="end">{value:+.3g}</text>')
    drawn.append(f'<text class="axis" x="{_LEFT}" y="{_HEIGHT - 4}">oldest</text>')
    drawn.append(f'<text class="axis" x="{_WIDTH}" y="{_HEIGHT - 4}" text-anchor="end">newest</text>')
    return _svg(drawn, f"reward of {plural(len(rewards), 'session')}, and the mean of the last {window}")


def share_bar(parts: Sequence[tuple[str, float]]) -> str:
    """Return a thin bar of parts, each (class, share of the whole width)."""
    drawn, x = [], 0.0
    for look, share in parts:
        drawn.append(_rect(look, x, 0, max(0.0, share * 100), 8) + "</rect>")
        x += share * 100
    return (
        f'<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">{"".join(drawn)}</svg>'
    )


def _svg(drawn: Sequence[str], title: str) -> str:
    return (
        f'<figure><figcaption>{escaped(title)}</figcaption><svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" aria-label="{escaped(title)}">{"".join(drawn)}</svg></figure>'
    )


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of the axis: from below the smallest value to above the largest, in steps of bins."""
    low = math.floor(math.log10(values[0]) * _BINS_PER_DECADE) / _BINS_PER_DECADE
    high = math.floor(math.log10(values[-1]) * _BINS_PER_DECADE + 1) / _BINS_PER_DECADE
    return (low, high) if high - low >= 1 else (low - 0.5, low + 1)


def _between(low: float, at: int) -> str:
    start, end = (10 ** (low + (at + more) / _BINS_PER_DECADE) for more in (0, 1))
    return f"{milliseconds(start)} to {milliseconds(end)}"


def _across(value: float, low: float, high: float) -> float:
    return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT)


def _up(share: float) -> float:
    return share * (_HEIGHT - _BOTTOM - _TOP)


def _down(share: float) -> float:
    return _HEIGHT - _BOTTOM - _up(share)


def _rect(look: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{look}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="1">'


def _label(x: float, text: str) -> str:
    anchor = "end" if x > _WIDTH - _LEFT / 2 else "middle"
    return f'<text class="axis" x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{escaped(text)}</text>'


def page(found: Gathered) -> str:
    """Return the complete HTML page."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    command = f"callspan --store {shlex.quote(found.store)}"
    data = {"models": found.model_names, "sessions": found.sessions, "command": command}
    return "".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">',
            f"<title>callspan report</title><style>{style}</style></head><body>",
            _header(found),
            f"<main>{_models(found)}{_charts(found)}{_errors(found)}{_breakdowns(found)}{_sessions(found)}</main>",
            f'<script type="application/json" id="data">{json_block(data)}</script><script>{script}</script>',
            "</body></html>\n",
        )
    )


def _header(found: Gathered) -> str:
    every = found.every
    unknown = every.calls - every.priced
    tiles = (
        ("calls", count(every.calls), ""),
        ("sessions", count(found.session_count), ""),
        ("errors", count(every.errors), percent(every.errors, every.calls)),
        ("retries", count(every.retries), ""),
        ("tokens in", short_count(every.input_tokens), _cached(every)),
        ("tokens out", short_count(every.output_tokens), ""),
        ("cost", money(every.cost), f"unknown for {plural(unknown, 'call')}" if unknown else ""),
    )
    boxes = "".join(
        f"<div><dt>{name}</dt><dd>{escaped(value)}<small>{escaped(more)}</small></dd></div>"
        for name, value, more in tiles
    )
    when = time_range(found.first_ns, found.last_ns)
    return f"<header><h1>callspan report</h1><p>{escaped(found.store)} · {when}</p><dl>{boxes}</dl></header>"


def _cached(totals: ModelTotals) -> str:
    return "" if totals.cache_read_tokens is None else f"{short_count(totals.cache_read_tokens)} from cache"


def _models(found: Gathered) -> str:
    sums = [(totals.input_tokens or 0) + (totals.output_tokens or 0) for totals in found.models.values()]
    ranked = sorted(found.models.items(), key=lambda item: -item[1].calls)
    rows = [_model_row(name, totals, max(sums, default=0) or 1) for name, totals in ranked]
    partly = any(0 < totals.priced < totals.calls for totals in found.models.values())
    note = '<p class="none">* some of these calls have no known cost</p>' if partly else ""
    key = '<small><i class="key"></i>tokens in<i class="key out"></i>out</small>'
    return f"<section><h2>Models {key}</h2>{_table(_MODEL_HEADS, rows, 'numbers')}{note}</section>"


def _model_row(name: str, totals: ModelTotals, most: int) -> list[str]:
    tokens_in, tokens_out = totals.input_tokens or 0, totals.output_tokens or 0
    bar = share_bar((("in", tokens_in / most), ("out", tokens_out / most)))
    cells = [
        f'<span class="name">{escaped(name)}</span>{bar}',
        count(totals.calls),
        f'<b class="bad">{totals.errors:,}</b>' if totals.errors else "0",
        count(totals.retries),
        short_count(totals.input_tokens),
        short_count(totals.output_tokens),
        money(totals.cost) + ("*" if 0 < totals.priced < totals.calls else ""),
    ]
    durations = sorted(totals.durations_ns)
    times = (
        percentile(durations, 0.5),
        percentile(durations, 0.95),
        percentile(sorted(totals.first_tokens_ns), 0.5),
    )
    return [*cells, *(duration(value) for value in times)]


def _charts(found: Gathered) -> str:
    charts = [
        histogram(found.every.durations_ns, "time of a call"),
        histogram(found.every.first_tokens_ns, "time to first token"),
    ]
    if len(found.rewards) > 1:
        charts.insert(0, reward_curve(found.rewards))
    return f'<section><h2>How it went</h2><div class="charts">{"".join(charts)}</div></section>'


def _errors(found: Gathered) -> str:
    if not found.failures:
        return '<section><h2>Errors</h2><p class="none">No call failed.</p></section>'
    rows = [
        [
            escaped(kind),
            escaped(error),
            count(failure.calls),
            escaped(", ".join(f"{name} ({number})" for name, number in failure.models.most_common(3))),
            moment(failure.last_ns),
            escaped(failure.message) or UNKNOWN,
        ]
        for (kind, error), failure in sorted(found.failures.items(), key=lambda item: -item[1].calls)
    ]
    return f"<section><h2>Errors</h2>{_table(_ERROR_HEADS, rows, 'errors')}</section>"


def _breakdowns(found: Gathered) -> str:
    """Return a table of the sessions by each of their labels."""
    return "".join(
        f"<section><h2>Sessions by {BREAKDOWNS[by]}</h2>{_groups(BREAKDOWNS[by], groups)}</section>"
        for by, groups in found.breakdowns.items()
    )


def _groups(name: str, groups: Sequence[Group]) -> str:
    objectives = objectives_of(one for group in groups for one in group.sessions)[:_OBJECTIVES]
    heads = (name, "sessions", "success", *(escaped(shown(one, NAME)) for one in objectives), *_GROUP_HEADS)
    rows = (list(_group_row(group, objectives)) for group in groups[:_GROUPS])
    more = f'<p class="none">and {len(groups) - _GROUPS:,} more</p>' if len(groups) > _GROUPS else ""
    return _table(heads, rows, "numbers") + more


def _group_row(group: Group, objectives: Sequence[str]) -> Iterator[str]:
    yield f'<span class="name">{escaped(shown(group.keys[0] or "none", NAME))}</span>'
    yield count(len(group.sessions))
    rate = group.success_rate
    yield UNKNOWN if rate is None else f"{100 * rate:.0f} %"
    yield from (reward(mean_of(group.scores(objective))) for objective in objectives)
    sums = {name: group.amount(name).sum for name in ("calls", "errors", "input_tokens", "output_tokens", "cost_usd")}
    *numbers, cost = sums.values()
    yield from (short_count(None if number is None else float(number)) for number in numbers)
    yield money(cost if isinstance(cost, Decimal) else None)
    mean = group.amount("duration_ns").mean
    yield duration(None if mean is None else float(mean))


def _sessions(found: Gathered) -> str:
    left_out = f'<p class="none">{escaped(found.left_out)}</p>' if found.left_out else ""
    return (
        f'<section><h2>Sessions</h2>{left_out}<p class="find"><label>Find <input id="find" type="search" '
        'placeholder="name, id, user, outcome, objective, metadata, last message"></label> '
        '<label hidden>User <select id="user"></select></label> '
        '<label hidden>Objective <select id="objective"></select></label> <span id="count"></span></p>'
        '<noscript><p class="none">The list of sessions needs JavaScript, which this browser does not run.</p>'
        '</noscript><div class="scroll"><table id="sessions" class="numbers"></table></div>'
        '<p id="pages"></p></section>'
    )


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], look: str) -> str:
    names = tuple(heads)
    looks = [' class="wide"' if name in _WIDE else "" for name in names]
    head = "".join(f'<th scope="col"{wide}>{name}</th>' for wide, name in zip(looks, names, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{wide}>{cell}</td>' for wide, cell in zip(looks, row, strict=True))}</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table class="{look}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def write_report(
    reader: Reader,
    target: Path,
    which: CallFilter = CallFilter(),  # noqa: B008 - immutable
    *,
    progress: Progress = lambda _read, _of, _what: None,
) -> Gathered:
    """Write one HTML page about the selected calls and their sessions; return its data.

    The page makes no requests and runs only its own inline script. Nothing is written if no call matches. Raises
    OSError if the file cannot be written.
    """
    with replacement(target) as fresh:
        found = gather(reader, which, progress)
        if found.every.calls or found.sessions:
            fresh.path.write_text(page(found), encoding="utf-8")
            fresh.commit()
    return found
