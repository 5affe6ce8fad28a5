"""ClickHouse's functions and views: SQLite's tables, from the versions that writers insert.

An insert can change no row. So what SQLite's writer does to stored rows is done by these views whenever they are read:
versions of a session or timestep merge, rewards join their targets, and values add up to scores.
"""

# ruff: noqa: S608 - SQL text holds only our own names

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from callspan.record.merging import BY_DEFAULT
from callspan.record.reward_sums import REWARD
from callspan.stores.tables.facts import CALL_IDS, REWARDS, SESSIONS, TIMESTEPS, Table
from callspan.stores.tables.scores import Arithmetic

_VALUE: Final = "nullIf(nullIf(JSONExtractRaw({0}, {1}), ''), 'null')"
_AT_PATH: Final = """
  nullIf(nullIf(arrayFold((value, key) -> JSONExtractRaw(value, key), splitByChar('.', key), {0}), ''), 'null')"""
_METADATA: Final = "ifNull(metadata, '')"
_OF_EXTRA: Final = f"JSONExtractRaw({_METADATA}, 'extra')"
FUNCTIONS: Final = (
    # Return the JSON of a metadata key's value as `callspan.record.labels` does.
    f"""CREATE FUNCTION IF NOT EXISTS callspan_value AS (metadata, key) -> coalesce(
  {_VALUE.format(_METADATA, "key")}, {_VALUE.format(_OF_EXTRA, "key")},
  if(position(key, '.') > 0, coalesce({_AT_PATH.format(_METADATA)}, {_AT_PATH.format(_OF_EXTRA)}), NULL))""",
    """CREATE FUNCTION IF NOT EXISTS callspan_text AS value ->
  if(startsWith(value, '"'), JSONExtractString(concat('[', value, ']'), 1), value)""",
    # Return the text by which a key is grouped; NULL if it has none.
    """CREATE FUNCTION IF NOT EXISTS callspan_label AS (metadata, key) ->
  if(startsWith(ifNull(callspan_value(metadata, key), '{'), '{'), NULL,
    callspan_text(callspan_value(metadata, key)))""",
    # Return the texts of a list, without nested values and duplicates.
    """CREATE FUNCTION IF NOT EXISTS callspan_items AS list -> arrayDistinct(arrayMap(item -> callspan_text(item),
  arrayFilter(item -> item <> 'null' AND NOT startsWith(item, '{') AND NOT startsWith(item, '['),
    JSONExtractArrayRaw(list))))""",
    """CREATE FUNCTION IF NOT EXISTS callspan_labels AS value -> CAST(
  if(startsWith(ifNull(value, ''), '['), callspan_items(ifNull(value, '')),
    [if(startsWith(ifNull(value, '{'), '{'), NULL, callspan_text(value))]), 'Array(Nullable(String))')""",
    """CREATE FUNCTION IF NOT EXISTS callspan_object AS members -> concat('{', arrayStringConcat(
  arrayMap((key, value) -> concat(toJSONString(key), ':', value), mapKeys(members), mapValues(members)), ','), '}')""",
    """CREATE FUNCTION IF NOT EXISTS callspan_has AS (metadata, key, value) ->
  has(callspan_labels(callspan_value(metadata, key)), value)""",
)
"""Functions that belong to the server, not to a database."""
_DECIMAL: Final = "toDecimal256OrNull(toString({value}), 20)"
ARITHMETIC: Final = Arithmetic(
    exact=_DECIMAL,
    size=f"sum(abs({_DECIMAL}))",
    rounded="round(toFloat64({number}), greatest(0, 11 - toInt32(floor(log10(greatest(toFloat64({size}), 1e-300))))))",
)
"""Decimals of 57 digits before the point and 20 behind it."""
_NEWEST: Final = "argMax(v.{0}, v.seen_ns)"
"""The aggregate skips versions without a value."""
_MERGED_JSON: Final = """if(uniqExact(v.{0}) <= 1, any(v.{0}), callspan_object(arrayFold(
    (merged, version) -> mapUpdate(merged, version),
    arrayMap(version -> CAST(JSONExtractKeysAndValuesRaw(version.2), 'Map(String, String)'),
      arraySort(groupArray((v.seen_ns, ifNull(v.{0}, '{{}}'))))), CAST(map(), 'Map(String, String)'))))"""
