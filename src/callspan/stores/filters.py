"""Filters: the SQL of filters, orders and groupings, in each dialect. A call without a label has its session's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final, NamedTuple, get_args

from callspan.amounts import EXACT
from callspan.record.codec import encodable
from callspan.record.messages import LENGTH, WORDS
from callspan.stores.base import RUNNING, CallFilter, Grouping, Order, SessionFilter
from callspan.stores.columns import PICO

META: Final = "meta:"
"""Prefix of a metadata key to group by."""
GROUPINGS: Final[tuple[str, ...]] = get_args(Grouping)
_LENGTH_WORDS: Final = ", ".join(map(repr, sorted(WORDS[LENGTH])))
UNENDED: Final = frozenset({RUNNING, "interrupted"})
"""Outcomes of sessions without one in the store: readers tell them apart by their process."""
_SUCCESS: Final = "coalesce(s.success, s.outcome = 'success')"
_SESSION: Final = {
    "user": "s.user_id = :user",
    "name": "s.name = :name",
    "group": "s.group_id = :group",
    "task": "s.task_id = :task",
    "experiment": "s.experiment = :experiment",
    "session_outcome": f"coalesce(s.outcome, {RUNNING!r}) = :session_outcome",
    "success": f"CASE WHEN {_SUCCESS} THEN 1 WHEN NOT ({_SUCCESS}) THEN 0 END = :success",
}
GROUPS: Final = {
    "model": "coalesce(c.model_req, c.model_resp)",
    "provider": "c.provider",
    "session": "c.session_id",
}
"""SQL expressions to group calls `c` by; times are in the readers, labels in `grouping`."""
SUMS: Final = """
SELECT {keys}, count(*) AS calls,
  sum(CASE WHEN c.outcome IN ('error', 'timeout') THEN 1 ELSE 0 END) AS errors,
  sum(CASE WHEN c.outcome = 'cancelled' THEN 1 ELSE 0 END) AS cancelled,
  sum(CASE WHEN c.stream_end = 'cut_off' THEN 1 ELSE 0 END) AS cut_off,
  sum(CASE WHEN lower(c.finish_reason) IN ({length}) THEN 1 ELSE 0 END) AS cut_by_length,
  CAST(sum(c.in_tok) AS bigint) AS input_tokens, CAST(sum(c.out_tok) AS bigint) AS output_tokens,
  CAST(sum(c.cache_read_tok) AS bigint) AS cache_read_tokens, CAST(sum(c.reasoning_tok) AS bigint) AS reasoning_tokens,
  sum(c.cost_picousd) AS pico, count(c.cost_usd) AS priced, count(c.cost_picousd) AS exact,
  CAST(sum(c.retries) AS bigint) AS retries, min(c.start_ns) AS first_ns,
  max(coalesce(c.end_ns, c.start_ns)) AS last_ns{more}
