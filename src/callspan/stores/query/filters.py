"""Filters: the conditions that select calls and sessions, and their SQL. Calls inherit the labels of their session.

A new condition is a field here, with its SQL and its parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, get_args

import msgspec

from callspan.record.finish_reasons import LENGTH, PREFIXES, equivalents
from callspan.record.interrupted import INTERRUPTED, UNKNOWN
from callspan.record.reward_sums import REWARD
from callspan.runtime.amounts import EXACT
from callspan.stores.base import IN_PROGRESS, ORDERS, Content, Order
from callspan.stores.query.interrupted import HAS_EXITED, IS_HERE, OF_CALLS, OF_SESSIONS
from callspan.stores.tables import scores
from callspan.stores.tables.database import Dialect
from callspan.stores.tables.facts import LABELS, PICO, PICO_PER_MICRO


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects calls or sessions that meet all conditions; None is no condition.

    A session matches if any of its calls matches. Its own values count for user, metadata, `session_id`, `since_ns`,
    `until_ns` and the bounds of cost, duration, tokens and scores. `errors=False` requires that no call failed.
    """

    user_id: str | None = None
    """The user. For a call: `user_id` of its metadata, else the user sent to the provider, else the session's."""
    name: str | None = None
    """The session's name."""
    group_id: str | None = None
    """The session's `group_id`."""
    task_id: str | None = None
    """The session's `task_id`."""
    experiment: str | None = None
    """The session's experiment."""
    session_outcome: str | None = None
    """The outcome of the stored session: without one `in_progress`; `interrupted` if its process has exited, `unknown`
    if it cannot be seen and has shown no sign of life for an hour. For a call outside of sessions, its own outcome."""
    success: bool | None = None
    """Whether the session succeeded, see `SessionSummary.succeeded`."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Keys with their values as text (`7`, `true`). A list matches each of its values. Calls without the key inherit
    it from their session."""
    min_cost_usd: Decimal | None = None
    """Minimum cost in US dollars, rounded down to picodollars; for a session the sum of its calls."""
    max_cost_usd: Decimal | None = None
    """Maximum cost. A session that lacks the cost of some calls matches no maximum."""
    min_duration_ns: int | None = None
    """Minimum duration in nanoseconds."""
    max_duration_ns: int | None = None
    """Maximum duration in nanoseconds."""
    min_tokens: int | None = None
    """Minimum number of tokens, in and out; for a session the sum of its calls."""
    max_tokens: int | None = None
    """Maximum number of tokens. A session that lacks the usage of some calls matches no maximum."""
    objectives: tuple[str, ...] = ()
    """Objectives for `min_score` and the sort key `score`; empty: the reward."""
    min_score: float | None = None
    """Minimum score for each of the objectives. A call without its own score has its session's."""
    min_reward: float | None = None
    """Minimum reward of the session."""
    label: str | None = None
    """Label of a reward or feedback, for any of the objectives if there are some: of the call, else of its session."""
    sort: Order = "start_ns"
    """Sort key: largest first, or the lowest score of the first objective, then newest first; unknown values last."""

    ids: tuple[str, ...] = ()
    """Full ids of sessions and calls. Among calls: these calls, and all calls of these sessions. Among sessions: these
    sessions, and the sessions of these calls."""
    session_id: str | None = None
    """Full id of the session."""
    in_session: bool | None = None
    """True: only calls in sessions; False: only calls outside of sessions."""
    inferred: bool | None = None
    """True: only runs, the sessions that the store found, and their calls; False: none of these."""
    timestep_id: str | None = None
    """Id of the timestep, or the application's own id of it."""
    response_id: str | None = None
    """The provider's id of the response."""
    conversation_id: str | None = None
    """The provider's conversation id, `conversation` in the Responses API."""
    model: str | None = None
    """Full name of the requested or responding model."""
    provider: str | None = None
    """Provider name from the semantic conventions, such as `openai`."""
    since_ns: int | None = None
    """Started at this time or later, Unix nanoseconds."""
    until_ns: int | None = None
    """Started before this time, Unix nanoseconds."""
    errors: bool | None = None
    """True: only calls with outcome error or timeout; False: only successes."""
    outcome: str | None = None
    """Outcome of the call, one of `callspan.records.Outcome`."""
    finish_reason: str | None = None
    """`finish_reason`: a provider's value; `stop`, `length`, `tool_calls`, `content_filter`, `waiting for approval`,
    `error` and `cancelled` match all equivalents."""
    stream_end: str | None = None
    """How the stream ended, one of `callspan.records.StreamEnd`."""
    min_retries: int | None = None
    """Minimum number of retries."""
    rate_limited: bool | None = None
    """True: only calls with an attempt that got a 429; False: only other calls."""
    cut_off: bool | None = None
    """True: only streams without a terminal event; False: only other calls."""
    cut: bool | None = None
    """True: only answers without their end, cut off or by length; False: only other calls."""
    refused: bool | None = None
    """True: only answers that the model refused or a filter removed; False: only other calls."""
    cached: bool | None = None
    """True: only calls that a cache answered, which nobody bought; False: only other calls."""
    batch_id: str | None = None
    """The provider's id of the batch that the calls are lines of."""
    text: str | None = None
    """Substring of a message, case-insensitive."""
    error_text: str | None = None
    """Substring of the error type or message of a failed call, case-insensitive."""
    limit: int | None = None
    """Maximum number of results; None: all."""
    offset: int = 0
    """Number of results to skip."""
    newest_first: bool = True
    """Newest or oldest first; with another sort key, largest or smallest first."""
    content: Content = "all"
    """Bodies to read. Calls are read several times faster without request bodies."""

    def __post_init__(self) -> None:
        """Raise ValueError for a sort key or content that does not exist."""
        for name, value, values in (("sort", self.sort, ORDERS), ("content", self.content, get_args(Content))):
            if value not in values:
                raise ValueError(f"{name}: {value!r} is none of {', '.join(values)}")

    @property
    def judged(self) -> tuple[str, ...]:
        """The objectives to filter and sort by."""
        return self.objectives or (REWARD,)

    @property
    def is_about_scores(self) -> bool:
        """Whether it selects or sorts by scores or labels, or names objectives."""
        return self.sort == "score" or self.scores != CallFilter()

    @property
    def scores(self) -> CallFilter:
        """The same conditions on scores and labels, without any others."""
        return CallFilter(**{name: getattr(self, name) for name in SCORE_FIELDS})