"""Of each key the newest value."""
_DEFAULT_WORDS: Final = ", ".join(map(repr, sorted(BY_DEFAULT)))
_OUTCOME: Final = f"""coalesce(
    argMaxIf(v.outcome, v.seen_ns, v.end_ns IS NULL OR v.outcome NOT IN ({_DEFAULT_WORDS})),
    argMax(v.outcome, v.seen_ns))"""
_ERROR: Final = "argMaxIf(tuple(v.error), v.seen_ns, (v.end_ns IS NOT NULL OR v.error IS NOT NULL){0}).1"
_STRICT: Final = "v.content_level IN ('metadata', 'off')"
_IS_FULL: Final = f"countIf({_STRICT}) = 0"
_LEVEL: Final = """multiIf(countIf(v.content_level = 'off') > 0, 'off',
    countIf(v.content_level = 'metadata') > 0, 'metadata', 'full')"""
_SPAN: Final = ("trace_id", "span_id", "parent_span_id", "sampled")
_SPANS: Final = {
    name: f"""if(count(v.span_id) > 0, argMaxIf(tuple(v.{name}), v.seen_ns, v.span_id IS NOT NULL).1,
    argMin(tuple(v.{name}), v.seen_ns).1)"""
    for name in _SPAN
}
_OF_SPAN: Final = """ifNull(if(count(v.span_id) > 0, argMaxIf(tuple(v.{0}), v.seen_ns, v.span_id IS NOT NULL).1,
    argMin(tuple(v.{0}), v.seen_ns).1), '')"""
_MERGED_EXTRA: Final = f"""if(countIf(JSONHas(ifNull(v.extra, ''), 'trace')) = 0, {_MERGED_JSON.format("extra")},
    callspan_object(mapFilter((key, value) -> value <> '', mapUpdate(
      CAST(JSONExtractKeysAndValuesRaw(ifNull({_MERGED_JSON.format("extra")}, '')), 'Map(String, String)'),
      map('trace', JSONExtractRaw({_OF_SPAN.format("extra")}, 'trace'))))))"""
"""`trace` is a field of the span."""
_MERGES: Final = {
    "seen_ns": "max(v.seen_ns)",
    "schema_version": "max(v.schema_version)",
    "start_ns": "min(v.start_ns)",
    "resumed_ns": "max(v.resumed_ns)",
    "metadata": _MERGED_JSON.format("metadata"),
    "extra": _MERGED_EXTRA,
    "outcome": _OUTCOME,
    "content_level": _LEVEL,
    **_SPANS,
}
"""How the versions of a column merge, where the newest value does not decide."""
_RUNS: Final = "m.resumed_ns > ifNull(m.end_ns, m.resumed_ns)"
"""Whether a session was begun again after its end."""
_OF_RUN: Final = f"if(ifNull({_RUNS}, false), if(m.outcome IN ({_DEFAULT_WORDS}), NULL, m.outcome), m.outcome)"
_FINISHED: Final = {
    "end_ns": f"if(ifNull({_RUNS}, false), NULL, m.end_ns)",
    "error": f"if(ifNull({_RUNS}, false), NULL, m.error)",
    "outcome": f"""if(m.success IS NOT NULL AND {_OF_RUN} IN ('success', 'failure'),
    if(m.success, 'success', 'failure'), {_OF_RUN})""",
}


UNENDED: Final = """SELECT u.session_id FROM session_versions u GROUP BY u.session_id
  HAVING max(u.end_ns) IS NULL OR max(u.resumed_ns) IS NOT NULL"""
"""The sessions that may have no end, without merging all that is known of each."""


