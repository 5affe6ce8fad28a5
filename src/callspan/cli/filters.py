"""Filters: the options that select calls and sessions, shared by commands and by the page's filter line."""

from __future__ import annotations

from typing import Any, Final, get_args

import click

from callspan.cli.values import COUNT, DURATION, KEY_VALUE, MOMENT, NUMBER, USD
from callspan.conversion import converter
from callspan.records import Outcome, StreamEnd
from callspan.stores import ORDERS, CallFilter

_OUTCOMES: Final = [outcome for outcome in get_args(Outcome) if outcome != "started"]


class Filter(click.Option):
    """An option that selects records; `--help` lists only its name."""

    def __init__(self, option: str, field: str, metavar: str | None = None, **more: Any) -> None:
        super().__init__([option, field], metavar=metavar, **more)


_CALLS: Final = (
    Filter("--session", "session_id", "ID"),
    Filter("--step", "timestep_id", "ID"),
    Filter("--model", "model", "NAME"),
    Filter("--provider", "provider", "NAME"),
    Filter("--since", "since_ns", "TIME", type=MOMENT),
    Filter("--until", "until_ns", "TIME", type=MOMENT),
    Filter("--failed/--no-failed", "errors", default=None),
    Filter("--status", "outcome", "WORD", type=click.Choice(_OUTCOMES)),
    Filter("--finish", "finish", "WORD"),
    Filter("--stream-end", "stream_end", "WORD", type=click.Choice(get_args(StreamEnd))),
    Filter("--cut-off", "cut_off", is_flag=True, default=None),
    Filter("--cached/--no-cached", "cached", default=None),
    Filter("--retries", "min_retries", "N", type=COUNT),
    Filter("--rate-limited", "rate_limited", is_flag=True, default=None),
    Filter("--min-cost", "min_cost_usd", "USD", type=USD),
    Filter("--max-cost", "max_cost_usd", "USD", type=USD),
    Filter("--min-duration", "min_duration_ns", "TIME", type=DURATION),
    Filter("--max-duration", "max_duration_ns", "TIME", type=DURATION),
    Filter("--min-tokens", "min_tokens", "N", type=COUNT),
    Filter("--max-tokens", "max_tokens", "N", type=COUNT),
    Filter("--batch", "batch_id", "ID"),
    Filter("--conversation", "conversation_id", "ID"),
    Filter("--text", "text", "PART"),
    Filter("--error-text", "error_text", "PART"),
    Filter("--user", "user", "ID"),
    Filter("--name", "name", "NAME"),
    Filter("--group", "group", "ID"),
    Filter("--experiment", "experiment", "NAME"),
    Filter("--task", "task", "ID"),
    Filter("--meta", "metadata", "KEY=VALUE", type=KEY_VALUE, multiple=True),
)
"""The options that select calls, by the field of `CallFilter` they set; `callspan.stores.filters` has their SQL."""
_SCORES: Final = (
    Filter("--min-reward", "min_reward", "R", type=NUMBER),
    Filter("--objective", "objectives", "NAME", multiple=True),
    Filter("--label", "label", "LABEL"),
    Filter("--min-score", "min_score", "S", type=NUMBER),
)
_SORT: Final = click.Option(
    ["--sort"],
    type=click.Choice(ORDERS),
    default="start",
    metavar="KEY",
    help=f"Worst first, by {', '.join(ORDERS[1:])}.",
)
_CALL_FIELDS: Final = frozenset(CallFilter.__struct_fields__) - {"limit", "offset"}
_to_call_filter = converter(CallFilter)


def filters(*without: str, scores: bool = True, sort: bool = False) -> list[click.Option]:
    """Return the options that select calls, except those of the `CallFilter` fields in `without`."""
    chosen = [option for option in _CALLS if option.name not in without]
    return [*chosen, *(_SCORES if scores else ()), *([_SORT] if sort else [])]


def selected(options: dict[str, object]) -> CallFilter:
    """Remove the filter options and `--sort` from a command's `options`, and return their selection."""
    return _to_call_filter({name: options.pop(name) for name in [*options] if name in _CALL_FIELDS})