BOUNDS: Final = {
    "min_cost_usd": ("cost_usd", ">="),
    "max_cost_usd": ("cost_usd", "<="),
    "min_duration_ns": ("duration_ns", ">="),
    "max_duration_ns": ("duration_ns", "<="),
    "min_tokens": ("tokens", ">="),
    "max_tokens": ("tokens", "<="),
}
"""The fields that bound a measure."""
SCORE_FIELDS: Final = ("objectives", "min_score", "min_reward", "label")
UNENDED: Final = frozenset({IN_PROGRESS, INTERRUPTED, UNKNOWN})
"""Outcomes of sessions and calls without a stored end. The state of their process distinguishes them."""
_CALL_IS_UNENDED: Final = "c.part = 'started' AND c.response_id IS NULL"
_CALL_IS_SILENT: Final = f"NOT {IS_HERE.format('c')} AND c.start_ns < :silent AND coalesce(c.seen_ns, 0) < :silent"
_OUTCOME: Final = f"""CASE WHEN {_CALL_IS_UNENDED} AND {HAS_EXITED.format("c")} THEN {INTERRUPTED!r}
  WHEN {_CALL_IS_UNENDED} AND {_CALL_IS_SILENT} THEN {UNKNOWN!r} ELSE c.outcome END"""
_SESSION_IS_SILENT: Final = " AND ".join((
    f"NOT {IS_HERE.format('s')} AND coalesce(s.start_ns, 0) < :silent AND coalesce(s.seen_ns, 0) < :silent",
    *(
        f"NOT EXISTS (SELECT 1 FROM {table} x WHERE x.session_id = s.session_id AND {time} >= :silent{{unended}})"  # noqa: S608
        for table, time in (
            ("calls", "x.start_ns + coalesce(x.duration_ns, 0)"), ("timesteps", "coalesce(x.end_ns, x.start_ns)"),
            ("events", "x.time_ns + coalesce(x.duration_ns, 0)"), ("messages", "x.time_ns"), ("{rewards}", "x.time_ns"),
        )
    ),
))  # fmt: skip
_SUCCESS: Final = "coalesce(s.success, s.outcome = 'success')"
SESSION_CONDITIONS: Final = {
    "user_id": "s.user_id = :user_id{no_list}",
    "name": "s.name = :name",
    "group_id": "s.group_id = :group_id",
    "task_id": "s.task_id = :task_id",
    "experiment": "s.experiment = :experiment",
    "session_outcome": f"""coalesce(s.outcome,
      CASE WHEN s.end_ns IS NULL AND {HAS_EXITED.format("s")} THEN {INTERRUPTED!r}
        WHEN s.end_ns IS NULL AND {_SESSION_IS_SILENT} THEN {UNKNOWN!r}
        WHEN s.session_id IS NOT NULL THEN {IN_PROGRESS!r} END) = :session_outcome""",
    "success": f"CASE WHEN {_SUCCESS} THEN 1 WHEN NOT ({_SUCCESS}) THEN 0 END = :success",
}
"""Conditions on the session `s`, by field; for `{rewards}` and `{unended}` see `Dialect`, `{no_list}` is the result of
`no_list`."""
FAILED: Final = "c.outcome IN ('error', 'timeout')"
"""Whether a call `c` failed."""
REFUSED: Final = "coalesce(c.refused, false)"
"""Whether the model refused a call `c`, or a filter removed its answer."""
_FOLDED: Final = "replace(replace(replace(lower(c.finish_reason), '_', ''), '-', ''), ' ', '')"
"""As `folded` of `callspan.record.finish_reasons`."""
SESSION: Final = "coalesce((SELECT r.session_id FROM run_ids r WHERE r.id = :session_id), :session_id)"
"""The session that a filter names, also by a former id of a run."""
_PLAIN: Final = {
    "session_id": f"c.session_id = {SESSION}",
    "response_id": "c.response_id = :response_id",
    "batch_id": "c.batch_id = :batch_id",
    "conversation_id": "c.conversation_id = :conversation_id",
    "model": "(c.model = :model OR c.response_model = :model)",
    "provider": "c.provider = :provider",
    "since_ns": "c.start_ns >= :since_ns",
    "until_ns": "c.start_ns < :until_ns",
    "stream_end": "c.stream_end = :stream_end",
    "min_retries": "c.retries >= :min_retries",
    "timestep_id": """(c.timestep_id = :timestep_id
      OR c.timestep_id IN (SELECT t.timestep_id FROM timesteps t WHERE t.user_step_id = :timestep_id))""",
}
_FLAGS: Final = {
    "in_session": ("c.session_id IS NOT NULL", "c.session_id IS NULL"),
    "inferred": ("coalesce(c.inferred, false)", "NOT coalesce(c.inferred, false)"),
    "errors": (FAILED, "c.outcome = 'success'"),
    "rate_limited": ("coalesce(c.rate_limited, false)", "NOT coalesce(c.rate_limited, false)"),
    "cached": ("c.cached IS NOT NULL", "c.cached IS NULL"),
    "refused": (REFUSED, f"NOT {REFUSED}"),
    "cut_off": ("coalesce(c.stream_end, '') = 'cut_off'", "coalesce(c.stream_end, '') <> 'cut_off'"),
}
"""The conditions for a field that is true, and false."""
_SESSION_FIELDS: Final = frozenset(
    {*SESSION_CONDITIONS, *BOUNDS, "ids", "metadata", "sort", "session_id", "since_ns", "until_ns"}
    | {
        "objectives",
        "min_score",
        "min_reward",
        "label",
        "in_session",
        "inferred",
        "limit",
        "offset",
        "newest_first",
        "content",
    }
)
"""Fields of a `CallFilter` that apply to a session itself, not to its calls."""
_OTHERS: Final = ("outcome", "finish_reason", "text", "error_text", "min_score", "min_reward", "label")
"""Fields with one parameter, and a condition that depends on their value or on other fields."""
_OBJECTIVE: Final = ":objective{}"
_SHARED: Final = {"name": "c.session_name", "user_id": "c.user_id"}
"""The labels that calls and sessions share."""
COLUMNS: Final = frozenset({"user_id", *LABELS})
"""Metadata keys that have a column."""
_MAX_USD: Final = Decimal(9 * 10**12)
"""Larger amounts are compared as this one, because whole microdollars have 63 bits."""
_LEAST: Final = -(2**63 - 1)
TOKENS: Final = """
CASE WHEN coalesce(c.input_tokens, c.output_tokens) IS NULL THEN NULL
  ELSE coalesce(c.input_tokens, 0) + coalesce(c.output_tokens, 0) END
"""


