"""Filters: the conditions that select calls and sessions, and their SQL. A call without a label has its session's.

A new condition is a field here, with its SQL and its parameter.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from callspan.amounts import EXACT
from callspan.record.interrupted import INTERRUPTED
from callspan.record.messages import WORDS
from callspan.stores.base import IN_PROGRESS, Content, Order
from callspan.stores.columns import PICO
from callspan.stores.database import Dialect


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls or sessions: all conditions must hold; None is no condition.

    Of sessions: those with such a call; `session_id`, `since_ns` and `until_ns` are then of the session, and with
    `errors=False` none of its calls failed.
    """

    user: str | None = None
    """The user; for a call: `user_id` of its metadata, else as sent to the provider, else of its session."""
    name: str | None = None
    """The session's name."""
    group: str | None = None
    """The session's `group_id`."""
    task: str | None = None
    """The session's `task_id`."""
    experiment: str | None = None
    """The session's experiment."""
    session_outcome: str | None = None
    """The outcome of the session; `in_progress` without one, `interrupted` where its process ended before it did."""
    success: bool | None = None
    """Whether the session succeeded, see `SessionSummary.succeeded`."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Keys and their values as text (`7`, `true`); a list has each of its values. Of a call: its own metadata, else
    that of its session."""
    min_cost_usd: Decimal | None = None
    """At least this cost in US dollars, in whole picodollars; of a session, of its calls together."""
    min_duration_ns: int | None = None
    """At least this duration in nanoseconds."""
    sort: Order = "start"
    """The order, largest first, then newest first; those whose value is unknown are last."""

    session_id: str | None = None
    """Of the session of this whole id."""
    in_session: bool | None = None
    """True: only calls of a session, any; False: only calls outside of sessions."""
    timestep_id: str | None = None
    """Of a timestep, or the application's own id of one."""
    response_id: str | None = None
    """The provider's id of the response."""
    conversation_id: str | None = None
    """Of the provider's conversation, `conversation` of the Responses API."""
    model: str | None = None
    """Requested or response model, full name."""
    provider: str | None = None
    """Provider name of the conventions, such as `openai`."""
    since_ns: int | None = None
    """Started at this time or later, Unix nanoseconds."""
    until_ns: int | None = None
    """Started before this time, Unix nanoseconds."""
    errors: bool | None = None
    """True: only calls whose outcome is error or timeout; False: only successes."""
    outcome: str | None = None
    """How the call ended, one of `callspan.records.Outcome`."""
    finish: str | None = None
    """Its `finish_reason`: a provider's word, or `stop`, `length`, `tool_calls`, `content_filter` for all of theirs."""
    stream_end: str | None = None
    """How its stream ended, one of `callspan.record.call.Stream`."""
    min_retries: int | None = None
    """At least so many retries."""
    rate_limited: bool | None = None
    """True: only calls of which an attempt got a 429; False: only other calls."""
    cut_off: bool | None = None
    """True: only streams that stopped without their terminal event; False: only other calls."""
    batch_id: str | None = None
    """The provider's id of a batch, of which the calls are the lines."""
    text: str | None = None
    """Part of a message's text, case-insensitive."""
    error_text: str | None = None
    """Part of the type or the message of the error of a call that failed, case-insensitive."""
    limit: int | None = None
    """At most this number; None: all."""
    offset: int = 0
    """Skip this number first."""
    newest_first: bool = True
    """Newest or oldest first; with another order largest or smallest first."""
    content: Content = "all"
    """Calls are read several times faster without the bodies of their requests."""


UNENDED: Final = frozenset({IN_PROGRESS, INTERRUPTED})
"""Outcomes of sessions and calls without an end in the store: they are told apart by their process."""
PROCESSES: Final = """
SELECT DISTINCT pid FROM sessions WHERE outcome IS NULL AND end_ns IS NULL AND host = :host
 UNION SELECT DISTINCT pid FROM calls WHERE part = 'started' AND host = :host"""
