"""Filters: the options that select calls and sessions, shared by commands and by the page's filter line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias, get_args

import click

from callspan.cli.values import COUNT, DURATION, KEY_VALUE, MOMENT, USD
from callspan.conversion import converter
from callspan.records import Outcome, StreamEnd
from callspan.stores import ORDERS, CallFilter, Scoring

_Command: TypeAlias = Callable[..., Any]
_SCORE: Final = "score"


class Filter(click.Option):
    """An option that selects; `--help` only names it."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return nothing: filters have a paragraph of their own."""
        del ctx
        return None


def filter_option(option: str, field: str, metavar: str | None = None, **more: Any) -> _Command:  # noqa: ANN401 - as click has it
    """Return a decorator that adds a filter."""
    return click.option(option, field, cls=Filter, metavar=metavar, **more)


def flag(option: str, field: str) -> _Command:
    """Return a decorator that adds a filter without a value."""
    return filter_option(option, field, is_flag=True, default=None)


OPTIONS: Final[dict[str, _Command]] = {
    "session_id": filter_option("--session", "session_id", "ID"),
    "timestep_id": filter_option("--step", "timestep_id", "ID"),
    "model": filter_option("--model", "model", "NAME"),
    "provider": filter_option("--provider", "provider", "NAME"),
    "since_ns": filter_option("--since", "since_ns", "TIME", type=MOMENT),
    "until_ns": filter_option("--until", "until_ns", "TIME", type=MOMENT),
    "errors": filter_option("--failed/--no-failed", "errors", default=None),
    "outcome": filter_option("--status", "outcome", "WORD", type=click.Choice(get_args(Outcome))),
    "finish": filter_option("--finish", "finish", "WORD"),
    "stream_end": filter_option("--stream-end", "stream_end", "WORD", type=click.Choice(get_args(StreamEnd))),
    "cut_off": flag("--cut-off", "cut_off"),
    "min_retries": filter_option("--retries", "min_retries", "N", type=COUNT),
    "rate_limited": flag("--rate-limited", "rate_limited"),
    "min_cost_usd": filter_option("--min-cost", "min_cost_usd", "USD", type=USD),
    "min_duration_ns": filter_option("--min-duration", "min_duration_ns", "TIME", type=DURATION),
    "batch_id": filter_option("--batch", "batch_id", "ID"),
    "conversation_id": filter_option("--conversation", "conversation_id", "ID"),
    "text": filter_option("--text", "text", "PART"),
    "error_text": filter_option("--error-text", "error_text", "PART"),
    "user": filter_option("--user", "user", "ID"),
    "name": filter_option("--name", "name", "NAME"),
    "group": filter_option("--group", "group", "ID"),
    "experiment": filter_option("--experiment", "experiment", "NAME"),
    "task": filter_option("--task", "task", "ID"),
    "metadata": filter_option("--meta", "metadata", "KEY=VALUE", type=KEY_VALUE, multiple=True),
}
"""The options that select calls, by the field of `CallFilter` they set; `callspan.stores.filters` has their SQL."""
_SCORES: Final = {
    "min_reward": filter_option("--min-reward", "min_reward", "R", type=float),
    "objectives": filter_option("--objective", "objectives", "NAME", multiple=True),
    "label": filter_option("--label", "label", "LABEL"),
    "min_score": filter_option("--min-score", "min_score", "S", type=float),
}
_SORT: Final = click.option(
    "--sort",
    type=click.Choice((*ORDERS, _SCORE)),
    default="start",
    metavar="KEY",
    help=f"Worst first, by {', '.join((*ORDERS[1:], _SCORE))}.",
)
_OF_SCORES: Final = converter(Scoring)
_OF_CALLS: Final = converter(CallFilter)


class Selected(NamedTuple):
    """The selection by filter options."""

    which: CallFilter
    scoring: Scoring


def filter_options(*fields: str, scores: bool = True, sort: bool = False) -> Callable[[_Command], _Command]:
    """Return a decorator that adds the options of these fields of `CallFilter` (default: all) and of scores."""
    chosen = [OPTIONS[name] for name in fields or OPTIONS]
    more = (*(_SCORES.values() if scores else ()), *((_SORT,) if sort else ()))

    def add(function: _Command) -> _Command:
        for option in reversed((*chosen, *more)):
            function = option(function)
        return function

    return add


def selected(options: dict[str, object]) -> Selected:
    """Remove the filter options and `--sort` from the options of a command; return their selection."""
    given = {name: options.pop(name) for name in (*OPTIONS, "sort") if name in options}
    scores = {name: options.pop(name) for name in _SCORES if name in options}
    if given.get("sort") == _SCORE:
        scores["sorts"], given["sort"] = True, "start"
    return Selected(_OF_CALLS(given), _OF_SCORES(scores))