def sort_keys(selection: CallFilter, dialect: Dialect) -> tuple[str, ...]:
    """Return the sort keys of calls `c` in the source `calls_from`."""
    values = {
        "start_ns": (),
        "cost_usd": (dialect.cost, dialect.cost_rest),
        "duration_ns": ("c.duration_ns",),
        "tokens": (TOKENS.strip(),),
        "retries": ("c.retries",),
        "score": (),
    }
    keys = [known_first(value, selection) for value in values[selection.sort]]
    if selection.sort == "score":
        keys = [lowest_first(scores.OF_CALL, selection)]
    return (*keys, "c.start_ns", "c.call_id")


def known_first(value: str, selection: CallFilter, least: float = _LEAST) -> str:
    """Return the sort key of a number; unknown ones come last in either direction.

    `least` is smaller than all others and of their type, which some databases require.
    """
    return f"coalesce({value}, {least if selection.newest_first else -least})"


def lowest_first(score: str, selection: CallFilter) -> str:
    """Return a sort key that puts the lowest score first and unknown scores last; larger keys come first."""
    return f"coalesce(-({score}), CAST({'-' if selection.newest_first else ''}1e308 AS double precision))"


def calls_from(selection: CallFilter) -> str:
    """Return the source of calls `c`, joined with the scores of their sessions if they are sorted by these."""
    if selection.sort != "score":
        return "calls c"
    joined = (
        scores.JOINED.format(subject=subject, name=name, of=_OBJECTIVE.format(0), key=f"c.{subject}_id")
        for subject, name in (("call", "own"), ("session", "score0"))
    )
    return f"calls c {' '.join(joined)}"