def merged_view(table: Table) -> str:
    """Return the view of the merged versions of sessions or timesteps."""
    keys = ("session_id",) if table is SESSIONS else ("session_id", "timestep_id")
    error = _ERROR.format("")
    if table is SESSIONS:
        # A version at another level has more of the error than the strictest one.
        error = f"if({_IS_FULL}, {error}, {_ERROR.format(f' AND {_STRICT}')})"
    merges = {**_MERGES, "error": error}
    names = [*(fact.name for fact in table.columns), "extra"]
    columns = ",\n    ".join(
        f"v.{name} AS {name}" if name in keys else f"{merges.get(name, _NEWEST.format(name))} AS {name}"
        for name in names
    )
    grouped = ", ".join(f"v.{key}" for key in keys)
    versions = f"SELECT {columns}\n  FROM {table.kind}_versions v GROUP BY {grouped}"
    if table is TIMESTEPS:
        return f"CREATE VIEW IF NOT EXISTS {table.name} AS\n  {versions}"
    finished = ", ".join(f"{_FINISHED.get(name, f'm.{name}')} AS {name}" for name in names)
    return f"CREATE VIEW IF NOT EXISTS {table.name} AS\nSELECT {finished}\n  FROM ({versions}) m"


_ORIGIN: Final = "tuple(c.provider, c.response_model, ifNull(c.response_created_s, 0))"
"""Distinguishes answers that have the same id."""
_NAMES: Final = "SELECT call_id FROM reward_versions WHERE call_id IS NOT NULL{condition}"
_ITSELF: Final = f"""
    SELECT c.call_id AS ident, 0 AS kind, (c.call_id, c.session_id, c.timestep_id) AS call
    FROM call_versions c FINAL WHERE c.call_id IN ({_NAMES})"""
_ANSWERS: Final = """
    SELECT call_id, version, any(output) AS output FROM call_contents
     WHERE (owner, call_id) IN (
       SELECT ifNull(concat('s:', session_id), concat('c:', call_id)), call_id
         FROM call_versions WHERE {name} IN ({names}))
     GROUP BY call_id, version"""
"""The numbers of the answers of calls: different answers have different ones."""
_IF_BOUGHT: Final = "uniqExact(if(c.cached IS NULL, {}, NULL)) <= 1"
_NAMED_BY: Final = f"""
    SELECT c.{{name}} AS ident, {{kind}} AS kind, argMin((c.call_id, c.session_id, c.timestep_id),
      (c.cached IS NOT NULL, c.start_ns, c.call_id)) AS call
    FROM call_versions c FINAL LEFT JOIN ({_ANSWERS}) a ON a.call_id = c.call_id AND a.version = c.version
    WHERE c.{{name}} IN ({{names}})
    GROUP BY ident HAVING uniqExact({_ORIGIN}) = 1 AND {_IF_BOUGHT.format("a.output")}
      AND {_IF_BOUGHT.format("concat(toString(c.input_tokens), ' ', toString(c.output_tokens))")}"""
_OTHER_NAMES: Final = f"{_NAMES} AND call_id NOT IN (SELECT call_id FROM call_versions WHERE call_id IN ({_NAMES}))"
"""Few or none: most rewards name a call by its own id, which is the primary key."""
_BY_OTHER_NAMES: Final = [
    _NAMED_BY.format(name=name, kind=kind, names=_OTHER_NAMES) for kind, name in enumerate(CALL_IDS[1:], 1)
]
_ALL_NAMED: Final = " UNION ALL ".join((_ITSELF, *_BY_OTHER_NAMES))
_NAMED_CALLS: Final = f"""
SELECT ident, named.1 AS named_id, named.2 AS session_id, named.3 AS timestep_id
  FROM (SELECT ident, argMin(call, kind) AS named FROM ({_ALL_NAMED}) GROUP BY ident)"""
"""Of several calls with an id the first one that was bought; none if they are several answers. Each kind of id has an
index of its own."""
_JOINED: Final = {
    "call_id": "coalesce(n.named_id, r.call_id)",
    "session_id": "coalesce(r.session_id, e.session_id, n.session_id, t.session_id)",
    "timestep_id": """if(r.session_id IS NULL, coalesce(e.timestep_id, n.timestep_id, r.timestep_id),
    coalesce(r.timestep_id, if(e.session_id = r.session_id, e.timestep_id, NULL),
      if(n.session_id = r.session_id, n.timestep_id, NULL)))""",
}
"""As `callspan.stores.query.rewards` joins stored rewards with their targets."""
_LACKING: Final = " AND session_id IS NULL AND ifNull(session_id, '') = ''"
"""By the primary key: all rewards would be read for the few without a session."""


