"""Page: the HTML around charts, tables and rows. All recorded text goes through `escaped` or `json_block`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Final

from callspan.formatting import (
    UNKNOWN,
    count,
    duration,
    escaped,
    json_block,
    moment,
    money,
    percent,
    plural,
    short_count,
    time_range,
)
from callspan.output_file import replacement
from callspan.reports.charts import histogram, reward_curve, share_bar
from callspan.reports.gathering import Gathered, ModelTotals, Progress, gather
from callspan.stores.aggregates import percentile
from callspan.stores.base import CallFilter, Reader

_MODEL_HEADS: Final = ("model", "calls", "errors", "retries", "tokens in", "out", "cost", "p50", "p95", "first token")
_ERROR_HEADS: Final = ("kind", "error", "calls", "models", "last", "last message")
_WIDE: Final = frozenset({"retries", "tokens in", "out", "p50", "p95", "first token", "kind", "models", "last"})
"""Columns hidden on narrow screens."""


def page(found: Gathered) -> str:
    """Return the complete HTML page."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    data = {"models": found.model_names, "sessions": found.sessions}
    return "".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">',
            f"<title>callspan report</title><style>{style}</style></head><body>",
            _header(found),
            f"<main>{_models(found)}{_charts(found)}{_errors(found)}{_sessions(found)}</main>",
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


def _sessions(found: Gathered) -> str:
    left_out = f'<p class="none">{escaped(found.left_out)}</p>' if found.left_out else ""
    return (
        f'<section><h2>Sessions</h2>{left_out}<p class="find"><label>Find <input id="find" type="search" '
        'placeholder="name, id, outcome, metadata"></label> <span id="count"></span></p>'
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