def scores_joined(selection: CallFilter) -> Iterator[str]:
    """Yield the joins of sessions `listed` with their scores `score0`, `score1` ... and their reward `earned`."""
    if selection.min_score is not None or selection.sort == "score":
        for index, _ in enumerate(selection.judged if selection.min_score is not None else selection.judged[:1]):
            yield _of_listed(f"score{index}", _OBJECTIVE.format(index))
    if selection.min_reward is not None:
        yield _of_listed("earned", repr(REWARD))


def reads_scores(selection: CallFilter) -> bool:
    """Return whether a selection depends on the scores of calls or sessions."""
    return selection.sort == "score" or selection.min_score is not None or selection.min_reward is not None


def _of_listed(name: str, objective: str) -> str:
    return scores.JOINED.format(subject="session", name=name, of=objective, key="listed.session_id")


def _score_conditions(selection: CallFilter, dialect: Dialect) -> Iterator[str]:
    """Yield the conditions on scores and labels of calls `c`."""
    for index, _ in enumerate(selection.judged if selection.min_score is not None else ()):
        yield dialect.has_score.format(objective=_OBJECTIVE.format(index), least="min_score")
    if selection.min_reward is not None:
        yield dialect.in_scored.format(
            sessions=scores.SESSIONS_ABOVE.format(objective=repr(REWARD), least="min_reward")
        )
    if selection.label is not None:
        yield scores.CALL_HAS_LABEL.format(of=_judged_labels(selection))


def session_scores(selection: CallFilter) -> Iterator[str]:
    """Yield the conditions on scores and labels of sessions that are joined by `scores_joined`."""
    for index, _ in enumerate(selection.judged if selection.min_score is not None else ()):
        yield f"score{index}.score >= :min_score"
    if selection.min_reward is not None:
        yield "earned.score >= :min_reward"
    if selection.label is not None:
        yield scores.SESSION_HAS_LABEL.format(of=_judged_labels(selection))


def _judged_labels(selection: CallFilter) -> str:
    """Return the condition that a label `l` is for one of the objectives, if there are some."""
    names = ", ".join(_OBJECTIVE.format(index) for index, _ in enumerate(selection.objectives))
    return f" AND l.objective IN ({names})" if names else ""


def bounded(selection: CallFilter, measures: Mapping[str, str]) -> Iterator[str]:
    """Yield the conditions on these measures; the cost is a pair of microdollars and the picodollars beyond them."""
    for name, (measure, operator) in BOUNDS.items():
        if getattr(selection, name) is not None:
            limit = f"(:{name}, :{name}_rest)" if measure == "cost_usd" else f":{name}"
            yield f"{measures[measure]} {operator} {limit}"


def _bound_parameters(selection: CallFilter) -> Iterator[tuple[str, object]]:
    """Yield the parameters of `bounded`."""
    for name, (measure, _) in BOUNDS.items():
        value = getattr(selection, name)
        if value is not None and measure == "cost_usd":
            micro, remainder = whole_micro(value)
            yield from ((name, micro), (f"{name}_rest", remainder))
        elif value is not None:
            yield name, value