def _columns(joined: Mapping[str, str]) -> str:
    """Return the columns of rewards `r`, with those that are joined."""
    names = [*(fact.name for fact in REWARDS.columns), "extra"]
    return ", ".join(f"{joined.get(name, f'r.{name}')} AS {name}" for name in names)


def joined_rewards(condition: str = "") -> str:
    """Return the query for rewards with all that they take from their targets; `condition` begins with ` AND `."""
    return f"""SELECT {_columns(_JOINED)}
  FROM (SELECT * FROM reward_versions FINAL WHERE 1 = 1{condition}) r
  LEFT JOIN ({_NAMED_CALLS.format(condition=condition)}) n ON n.ident = r.call_id
  LEFT JOIN (SELECT event_id, session_id, timestep_id FROM event_versions FINAL
    WHERE event_id IN (SELECT event_id FROM reward_versions WHERE 1 = 1{condition})) e ON e.event_id = r.event_id
  LEFT JOIN (SELECT timestep_id, any(session_id) AS session_id FROM timestep_versions
    WHERE timestep_id IN (SELECT timestep_id FROM reward_versions WHERE 1 = 1{condition}) GROUP BY timestep_id) t
    ON t.timestep_id = r.timestep_id
SETTINGS join_use_nulls = 1"""


_REWARDS: Final = f"CREATE VIEW IF NOT EXISTS rewards AS {joined_rewards()}"
_SESSION_REWARDS: Final = f"""CREATE VIEW IF NOT EXISTS session_rewards AS
SELECT {_columns({})} FROM reward_versions r FINAL WHERE r.session_id IS NOT NULL
UNION ALL SELECT * FROM ({joined_rewards(_LACKING)})"""
"""Rewards with their sessions. What states its session is not joined, so that those of a few sessions are found without
reading all calls; it may lack its timestep and the id of its call."""
_OF_EVENTS: Final = f"concat(scope, ' ', objective) = 'event {REWARD}'"
"""By the index `by_kind`."""
_REWARDED_EVENTS: Final = f"""event_id NOT IN (SELECT event_id FROM event_versions
      WHERE reward IS NOT NULL AND event_id IN (SELECT event_id FROM reward_versions WHERE {_OF_EVENTS}))
    AND (event_id, ifNull(time_ns, 0), reward_id) IN (
      SELECT event_id, (min((ifNull(time_ns, 0), reward_id)) AS earliest).1, earliest.2 FROM reward_versions
       WHERE {_OF_EVENTS} AND value IS NOT NULL GROUP BY event_id)"""
"""Whether the reward of an event counts: the event's own counts first, then the earliest."""
_VALUES: Final = f"""
SELECT session_id, timestep_id, event_id, CAST(NULL, 'Nullable(String)') AS call_id, 'event' AS scope,
       {REWARD!r} AS objective, reward AS value, time_ns, sequence, CAST(NULL, 'Nullable(String)') AS reward_id
  FROM events WHERE reward IS NOT NULL
UNION ALL SELECT session_id, timestep_id, event_id, call_id, scope, objective, value, time_ns, NULL, reward_id
  FROM rewards WHERE value IS NOT NULL
    AND (scope <> 'event' OR objective <> {REWARD!r} OR event_id IS NULL OR ({_REWARDED_EVENTS}))"""