"""The processes of this host that have not ended their sessions or calls."""
_OF_GONE: Final = "{0}.host = :host AND replace(:gone, ',' || {0}.pid || ',', '') <> :gone"
_IS_GONE: Final = f"s.end_ns IS NULL AND {_OF_GONE.format('s')}"
_IS_INTERRUPTED: Final = f"c.part = 'started' AND c.response_id IS NULL AND {_OF_GONE.format('c')}"
_OUTCOME: Final = f"CASE WHEN {_IS_INTERRUPTED} THEN {INTERRUPTED!r} ELSE c.outcome END"
_SUCCESS: Final = "coalesce(s.success, s.outcome = 'success')"
_SESSION: Final = {
    "user": "s.user_id = :user",
    "name": "s.name = :name",
    "group": "s.group_id = :group",
    "task": "s.task_id = :task",
    "experiment": "s.experiment = :experiment",
    "session_outcome": f"""coalesce(s.outcome,
      CASE WHEN {_IS_GONE} THEN {INTERRUPTED!r} ELSE {IN_PROGRESS!r} END) = :session_outcome""",
    "success": f"CASE WHEN {_SUCCESS} THEN 1 WHEN NOT ({_SUCCESS}) THEN 0 END = :success",
}
FAILED: Final = "c.outcome IN ('error', 'timeout')"
"""The condition that a call `c` failed."""
_PLAIN: Final = {
    "session_id": "c.session_id = :session_id",
    "response_id": "c.response_id = :response_id",
    "batch_id": "c.batch_id = :batch_id",
    "conversation_id": "c.conversation_id = :conversation_id",
    "model": "(c.model_req = :model OR c.model_resp = :model)",
    "provider": "c.provider = :provider",
    "since_ns": "c.start_ns >= :since_ns",
    "until_ns": "c.start_ns < :until_ns",
    "stream_end": "c.stream_end = :stream_end",
    "min_retries": "c.retries >= :min_retries",
    "min_duration_ns": "c.duration_ns >= :min_duration_ns",
    "timestep_id": """(c.timestep_id = :timestep_id
      OR c.timestep_id IN (SELECT t.timestep_id FROM timesteps t WHERE t.user_step_id = :timestep_id))""",
}
_FLAGS: Final = {
    "in_session": ("c.session_id IS NOT NULL", "c.session_id IS NULL"),
    "errors": (FAILED, "c.outcome = 'success'"),
    "rate_limited": ("coalesce(c.rate_limited, false)", "NOT coalesce(c.rate_limited, false)"),
    "cut_off": ("coalesce(c.stream_end, '') = 'cut_off'", "coalesce(c.stream_end, '') <> 'cut_off'"),
}
"""The conditions where a field is true, and where it is false."""
_OF_SESSION_ITSELF: Final = frozenset(
    {*_SESSION, "metadata", "min_cost_usd", "min_duration_ns", "sort", "session_id", "since_ns", "until_ns"}
    | {"in_session", "limit", "offset", "newest_first", "content"}
)
"""Fields of a `CallFilter` that for sessions are not about one of its calls."""
_OWN: Final = {"name": "c.session_name", "user": "c.user_id"}
"""The labels that calls share with their sessions."""
_COLUMNS: Final = frozenset({"user_id", "organization_id", "project_id", "run_id", "agent_id", "workflow_id"})
_MOST_PICO: Final = 9 * 10**18
"""Larger amounts count as this one where calls are sorted by their cost: a sum of 63 bits has no room for them."""
TOKENS: Final = """
CASE WHEN coalesce(c.in_tok, c.out_tok) IS NULL THEN NULL ELSE coalesce(c.in_tok, 0) + coalesce(c.out_tok, 0) END
"""


def order_of(sort: Order, cost: str) -> tuple[str, ...]:
    """Return the keys that calls `c` are sorted by; `cost` is their cost in whole picodollars."""
    values = {"cost": cost, "duration": "c.duration_ns", "tokens": TOKENS.strip(), "retries": "c.retries"}
    first = () if sort == "start" else (f"coalesce({values[sort]}, -1)",)
    return (*first, "c.start_ns", "c.call_id")


def whole_pico(usd: Decimal) -> int | None:
    """Return an amount in whole picodollars, rounded down; None for NaN and infinities."""
    if not usd.is_finite():
        return None
    most = _MOST_PICO if usd > 0 else -_MOST_PICO
    return int(EXACT.multiply(usd, PICO)) if usd.copy_abs() < _MOST_PICO // PICO else most


_CONVERTED: Final[Mapping[str, Callable[[Any], object]]] = {
    "success": int, "min_cost_usd": whole_pico, "text": str.casefold, "error_text": str.casefold,
}  # fmt: skip
"""The fields whose parameters have other values, and what gives them."""