def whole_micro(usd: Decimal) -> tuple[int, int]:
    """Return an amount in whole microdollars and the picodollars beyond them, rounded towards zero."""
    pico = int(EXACT.multiply(min(max(usd, _MAX_USD.copy_negate()), _MAX_USD), PICO))
    micro, remainder = divmod(abs(pico), PICO_PER_MICRO)
    return (-micro, -remainder) if pico < 0 else (micro, remainder)


_CONVERTED: Final[Mapping[str, Callable[[Any], object]]] = {
    "success": int, "text": str.casefold, "error_text": str.casefold,
}  # fmt: skip
"""Conversions from fields to SQL parameters, where the two differ."""


def conditions_on_calls(selection: CallFilter) -> CallFilter | None:
    """Return the conditions that any call of a session must meet; None without such conditions."""
    fields = {name: getattr(selection, name) for name in CallFilter.__struct_fields__ if name not in _SESSION_FIELDS}
    conditions = CallFilter(**fields | {"errors": selection.errors or None})
    return None if conditions == CallFilter() else conditions


def call_condition(selection: CallFilter, dialect: Dialect, within: str = "") -> str:
    """Return the condition on calls `c`, with the parameters of `parameters`.

    `within`: a condition that few calls `o` match, these among them; only their texts are searched.
    """
    return " AND ".join(_call_conditions(selection, dialect, within)) or "1 = 1"


def between(time: str, selection: CallFilter) -> str:
    """Return the condition that something began in the time of a selection."""
    return f"{time} >= :since_ns" + ("" if selection.until_ns is None else f" AND {time} < :until_ns")


def _call_conditions(selection: CallFilter, dialect: Dialect, within: str) -> Iterator[str]:
    yield from (text for name, text in _PLAIN.items() if getattr(selection, name) is not None)
    if selection.ids:
        yield f"(c.call_id IN ({_ids(selection)}) OR c.session_id IN ({_ids(selection)}))"
    yield from _flag_conditions(selection)
    measures = {"cost_usd": f"({dialect.cost}, {dialect.cost_rest})", "duration_ns": "c.duration_ns", "tokens": TOKENS}
    yield from bounded(selection, measures)
    yield from _label_conditions(selection, dialect)
    yield from _text_conditions(selection, dialect, within)
    yield from _score_conditions(selection, dialect)


def _ids(selection: CallFilter) -> str:
    """Return the parameters of the ids of a selection."""
    return ", ".join(f":selected_id{number}" for number, _ in enumerate(selection.ids))


def session_is_named(selection: CallFilter, session_id: str) -> str:
    """Return the condition that a selection names a session, or one of its calls, by id."""
    with_call = f"SELECT c.session_id FROM calls c WHERE c.session_id IS NOT NULL AND c.call_id IN ({_ids(selection)})"  # noqa: S608
    return f"({session_id} IN ({_ids(selection)}) OR {session_id} IN ({with_call}))"


def _label_conditions(selection: CallFilter, dialect: Dialect) -> Iterator[str]:
    """Yield the conditions on labels, which calls may inherit from their session."""
    for name, condition in _session_conditions(selection, dialect).items():
        inherited = dialect.in_sessions.format(condition=condition)
        if name == "session_outcome":
            inherited = f"({inherited} OR (c.session_id IS NULL AND {_OUTCOME} = :session_outcome))"
        column = _SHARED.get(name)
        also = no_list(selection.user_id, dialect, "c") if name == "user_id" else ""
        yield inherited if column is None else f"({column} = :{name}{also} OR ({column} IS NULL AND {inherited}))"
    for number, (key, text) in enumerate(selection.metadata):
        name, value = f":key{number}", f":value{number}"
        inherited = dialect.in_sessions.format(condition=dialect.has.format(at=f"s.metadata, {name}", value=value))
        own_value = own_label(key, name)
        # The column of a list is its JSON, as a text may be.
        has_column = key in COLUMNS and not text.startswith("[")
        is_own = f"{own_value} = {value}" if has_column else dialect.has.format(at=f"c.metadata, {name}", value=value)
        yield f"({is_own} OR ({own_value} IS NULL AND {inherited}))"


