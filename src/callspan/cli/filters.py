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
_OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)
_ENDS: Final[tuple[str, ...]] = get_args(StreamEnd)
_SCORE: Final = "score"


class Filter(click.Option):
    """An option that selects; `--help` only names it, `--help-filters` explains it."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return nothing: filters have a paragraph of their own."""
        del ctx
        return None

    def record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option and its selection."""
        return super().get_help_record(ctx)


def filter_option(option: str, field: str, metavar: str | None, text: str, **more: Any) -> _Command:  # noqa: ANN401 - as click has it
    """Return a decorator that adds a filter."""
    return click.option(option, field, cls=Filter, metavar=metavar, help=text, **more)


OPTIONS: Final[dict[str, _Command]] = {
    "session_id": filter_option("--session", "session_id", "ID", "Calls of this session (id or unique prefix)."),
    "timestep_id": filter_option("--step", "timestep_id", "ID", "Calls of this timestep: its id, or your own."),
    "model": filter_option("--model", "model", "NAME", "Calls with this requested or response model."),
    "provider": filter_option("--provider", "provider", "NAME", "Calls to this provider, such as openai."),
    "since_ns": filter_option("--since", "since_ns", "TIME", "From then on: 30m, 2h, 3d ago, ISO 8601.", type=MOMENT),
    "until_ns": filter_option("--until", "until_ns", "TIME", "Before this time.", type=MOMENT),
    "errors": filter_option("--failed/--no-failed", "errors", None, "Failed calls, or successful ones.", default=None),
    "outcome": filter_option(
        "--status", "outcome", "WORD", f"Calls that ended so: {', '.join(_OUTCOMES)}.", type=click.Choice(_OUTCOMES)
    ),
    "finish": filter_option(
        "--finish", "finish", "WORD",
        "Calls that finished so: length, stop, tool_calls, content_filter (all providers' words for it), or a "
        "provider's own word.",
    ),
    "stream_end": filter_option(
        "--stream-end", "stream_end", "WORD", f"Streams that ended so: {', '.join(_ENDS)}.", type=click.Choice(_ENDS)
    ),
    "cut_off": filter_option(
        "--cut-off", "cut_off", None, "Streams that stopped without their end.", is_flag=True, default=None
    ),
    "min_retries": filter_option("--retries", "min_retries", "N", "Calls with at least N retries.", type=COUNT),
    "rate_limited": filter_option(
        "--rate-limited", "rate_limited", None, "Calls that a provider rejected with 429.", is_flag=True, default=None
    ),
    "min_cost_usd": filter_option("--min-cost", "min_cost_usd", "USD", "From this cost on.", type=USD),
    "min_duration_ns": filter_option(
        "--min-duration", "min_duration_ns", "TIME", "From this duration on: 500ms, 30s, 2m.", type=DURATION
    ),
    "batch_id": filter_option("--batch", "batch_id", "ID", "Calls that are lines of this batch."),
    "conversation_id": filter_option("--conversation", "conversation_id", "ID", "Calls of this conversation."),
    "text": filter_option("--text", "text", "PART", "Calls whose messages contain PART (case-insensitive)."),
    "error_text": filter_option("--error-text", "error_text", "PART", "Failed calls with PART in their error."),
    "user": filter_option("--user", "user", "ID", "Of this user: of the session, the metadata, or as sent."),
    "name": filter_option("--name", "name", "NAME", "Sessions of this name, and their calls."),
    "group": filter_option("--group", "group", "ID", "Sessions of this group, and their calls."),
    "experiment": filter_option("--experiment", "experiment", "NAME", "Sessions of this experiment, and their calls."),
    "task": filter_option("--task", "task", "ID", "Sessions of this task, and their calls."),
    "metadata": filter_option(
        "--meta", "metadata", "KEY=VALUE", "With this metadata, of a list one of its items; may be repeated.",
        type=KEY_VALUE, multiple=True,
    ),
}  # fmt: skip
"""The options that select calls, by the field of `CallFilter` they set; `callspan.stores.filters` has their SQL."""
_SCORES: Final = {
    "min_reward": filter_option("--min-reward", "min_reward", "R", "Sessions with at least this reward.", type=float),
    "objectives": filter_option(
        "--objective", "objectives", "NAME",
        "A column with the score of this objective: of a session the mean, of a call its own or its session's; may be "
        "repeated.",
        multiple=True,
    ),
    "label": filter_option("--label", "label", "L", "With this label of a reward or feedback."),
    "min_score": filter_option(
        "--min-score", "min_score", "S", "With at least this score of each --objective, or reward.", type=float
    ),
}  # fmt: skip
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
