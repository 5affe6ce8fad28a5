"""Filters: the SQL of filters and orders. A call without a label has its session's."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final

from callspan.amounts import EXACT
from callspan.record.codec import encodable
from callspan.record.interrupted import INTERRUPTED
from callspan.record.messages import WORDS
from callspan.stores.base import RUNNING, CallFilter, Order, SessionFilter
from callspan.stores.columns import PICO
from callspan.stores.database import Dialect

UNENDED: Final = frozenset({RUNNING, INTERRUPTED})
"""Outcomes of sessions without one in the store: they are told apart by their process."""
PROCESSES: Final = "SELECT DISTINCT host, pid FROM sessions WHERE outcome IS NULL AND end_ns IS NULL AND host = :host"
"""The processes of this host that have not ended their sessions."""
_IS_GONE: Final = "s.end_ns IS NULL AND s.host = :host AND replace(:gone, ',' || s.pid || ',', '') <> :gone"
_SUCCESS: Final = "coalesce(s.success, s.outcome = 'success')"
_SESSION: Final = {
    "user": "s.user_id = :user",
    "name": "s.name = :name",
    "group": "s.group_id = :group",
    "task": "s.task_id = :task",
    "experiment": "s.experiment = :experiment",
    "session_outcome": f"""coalesce(s.outcome,
      CASE WHEN {_IS_GONE} THEN {INTERRUPTED!r} ELSE {RUNNING!r} END) = :session_outcome""",
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
    "outcome": "c.outcome = :outcome",
    "stream_end": "c.stream_end = :stream_end",
    "min_retries": "c.retries >= :min_retries",
    "min_duration_ns": "c.duration_ns >= :min_duration_ns",
}
_OF_SESSION_ITSELF: Final = frozenset(
    {*SessionFilter.__struct_fields__, "session_id", "since_ns", "until_ns", "in_session", "limit", "offset"}
    | {"newest_first", "content"}
)
"""Fields of a `CallFilter` that for sessions are not about one of its calls."""
_USERS_STEP: Final = "IN (SELECT {} FROM timesteps t WHERE t.user_step_id = :timestep_id)"
_OWN: Final = {"name": "c.session_name", "user": "c.user_id"}
"""What calls have of the labels of sessions."""
_COLUMNS: Final = frozenset({"user_id", "organization_id", "project_id", "run_id", "agent_id", "workflow_id"})
_TEXT: Final = """c.call_id IN (
  WITH hit AS MATERIALIZED (
    SELECT t.owner, {ids} AS ids FROM contents t WHERE t.role IS NOT NULL AND {contains} GROUP BY t.owner)
  SELECT substr(owner, 3) FROM hit WHERE owner >= 'c:' AND owner < 'c;'
  UNION ALL SELECT k.call_id FROM hit h JOIN calls k ON k.session_id = substr(h.owner, 3) AND h.owner >= 's:'
   WHERE {refers})"""
"""The condition that a message of call `c` contains a text."""
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


def of_calls(which: SessionFilter) -> CallFilter | None:
    """Return the conditions for one of a session's calls; None if there are none."""
    if not isinstance(which, CallFilter):
        return None
    fields = {name: getattr(which, name) for name in CallFilter.__struct_fields__ if name not in _OF_SESSION_ITSELF}
    found = CallFilter(**fields | {"errors": which.errors or None})
    return None if found == CallFilter() else found


def key_parameters(name: str, key: str) -> dict[str, object]:
    """Return the values of the parameters of a key of metadata."""
    parts = enumerate(key.split(".")) if "." in key else ()
    return {name: key, **{f"{name}_{number}": part for number, part in parts}}


def call_condition(which: CallFilter, dialect: Dialect) -> str:
    """Return the condition on calls `c`; `parameters` returns its parameters."""
    return " AND ".join(_call_conditions(which, dialect)) or "1 = 1"