def _text_conditions(selection: CallFilter, dialect: Dialect, within: str) -> Iterator[str]:
    """Yield the conditions on substrings."""
    if selection.text is not None:
        contains = (dialect.contains.format(text=f"t.{name}", part=":text") for name in ("text", "reasoning"))
        yield dialect.has_message.format(contains=f"{_owned(within)}({' OR '.join(contains)})")
    if selection.error_text is not None:
        of_error = (
            dialect.contains.format(text=f"c.{name}", part=":error_text") for name in ("error_type", "error_message")
        )
        yield f"{FAILED} AND ({' OR '.join(of_error)})"


def _owned(within: str) -> str:
    """Return the condition, with ` AND `, that contents `t` are of the calls `o` that match one; "" without one."""
    owner = "coalesce(o.owner, 's:' || o.session_id, 'c:' || o.call_id)"
    return f"t.owner IN (SELECT {owner} FROM calls o WHERE {within}) AND " if within else ""  # noqa: S608


def _flag_conditions(selection: CallFilter) -> Iterator[str]:
    """Yield the conditions on flags and outcomes."""
    for name, (when_true, when_false) in _FLAGS.items():
        if (flag := getattr(selection, name)) is not None:
            yield when_true if flag else when_false
    if selection.cut is not None:
        is_cut = f"coalesce({finish_condition(LENGTH)}, false) OR {_FLAGS['cut_off'][0]}"
        yield f"({is_cut})" if selection.cut else f"NOT ({is_cut})"
    if selection.outcome is not None:
        yield f"{_OUTCOME if selection.outcome in UNENDED else 'c.outcome'} = :outcome"
    if selection.finish_reason is not None:
        yield finish_condition(selection.finish_reason) or "c.finish_reason = :finish_reason"


def finish_condition(meaning: str) -> str | None:
    """Return the condition on calls `c` with a finish reason of that meaning; None for a provider's own word."""
    words = equivalents(meaning)
    if not words:
        return None
    quoted_words = ", ".join(map(repr, sorted(words)))
    prefixes = (f" OR substr({_FOLDED}, 1, {len(word) + 1}) = '{word}:'" for word in PREFIXES if word in words)
    return f"({_FOLDED} IN ({quoted_words}){''.join(prefixes)})"


def _session_conditions(selection: CallFilter, dialect: Dialect) -> dict[str, str]:
    """Return the conditions on sessions `s` by the fields of a selection that are not None."""
    users = no_list(selection.user_id, dialect, "s")
    return {
        name: text.format(rewards=dialect.session_rewards, unended=dialect.unended, no_list=users)
        for name, text in SESSION_CONDITIONS.items()
        if getattr(selection, name) is not None
    }


def no_list(user: str | None, dialect: Dialect, row: str) -> str:
    """Return what the condition that a column `user_id` is this user also says: that it is not the JSON of a list."""
    if user is None or not user.startswith("["):
        return ""
    value = dialect.label_at.format(at=f"{row}.metadata, 'user_id'")
    return f" AND coalesce(substr(CAST({value} AS text), 1, 1), '') <> '['"


def session_condition(selection: CallFilter, dialect: Dialect) -> str | None:
    """Return the condition on sessions `s`; None without conditions."""
    conditions = [*_session_conditions(selection, dialect).values()]
    for number, _ in enumerate(selection.metadata):
        conditions.append(dialect.has.format(at=f"s.metadata, :key{number}", value=f":value{number}"))
    return " AND ".join(conditions) or None


def parameters(selection: CallFilter) -> dict[str, object]:
    """Return the parameters of these conditions, without the states of processes."""
    values: dict[str, object] = {}
    values.update(_bound_parameters(selection))
    for name in (*SESSION_CONDITIONS, *_PLAIN, *_OTHERS):
        if (value := getattr(selection, name)) is not None:
            values[name] = _CONVERTED[name](value) if name in _CONVERTED else value
    for number, (key, value) in enumerate(selection.metadata):
        values |= {f"key{number}": key, f"value{number}": value}
    values |= {f"selected_id{number}": ident for number, ident in enumerate(selection.ids)}
    return values | {f"objective{number}": name for number, name in enumerate(selection.judged)}


def processes(selection: CallFilter) -> list[str]:
    """Return the queries for processes, if these conditions depend on whether a process still runs."""
    outcomes = {OF_SESSIONS: [selection.session_outcome], OF_CALLS: [selection.outcome, selection.session_outcome]}
    return [query for query, words in outcomes.items() if not UNENDED.isdisjoint(words)]


def own_label(key: str, parameter: str) -> str:
    """Return the SQL of a call's own value for a metadata key, from its column if it has one."""
    return f"c.{key}" if key in COLUMNS else f"callspan_label(c.metadata, {parameter})"