def of_calls(which: CallFilter) -> CallFilter | None:
    """Return the conditions for one of a session's calls; None if there are none."""
    fields = {name: getattr(which, name) for name in CallFilter.__struct_fields__ if name not in _OF_SESSION_ITSELF}
    found = CallFilter(**fields | {"errors": which.errors or None})
    return None if found == CallFilter() else found


def call_condition(which: CallFilter, dialect: Dialect) -> str:
    """Return the condition on calls `c`; `parameters` returns its parameters."""
    return " AND ".join(_call_conditions(which, dialect)) or "1 = 1"


def _call_conditions(which: CallFilter, dialect: Dialect) -> Iterator[str]:
    yield from (text for name, text in _PLAIN.items() if getattr(which, name) is not None)
    yield from _kinds(which)
    if which.min_cost_usd is not None:
        yield f"{dialect.cost} >= :min_cost_usd"
    yield from _labels(which, dialect)
    yield from _texts(which, dialect)


def _labels(which: CallFilter, dialect: Dialect) -> Iterator[str]:
    """Yield the conditions on labels, which a call may have from its session."""
    for name, session in _SESSION.items():
        if getattr(which, name) is not None:
            inherited = dialect.in_sessions.format(condition=session)
            mine = _OWN.get(name)
            yield inherited if mine is None else f"({mine} = :{name} OR ({mine} IS NULL AND {inherited}))"
    for number, (key, _) in enumerate(which.metadata):
        name, value = f":key{number}", f":value{number}"
        inherited = dialect.in_sessions.format(condition=dialect.has.format(at=f"s.metadata, {name}", value=value))
        known = own_label(key, name)
        mine = f"{known} = {value}" if key in _COLUMNS else dialect.has.format(at=f"c.metadata, {name}", value=value)
        yield f"({mine} OR ({known} IS NULL AND {inherited}))"


def _texts(which: CallFilter, dialect: Dialect) -> Iterator[str]:
    """Yield the conditions that texts contain others."""
    if which.text is not None:
        yield dialect.has_message.format(contains=dialect.contains.format(text="t.text", part=":text"))
    if which.error_text is not None:
        of_error = (
            dialect.contains.format(text=f"c.{name}", part=":error_text") for name in ("error_type", "error_message")
        )
        yield f"{FAILED} AND ({' OR '.join(of_error)})"


def _kinds(which: CallFilter) -> Iterator[str]:
    """Yield the conditions on the kind of calls."""
    for name, (is_so, is_not) in _FLAGS.items():
        if (wanted := getattr(which, name)) is not None:
            yield is_so if wanted else is_not
    if which.outcome is not None:
        yield f"{_OUTCOME if which.outcome in UNENDED else 'c.outcome'} = :outcome"
    if which.finish is not None:
        words = ", ".join(map(repr, sorted(WORDS.get(which.finish, ()))))
        yield f"lower(c.finish_reason) IN ({words})" if words else "c.finish_reason = :finish"


def session_condition(which: CallFilter, dialect: Dialect) -> str | None:
    """Return the condition on sessions `s`; None for all sessions."""
    found = [text for name, text in _SESSION.items() if getattr(which, name) is not None]
    for number, _ in enumerate(which.metadata):
        found.append(dialect.has.format(at=f"s.metadata, :key{number}", value=f":value{number}"))
    return " AND ".join(found) or None


def parameters(which: CallFilter, gone: Iterable[int] = ()) -> dict[str, object]:
    """Return the values of the parameters of these conditions; `gone` are the processes of this host that ended."""
    values: dict[str, object] = {}
    for name in (*_SESSION, *_PLAIN, "outcome", "finish", "min_cost_usd", "text", "error_text"):
        if (value := getattr(which, name)) is not None:
            values[name] = _CONVERTED[name](value) if name in _CONVERTED else value
    if values.keys() & {"session_outcome", "outcome"}:
        values |= {"host": socket.gethostname(), "gone": "".join(f",{pid}," for pid in gone)}
    for number, (key, value) in enumerate(which.metadata):
        values |= {f"key{number}": key, f"value{number}": value}
    return values


def own_label(key: str, parameter: str) -> str:
    """Return the SQL expression of a call's own value for a key: a column if there is one, else its metadata."""
    return f"c.{key}" if key in _COLUMNS else f"callspan_label(c.metadata, {parameter})"
