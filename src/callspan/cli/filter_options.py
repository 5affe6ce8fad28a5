"""Filter options: they select calls; and the click types of option values (an invalid value is a usage error)."""

from __future__ import annotations

import functools
import math
import os
import re
import time
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

import click
import msgspec

from callspan.cli.command_context import CommandContext
from callspan.cli.safe_text import clean, whole_characters
from callspan.cli.score_filter import NO_SCORING, Scoring
from callspan.conversion import converter
from callspan.record.call import Outcome, StreamEnd
from callspan.safe_urls import is_http_url, safe_name, safe_url
from callspan.stores.base import ORDERS
from callspan.stores.filters import CallFilter
from callspan.stores.named import CUT, ambiguous
from callspan.stores.reader import Reader

if TYPE_CHECKING:
    IntType: TypeAlias = click.ParamType[int]
    FloatType: TypeAlias = click.ParamType[float]
    TextType: TypeAlias = click.ParamType[str]
    DecimalType: TypeAlias = click.ParamType[Decimal]
    PairType: TypeAlias = click.ParamType[tuple[str, str]]
else:
    # Older versions of click cannot subscript it.
    IntType = FloatType = TextType = DecimalType = PairType = click.ParamType

_MOST: Final = 2**53
_LONGEST_S: Final = 365 * 86_400.0
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LAST_NS: Final = 2**63 - 1
"""The largest time that stores can hold, in the year 2262."""
_EXACT_NS: Final = 2**53
_EPOCH: Final = 1970
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")

_NS_PER_S: Final = 1_000_000_000
_Command: TypeAlias = Callable[..., Any]


class Rows(click.IntRange):
    """A number of rows, capped at 2**53."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - as click has it
        """Return the number."""
        return min(int(super().convert(value, param, ctx)), _MOST)


class Seconds(click.FloatRange):
    """A time to wait in seconds, capped at one year."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Return seconds."""
        seconds = float(super().convert(value, param, ctx))
        return min(seconds, _LONGEST_S) if not math.isnan(seconds) else self.fail(f"{value!r} is no time", param, ctx)


class Amount(FloatType):
    """A number; NaN is invalid."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Return the number."""
        number = float(click.FLOAT.convert(value, param, ctx))
        return number if not math.isnan(number) else self.fail(f"{value!r} is no number", param, ctx)


class File(click.Path):
    """The path of a file; `-` means stdout if `allow_dash` is set."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        if not str(value):
            self.fail("an empty name is no file", param, ctx)
        try:
            return Path(os.fsdecode(super().convert(value, param, ctx)))
        except (ValueError, OSError) as error:
            self.fail(f"{clean(str(value))}: {error}", param, ctx)


class HttpUrl(TextType):
    """The URL of an HTTP server."""

    name = "url"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the URL."""
        text = str(value)
        return text if is_http_url(text) else self.fail(f"{safe_url(text)!r}: write http://host:port", param, ctx)


class Moment(IntType):
    """A time, given as an age (`30m`, `2h`, `3d`) or in ISO 8601, in Unix nanoseconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return Unix nanoseconds; a time without a zone is local time."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        found = _AGO.fullmatch(text)
        if found:
            ago = float(found[1]) * _UNITS_S[found[2]] * 1e9
            return int(max(0.0, time.time_ns() - ago)) if ago > _EXACT_NS else time.time_ns() - int(ago)
        try:
            moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            self.fail(f"{text!r}: write 30m, 2h, 3d or a time such as 2026-11-20T08:00", param, ctx)
        try:
            seconds = int(moment.astimezone().replace(microsecond=0).timestamp())
        except (ValueError, OverflowError, OSError):
            # Near year 1 or 9999, where conversion to another zone overflows.
            return -_LAST_NS if moment.year < _EPOCH else _LAST_NS
        return max(-_LAST_NS, min(seconds * 1_000_000_000 + moment.microsecond * 1000, _LAST_NS))


MOMENT: Final = Moment()


class KeyValue(PairType):
    """`key=value`."""

    name = "key=value"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return key and value."""
        if isinstance(value, tuple):
            return value[0], value[1]
        key, equals, wanted = str(whole_characters(str(value))).partition("=")
        return (key, wanted) if equals and key else self.fail(f"{clean(str(value))!r}: write key=value", param, ctx)