def _call_conditions(which: CallFilter, dialect: Dialect) -> Iterator[str]:
    yield from (text for name, text in _PLAIN.items() if getattr(which, name) is not None)
    yield from _kinds(which)
    if which.min_cost_usd is not None:
        yield f"{dialect.cost} >= :min_cost"
    if which.timestep_id is not None:
        known = dialect.compare("timestep_id", "= {}", ":timestep_id")
        yield f"({known} OR {dialect.compare('timestep_id', _USERS_STEP, 't.timestep_id')})"
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
        inherited = dialect.in_sessions.format(condition=dialect.has_value("s.metadata", key, name, value))
        known = own_label(key, dialect, name)
        has = dialect.has_value("c.metadata", key, name, value)
        mine = has if "(" in known else dialect.compare(known.removeprefix("c."), "= {}", value)
        yield f"({mine} OR ({known} IS NULL AND {inherited}))"


def _texts(which: CallFilter, dialect: Dialect) -> Iterator[str]:
    """Yield the conditions that texts contain others."""
    if which.text is not None:
        contains = dialect.contains.format(text="t.text", part=":text")
        yield _TEXT.format(ids=dialect.ids, contains=contains, refers=dialect.refers)
    if which.error_text is not None:
        of_error = (
            dialect.contains.format(text=f"c.{name}", part=":error_text") for name in ("error_type", "error_message")
        )
        yield f"{FAILED} AND ({' OR '.join(of_error)})"


def _kinds(which: CallFilter) -> Iterator[str]:
    """Yield the conditions on what kind of calls they are."""
    if which.in_session is not None:
        yield f"c.session_id IS {'NOT NULL' if which.in_session else 'NULL'}"
    if which.errors is not None:
        yield FAILED if which.errors else "c.outcome = 'success'"
    if which.in_progress is not None:
        yield f"c.outcome {'=' if which.in_progress else '<>'} 'in_progress'"
    if which.rate_limited is not None:
        yield f"{'' if which.rate_limited else 'NOT '}coalesce(c.rate_limited, false)"
    if which.finish is not None:
        words = ", ".join(map(repr, sorted(WORDS.get(which.finish, ()))))
        yield f"lower(c.finish_reason) IN ({words})" if words else "c.finish_reason = :finish"
    if which.cut_off is not None:
        yield f"coalesce(c.stream_end, '') {'=' if which.cut_off else '<>'} 'cut_off'"


def session_condition(which: SessionFilter, dialect: Dialect) -> str | None:
    """Return the condition on sessions `s`; None for all sessions."""
    found = [text for name, text in _SESSION.items() if getattr(which, name) is not None]
    for number, (key, _) in enumerate(which.metadata):
        found.append(dialect.has_value("s.metadata", key, f":key{number}", f":value{number}"))
    return " AND ".join(found) or None


def parameters(which: SessionFilter, gone: Iterable[int] = ()) -> dict[str, object]:
    """Return the values of the parameters of these conditions; `gone` are the processes of this host that ended."""
    named = (*_SESSION, *_PLAIN, "timestep_id", "finish")
    values: dict[str, object] = {name: value for name in named if (value := getattr(which, name, None)) is not None}
    if which.success is not None:
        values["success"] = int(which.success)
    if which.session_outcome is not None:
        values |= {"host": socket.gethostname(), "gone": "".join(f",{pid}," for pid in gone)}
    if which.min_cost_usd is not None:
        values["min_cost"] = whole_pico(which.min_cost_usd)
    for name in ("text", "error_text"):
        if (part := getattr(which, name, None)) is not None:
            values[name] = part.casefold()
    for number, (key, value) in enumerate(which.metadata):
        values |= key_parameters(f"key{number}", key) | {f"value{number}": value}
    # As records are written: what no store can hold would not even be a valid parameter.
    return {name: encodable(value) if isinstance(value, str) else value for name, value in values.items()}


def own_label(key: str, dialect: Dialect, parameter: str) -> str:
    """Return the SQL expression of a call's own value for a key: a column if there is one, else its metadata."""
    if key in _COLUMNS:
        return f"c.{key}"
    return dialect.label_of("c.metadata", key, parameter)