FROM {source} WHERE {where} GROUP BY {positions} ORDER BY count(*) DESC, {order}
""".replace("{length}", _LENGTH_WORDS)
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
_USER: Final = "'user_id'"
_BY: Final = "label_key"
_OF_SESSION: Final = re.compile(r"\bs\.")
_COLUMNS: Final = frozenset({"user_id", "organization_id", "project_id", "run_id", "agent_id", "workflow_id"})
_JOINED: Final = "calls c LEFT JOIN sessions s ON s.session_id = c.session_id"
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


def checked_groupings(by: str | Sequence[str]) -> tuple[str, ...]:
    """Return one or several valid groupings. Raises ValueError if there is none, or an invalid one."""
    found = tuple(map(checked_grouping, [by] if isinstance(by, str) else by))
    return found or (checked_grouping(""),)


def checked_grouping(by: str) -> str:
    """Return a valid grouping. Raises ValueError if it is neither a field nor `meta:KEY`."""
    if by in GROUPINGS or (by.startswith(META) and by != META):
        return by
    raise ValueError(f"summary: by={by!r} is unknown; use {', '.join(GROUPINGS)} or {META}KEY")


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


class MetadataSql(NamedTuple):
    """How a dialect reads metadata: SQL with `@` for the value of a key and `{value}` for a parameter."""

    at: str
    """The value in a column `{json}` at a path of parameters, joined by `step`; the first that there is counts."""
    step: str
    first: str
    """The first of the values `{values}` that there is."""
    label: str
    """The text that a key is grouped under, NULL where it has none."""
    has: str
    """Whether a key has the value, or a list with it."""
    end: str = "@"
    """The end of a value `@`, which is all that the indexes of the columns `by_end` hold, to be small."""
    by_end: frozenset[str] = frozenset()

    def compare(self, column: str, form: str, value: str) -> str:
        """Return the SQL condition that compares a column of calls `c` as in `= {}` with a value, by its index.

        It is to be one side of an OR: elsewhere SQLite puts the value into the end of the column, and scans.
        """
        exact = f"c.{column} {form.format(value)}"
        if column not in self.by_end:
            return exact
        return f"({self._end(f'c.{column}')} {form.format(self._end(value))} AND {exact})"

    def _end(self, value: str) -> str:
        return self.end.replace("@", value)

    def label_of(self, json: str, key: str, parameter: str) -> str:
        """Return the SQL for the label of a key, whose parameter has this name."""
        return self.label.replace("@", self._value(json, key, parameter))

    def has_value(self, json: str, key: str, parameter: str, value: str) -> str:
        """Return the SQL condition that a key has the value of a parameter."""
        return self.has.replace("@", self._value(json, key, parameter)).replace("{value}", value)

    def _value(self, json: str, key: str, parameter: str) -> str:
        paths = [[parameter], ["'extra'", parameter]]
        if "." in key:
            nested = [f"{parameter}_{number}" for number, _ in enumerate(key.split("."))]
            paths += [nested, ["'extra'", *nested]]
        values = (self.at.format(json=json, path=self.step.join(path)) for path in paths)
        return self.first.format(values=", ".join(values), json=json, key=parameter)


def _key_parameters(name: str, key: str) -> dict[str, object]:
    """Return the values of the parameters of a key of metadata."""
    parts = enumerate(key.split(".")) if "." in key else ()
    return {name: key, **{f"{name}_{number}": part for number, part in parts}}


SQLITE: Final = MetadataSql(
    "", "", "{json}, {key}", label="callspan_label(@)", has="callspan_has(@, {value})", end="substr(@, -4)",
    by_end=frozenset({"timestep_id", "workflow_id", "organization_id"}),
)  # fmt: skip
"""By functions that its reader registers, which know the paths."""
POSTGRES: Final = MetadataSql(
    at="nullif(({json} -> {path}::text)::text, 'null')",
    step="::text -> ",
    first="coalesce({values})::json",
    label="CASE json_typeof(@) WHEN 'object' THEN NULL ELSE @ #>> ARRAY[]::text[] END",
    has="""CASE json_typeof(@) WHEN 'object' THEN false
  WHEN 'array' THEN EXISTS (SELECT 1 FROM json_array_elements(@) e WHERE e #>> ARRAY[]::text[] = {value})
  ELSE @ #>> ARRAY[]::text[] = {value} END""",
    end="right(@, 4)",
    by_end=frozenset({"timestep_id", "workflow_id"}),
)


def call_conditions(which: CallFilter, metadata: MetadataSql, in_sessions: str, cost: str) -> Iterator[str]:
    """Yield the conditions on calls `c`; `parameters` returns their parameters.

    `in_sessions` is the condition that a call's session matches a `{condition}` on sessions `s`, `cost` the cost of a
    call in whole picodollars.
    """
    yield from (text for name, text in _PLAIN.items() if getattr(which, name) is not None)
    yield from _kinds(which)
    if which.min_cost_usd is not None:
        yield f"{cost} >= :min_cost"
    if which.timestep_id is not None:
        known = metadata.compare("timestep_id", "= {}", ":timestep_id")
        yield f"({known} OR {metadata.compare('timestep_id', _USERS_STEP, 't.timestep_id')})"
    own = {"name": "c.session_name", "user": _own("user_id", metadata, _USER)}
    for name, session in _SESSION.items():
        if getattr(which, name) is not None:
            inherited = in_sessions.format(condition=session)
            mine = own.get(name)
            yield inherited if mine is None else f"({mine} = :{name} OR ({mine} IS NULL AND {inherited}))"
    for number, (key, _) in enumerate(which.metadata):
        name, value = f":key{number}", f":value{number}"
        inherited = in_sessions.format(condition=metadata.has_value("s.metadata", key, name, value))
        known = _own(key, metadata, name)
        has = metadata.has_value("c.metadata", key, name, value)
        mine = has if "(" in known else metadata.compare(known.removeprefix("c."), "= {}", value)
        yield f"({mine} OR ({known} IS NULL AND {inherited}))"


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


