"""Charts: small inline SVG charts without scripts or style attributes, as a strict content security policy requires."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from callspan.formatting import escaped, milliseconds, plural
from callspan.stores.aggregates import percentile

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
    for at, (name, reward, success) in enumerate(rewards):
        if math.isfinite(reward):
            x, y = place(at, reward)
            look = few + {True: "good", False: "bad", None: "plain"}[success]
            title = f"<title>{escaped(name)}: {reward:+.4g}</title>"
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