_EARNED: Final = "if(scope = 'event', value, NULL)"
_REWARD: Final = ARITHMETIC.exact.format(value=_EARNED)
_TOTAL: Final = ARITHMETIC.total(
    f"sum({_REWARD})", ARITHMETIC.size.format(value=_EARNED), f"min({_EARNED})", f"count({_EARNED})"
)
_SESSION_SCORES: Final = f"""CREATE VIEW IF NOT EXISTS session_scores AS
SELECT session_id, objective,
  multiIf(objective <> {REWARD!r}, {ARITHMETIC.mean("value")},
    countIf(scope = 'session') > 0, argMaxIf(value, (ifNull(time_ns, 0), reward_id), scope = 'session'),
    {_TOTAL}) AS score,
  multiIf(objective <> {REWARD!r}, count(*), countIf(scope = 'session') > 0, 1, count(*)) AS n
FROM (
  SELECT session_id, {REWARD!r} AS objective, 'event' AS scope, reward AS value, time_ns, '' AS reward_id
    FROM events WHERE reward IS NOT NULL AND session_id IS NOT NULL
  UNION ALL SELECT session_id, objective, scope, value, time_ns, reward_id
    FROM session_rewards WHERE value IS NOT NULL AND session_id IS NOT NULL
      AND (objective <> {REWARD!r} OR scope = 'session'
        OR (scope = 'event' AND (event_id IS NULL OR ({_REWARDED_EVENTS}))))) summed
GROUP BY session_id, objective"""
_OTHERS_NAMED: Final = " UNION ALL ".join(_BY_OTHER_NAMES)


def _call_scores(condition: str = "") -> str:
    """Return the query for the scores of calls; `condition` begins with ` AND `.

    Unlike `joined_rewards` it looks up only rewards that name a call by another id than its own.
    """
    condition = f" AND scope = 'call'{condition}"
    return f"""
SELECT call_id, objective, {ARITHMETIC.mean("value")} AS score, count(*) AS n FROM (
  SELECT coalesce(n.named_id, r.call_id) AS call_id, r.objective AS objective, r.value AS value
    FROM (SELECT * FROM reward_versions FINAL WHERE value IS NOT NULL AND call_id IS NOT NULL{condition}) r
    LEFT JOIN (SELECT ident, argMin(call, kind).1 AS named_id FROM ({_OTHERS_NAMED.format(condition=condition)})
      GROUP BY ident) n ON n.ident = r.call_id) valued
 GROUP BY call_id, objective"""


_IDS: Final = ", ".join(f"ifNull({name}, '')" for name in CALL_IDS)
_OF_THESE_CALLS: Final = f"call_id IN (SELECT arrayJoin([{_IDS}]) FROM call_versions WHERE {{condition}})"
_MAY_BE_OF_SESSIONS: Final = f"""{_LACKING} AND ({_OF_THESE_CALLS}
    OR event_id IN (SELECT event_id FROM event_versions WHERE {{condition}})
    OR timestep_id IN (SELECT timestep_id FROM timestep_versions WHERE {{condition}}))"""
OF_SESSIONS: Final = f"""WITH rewards AS (
  SELECT * FROM ({joined_rewards(" AND session_id IS NOT NULL AND {condition}")})
  UNION ALL SELECT * FROM ({joined_rewards(_MAY_BE_OF_SESSIONS)}) WHERE {{condition}}),
  reward_values AS ({_VALUES}) """
"""The views with the rewards of the sessions that match a `{condition}`. No condition on what a view joins limits what
the view reads: each look at a session would join all rewards of the store."""
SCORES_OF_SESSIONS: Final = "WITH session_scores AS (SELECT * FROM session_scores WHERE {condition}) "
OF_CALLS: Final = f"""WITH rewards AS ({joined_rewards(f" AND {_OF_THESE_CALLS}")}),
  call_scores AS ({_call_scores(f" AND {_OF_THESE_CALLS}")}),
  session_scores AS (SELECT * FROM session_scores
    WHERE session_id IN (SELECT session_id FROM call_versions WHERE {{condition}})) """
"""The views with the rewards of the calls that match a `{condition}`, and of no others but those that share an id; and
the scores of their sessions."""


def views() -> Iterator[str]:
    """Yield the statements that create the functions, and the views in an order in which each has what it reads."""
    yield from FUNCTIONS
    yield from map(merged_view, (SESSIONS, TIMESTEPS))
    yield from (_REWARDS, _SESSION_REWARDS)
    yield f"CREATE VIEW IF NOT EXISTS reward_values AS {_VALUES}"
    yield from (_SESSION_SCORES, f"CREATE VIEW IF NOT EXISTS call_scores AS {_call_scores()}")