def session_condition(which: SessionFilter, metadata: MetadataSql) -> str | None:
    """Return the condition on sessions `s`; None for all sessions."""
    found = [text for name, text in _SESSION.items() if getattr(which, name) is not None]
    for number, (key, _) in enumerate(which.metadata):
        found.append(metadata.has_value("s.metadata", key, f":key{number}", f":value{number}"))
    return " AND ".join(found) or None


def parameters(which: SessionFilter) -> dict[str, object]:
    """Return the values of the parameters of these conditions."""
    named = (*_SESSION, *_PLAIN, "timestep_id", "finish")
    values: dict[str, object] = {name: value for name in named if (value := getattr(which, name, None)) is not None}
    if which.success is not None:
        values["success"] = int(which.success)
    if which.session_outcome in UNENDED:
        values["session_outcome"] = RUNNING
    if which.min_cost_usd is not None:
        values["min_cost"] = whole_pico(which.min_cost_usd)
    for name in ("text", "error_text"):
        if (part := getattr(which, name, None)) is not None:
            values[name] = part.casefold()
    for number, (key, value) in enumerate(which.metadata):
        values |= _key_parameters(f"key{number}", key) | {f"value{number}": value}
    # As records are written: what no store can hold would not even be a valid parameter.
    return {name: encodable(value) if isinstance(value, str) else value for name, value in values.items()}


def grouping(by: str, metadata: MetadataSql, number: int) -> str | None:
    """Return the SQL expression of a label to group calls `c` of sessions `s` by; None if it is not a label.

    `number` is its place among the groupings. `grouping_parameters` returns the parameters of all.
    """
    if by == "user":
        return f"coalesce({_own('user_id', metadata, _USER)}, s.user_id)"
    if by == "name":
        return "coalesce(c.session_name, s.name)"
    if by == "experiment":
        return "s.experiment"
    if not by.startswith(META):
        return None
    key, parameter = by.removeprefix(META), f":{_BY}{number}"
    return f"coalesce({_own(key, metadata, parameter)}, {metadata.label_of('s.metadata', key, parameter)})"


def grouping_parameters(groupings: Sequence[str]) -> dict[str, object]:
    """Return the values of the parameters of groupings."""
    values: dict[str, object] = {}
    for number, by in enumerate(groupings):
        values |= _key_parameters(f"{_BY}{number}", by.removeprefix(META)) if by.startswith(META) else {}
    return values


def keyed(keys: Sequence[str]) -> str:
    """Return the select list of what calls are grouped by: columns `group0` and so on."""
    return ", ".join(f"{key} AS group{number}" for number, key in enumerate(keys))


def positions(keys: Sequence[str]) -> str:
    """Return the GROUP BY list of the same."""
    return ", ".join(str(number + 1) for number, _ in enumerate(keys))


def source(keys: Sequence[str]) -> str:
    """Return the FROM clause: the calls `c`, joined with their sessions `s` if a grouping needs them."""
    return _JOINED if any(map(_OF_SESSION.search, keys)) else "calls c"


def _own(key: str, metadata: MetadataSql, parameter: str) -> str:
    """Return the SQL expression of a call's own value for a key: a column if there is one, else its metadata."""
    if key in _COLUMNS:
        return f"c.{key}"
    return metadata.label_of("c.metadata", key, parameter)