class Money(DecimalType):
    """A decimal number, without rounding."""

    name = "usd"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Return the exact `Decimal`."""
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            self.fail(f"{value!r}: write an amount in dollars, such as 0.25", param, ctx)
        return amount if amount.is_finite() else self.fail(f"{value!r} is no amount", param, ctx)


class Lasting(IntType):
    """A duration, as `500ms`, `30`, `30s` or `2m`, in nanoseconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return nanoseconds."""
        if isinstance(value, int):
            return value
        found = _LASTING.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{clean(str(value))!r}: write 500ms, 30s, 2m or 1h", param, ctx)
        return min(int(Decimal(found[1]) * _UNITS_NS[found[2] or "s"]), _LAST_NS)


_LASTING: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_UNITS_NS: Final = {"ms": 1_000_000, **{unit: seconds * _NS_PER_S for unit, seconds in _UNITS_S.items()}}

OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)
ENDS: Final[tuple[str, ...]] = get_args(StreamEnd)
OPTIONS: Final[dict[str, Callable[[_Command], _Command]]] = {
    "session_id": click.option(
        "--session", "session_id", metavar="ID", help="Only calls of this session (id or unique prefix)."
    ),
    "model": click.option("--model", metavar="NAME", help="Only calls whose requested or response model is this one."),
    "provider": click.option("--provider", metavar="NAME", help="Only calls to this provider, such as openai."),
    "since_ns": click.option(
        "--since", "since_ns", type=MOMENT, metavar="TIME", help="Only after this time: 30m, 2h, 3d ago, or ISO 8601."
    ),
    "until_ns": click.option("--until", "until_ns", type=MOMENT, metavar="TIME", help="Only before this time."),
    "errors": click.option(
        "--failed/--no-failed", "errors", default=None, help="Only failed / only successful calls."
    ),
    "outcome": click.option(
        "--status", "outcome", type=click.Choice(OUTCOMES), metavar="WORD",
        help=f"Only calls that ended so: {', '.join(OUTCOMES)}.",
    ),
    "finish": click.option(
        "--finish",
        metavar="WORD",
        help="Only calls that finished for this reason: length (cut at the limit of tokens), stop, tool_calls, "
        "content_filter, each with the words of all providers for it; or a provider's own word.",
    ),
    "stream_end": click.option(
        "--stream-end", type=click.Choice(ENDS), metavar="WORD", help=f"Only streams that ended so: {', '.join(ENDS)}."
    ),
    "cut_off": click.option(
        "--cut-off/--no-cut-off", "cut_off", default=None, help="Only streams that stopped without their end / others."
    ),
    "min_retries": click.option(
        "--retries", "min_retries", type=Rows(0), metavar="N", help="Only calls with at least N retries."
    ),
    "rate_limited": click.option(
        "--rate-limited/--no-rate-limited", default=None, help="Only calls that a provider rejected with 429 / others."
    ),
    "min_cost_usd": click.option(
        "--min-cost", "min_cost_usd", type=Money(), metavar="USD", help="Only from this cost on."
    ),
    "min_duration_ns": click.option(
        "--min-duration", "min_duration_ns", type=Lasting(), metavar="TIME",
        help="Only what took this long: 500ms, 30s, 2m.",
    ),
    "in_progress": click.option(
        "--in-progress/--no-in-progress", "in_progress", default=None,
        help="Only background responses and lines of batches that are not known to have ended / others.",
    ),
    "batch_id": click.option("--batch", "batch_id", metavar="ID", help="Only calls that are lines of this batch."),
    "conversation_id": click.option(
        "--conversation", "conversation_id", metavar="ID", help="Only calls of this conversation of the Responses API."
    ),
    "text": click.option("--text", metavar="PART", help="Only calls whose messages contain PART (case-insensitive)."),
    "error_text": click.option(
        "--error-text", "error_text", metavar="PART",
        help="Only calls that failed with PART in the type or message of the error (case-insensitive).",
    ),
    "timestep_id": click.option(
        "--step", "timestep_id", metavar="ID", help="Only calls of this timestep: its id, or your own."
    ),
    "user": click.option("--user", metavar="ID", help="Only of this user: of the session, the metadata, or as sent."),
    "name": click.option("--name", metavar="NAME", help="Only sessions of this name, and their calls."),
    "group": click.option("--group", metavar="ID", help="Only sessions of this group, and their calls."),
    "experiment": click.option(
        "--experiment", metavar="NAME", help="Only sessions of this experiment, and their calls."
    ),
    "task": click.option("--task", metavar="ID", help="Only sessions of this task, and their calls."),
    "metadata": click.option(
        "--meta",
        "metadata",
        type=KeyValue(),
        multiple=True,
        help="Only with this metadata; may be repeated (all must hold).",
    ),
}  # fmt: skip
"""The options that select calls, by the field of `CallFilter` they set; `callspan.stores.filters` has their SQL."""
_SCORES: Final = (
    click.option("--min-reward", type=Amount(), metavar="R", help="Only sessions with at least this reward."),
    click.option(
        "--objective",
        "objectives",
        metavar="NAME",
        multiple=True,
        help="Show the score of this objective: of a session the mean, of a call its own or its session's; may be "
        "repeated.",
    ),
    click.option("--label", metavar="L", help="Only with this label of a reward or feedback."),
    click.option(
        "--min-score", type=Amount(), metavar="S", help="Only with at least this score of each --objective, or reward."
    ),
)
_SCORE: Final = "score"
_TAG: Final = click.option(
    "--tag", "tags", metavar="TAG", multiple=True, help="Only with this tag; may be repeated (all must hold)."
)
_SORT: Final = click.option(
    "--sort",
    type=click.Choice((*ORDERS, _SCORE)),
    default="start",
    show_default=True,
    help="Worst first: the largest, of scores (of the first --objective, else the reward) the lowest.",
)


def call_options(function: _Command) -> _Command:
    """Add the options that select calls; the command gets them as one `CallFilter`, its argument `which`.

    Options about scores are applied by the context's reader.
    """
    return options_of(*OPTIONS)(function)


def sort_option(function: _Command) -> _Command:
    """Add `--sort`, below the options of a filter, whose field it sets."""
    return _SORT(function)


def selecting(function: _Command) -> _Command:
    """Add the options that select calls, without those of one session and of scores."""
    return options_of(*(name for name in OPTIONS if name != "session_id"), scores=False)(function)


def options_of(*fields: str, scores: bool = True) -> Callable[[_Command], _Command]:
    """Return what adds the options of these fields of `CallFilter`, `--tag` with its metadata, and those of scores."""

    def add(function: _Command) -> _Command:
        @functools.wraps(function)
        def filtered(*args: object, **options: object) -> object:
            scoring = _scoring(options) if scores else {}
            names = [name for name in (*fields, "sort") if name in options]
            tags = msgspec.convert(options.pop("tags", ()), tuple[str, ...])
            chosen = {name: whole_characters(options.pop(name)) for name in names}
            if tags:
                given = msgspec.convert(chosen["metadata"], tuple[tuple[str, str], ...])
                chosen["metadata"] = (*given, *(("tags", whole_characters(tag)) for tag in tags))
            return function(*args, which=converter(CallFilter)(chosen), **scoring, **options)

        added: _Command = filtered
        for option in reversed(_SCORES if scores else ()):
            added = option(added)
        if "metadata" in fields:
            added = _TAG(added)
        for name in reversed(fields):
            added = OPTIONS[name](added)
        return added

    return add


def _scoring(options: dict[str, object]) -> dict[str, Scoring]:
    """Take the options about scores, and `--sort score`; return them for the context, if there are any."""
    given = {name: whole_characters(options.pop(name)) for name in ("objectives", "min_score", "min_reward", "label")}
    if options.get("sort") == _SCORE:
        given["sorts"], options["sort"] = True, "start"
    scoring = converter(Scoring)(given)
    return {} if scoring == NO_SCORING else {"scoring": scoring}


def resolve_session(context: CommandContext, reader: Reader, which: CallFilter) -> CallFilter:
    """Return the filter with its session prefix resolved to an id. Ends the command if no session matches."""
    if which.session_id is None:
        return which
    session = reader.session(ident := which.session_id.rstrip(CUT))
    if session is None:
        context.no_match(ambiguous(reader, ident) or f"No session {ident} in {safe_name(context.store)}.")
    return msgspec.structs.replace(which, session_id=session.session.session_id)
