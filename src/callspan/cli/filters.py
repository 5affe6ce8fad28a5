"""Filters: the options that select calls and sessions, shared by commands and by the page's filter line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, get_args

import click

from callspan.cli.values import COUNT, DURATION, KEY_VALUE, MOMENT, NUMBER, USD, Value
from callspan.records import Outcome, StreamEnd
from callspan.runtime.conversion import converter
from callspan.stores import LISTED, ORDERS, CallFilter

_FACTS: Final = frozenset({*LISTED, "group_id", "task_id", "conversation_id"} - {"metadata"})
"""The facts that name an option too. Not metadata: `--metadata` is an option of `export`."""
_UNIT: Final = re.compile("_(?:ns|usd)$")
_WITH_UNITS: Final = {_UNIT.sub("", name): name for name in ORDERS}


class Filter(click.Option):
    """An option that selects records; `--help` lists only its name, beside similar options.

    The name of its fact is an option too: `--user-id` is `--user`.
    """

    def __init__(
        self,
        option: str,
        field: str,
        metavar: str | None = None,
        *,
        listed: str | None = None,
        fact: str | None = None,
        **attributes: Any,
    ) -> None:
        fact = field if fact is None else fact
        fact_options = [f"--{fact.replace('_', '-')}"] if fact in _FACTS and "/" not in option else []
        super().__init__([*dict.fromkeys([option, *fact_options]), field], metavar=metavar, **attributes)
        self.listed = self.opts[0] if listed is None else listed
        """Its name in `--help`; empty if a similar option's entry includes it."""


def _bounds(measure: str, field: str, kind: Value, listed: str = "") -> Iterator[Filter]:
    """Yield the minimum and the maximum of a measure."""
    yield Filter(f"--min-{measure}", f"min_{field}", "N", listed=listed, type=kind)
    yield Filter(f"--max-{measure}", f"max_{field}", "N", listed="", type=kind)


class SortKey(click.Choice[str]):
    """The name of a fact to sort by; its unit may be left out."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name with its unit. Raises click.BadParameter for an unknown name."""
        return super().convert(_WITH_UNITS.get(value, value), param, ctx)


_CALLS: Final = (
    Filter("--id", "ids", "ID", listed="--id/--session", multiple=True),
    Filter("--session", "session_id", "ID", listed=""),
    Filter("--step", "timestep_id", "ID"),
    Filter("--model", "model", "NAME", listed="--model/--provider"),
    Filter("--provider", "provider", "NAME", listed=""),
    Filter("--since", "since_ns", "TIME", listed="--since/--until", type=MOMENT),
    Filter("--until", "until_ns", "TIME", listed="", type=MOMENT),
    Filter("--failed/--no-failed", "errors", default=None),
    Filter("--status", "outcome", "WORD", type=click.Choice(get_args(Outcome))),
    Filter("--finish", "finish_reason", "WORD"),
    Filter("--stream-end", "stream_end", "WORD", type=click.Choice(get_args(StreamEnd))),
    Filter("--cut-off", "cut_off", listed="", is_flag=True, default=None),
    Filter("--cut/--no-cut", "cut", listed="--cut[-off]", default=None),
    Filter("--refused/--no-refused", "refused", default=None),
    Filter("--cached/--no-cached", "cached", default=None),
    Filter("--retries", "min_retries", "N", type=COUNT),
    Filter("--rate-limited", "rate_limited", is_flag=True, default=None),
    *_bounds("cost", "cost_usd", USD, listed="--min/max-cost/-duration/-tokens"),
    *_bounds("duration", "duration_ns", DURATION),
    *_bounds("tokens", "tokens", COUNT),
    Filter("--batch", "batch_id", "ID", listed="--batch/--conversation"),
    Filter("--conversation", "conversation_id", "ID", listed=""),
    Filter("--text", "text", "PART", listed="--[error-]text"),
    Filter("--error-text", "error_text", "PART", listed=""),
    Filter("--user", "user_id", "ID"),
    Filter("--name", "name", "NAME", listed="--name/--experiment"),
    Filter("--group", "group_id", "ID"),
    Filter("--experiment", "experiment", "NAME", listed=""),
    Filter("--task", "task_id", "ID"),
    Filter("--meta", "metadata", "KEY=VALUE", type=KEY_VALUE, multiple=True),
)
"""The options that select calls, by the field of `CallFilter` they set; `callspan.stores.query.filters` has their
SQL."""
_SCORES: Final = (
    Filter("--min-reward", "min_reward", "R", listed="--min-reward/-score", type=NUMBER),
    Filter("--objective", "objectives", "NAME", multiple=True),
    Filter("--label", "label", "LABEL"),
    Filter("--min-score", "min_score", "S", listed="", type=NUMBER),
)
_SORT: Final = click.Option(
    ["--sort"],
    type=SortKey(ORDERS),
    default="start_ns",
    metavar="KEY",
    help=f"Worst first, by {', '.join(list(_WITH_UNITS)[1:])}.",
)
_CALL_FIELDS: Final = frozenset(CallFilter.__struct_fields__) - {"limit", "offset"}
_to_call_filter = converter(CallFilter)


def filters(*excluded_fields: str, scores: bool = True, sort: bool = False) -> list[click.Option]:
    """Return the options that select calls, without the ones for `excluded_fields` of `CallFilter`."""
    options = [option for option in _CALLS if option.name not in excluded_fields]
    return [*options, *(_SCORES if scores else ()), *([_SORT] if sort else [])]


def selected(options: dict[str, object]) -> CallFilter:
    """Remove the filter options and `--sort` from a command's `options`, and return their selection."""
    return _to_call_filter({name: options.pop(name) for name in [*options] if name in _CALL_FIELDS})
