"""Scores: the only definition of the reward and the scores of sessions and calls, and their tables: see `docs/sql.md`.

The reward of a session is the last one given to the session itself, else the sum of the rewards of its events. Every
other objective has a score: the mean of its values, calls included. A call has its own score, the mean of the values
given to it, else its session's.

The definition is a query over all values, which takes most of a second in a store of a million. So its rows are kept in
the tables `session_scores` and `call_scores`: whoever changes a value computes the rows of its session and call anew,
in the same transaction (`refresh`).
"""

# ruff: noqa: S608 - SQL text holds only our own names; values are parameters

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from callspan.record.reward_sums import REWARD

Kind: TypeAlias = Literal["sqlite", "postgres"]


class Arithmetic(NamedTuple):
    """How a database adds and rounds values, so that 3 x 0.8 is 2.4 in any order and in both databases."""

    exact: str
    """The SQL that adds a `{value}` exactly."""
    size: str
    """The sum of the absolute values of a `{value}`."""
    rounded: str
    """A `{number}`, rounded to the twelfth digit of `{size}`, a sum or mean of absolute values."""

    def total(self, total: str, size: str, low: str, number: str) -> str:
        """Return the rounded sum of `{number}` values; a single value is not rounded."""
        return f"CASE WHEN {number} = 1 THEN {low} ELSE {self.rounded.format(number=total, size=size)} END"

    def mean(self, value: str) -> str:
        """Return the rounded mean of a group; a single value is not rounded."""
        return f"CASE WHEN count(*) = 1 THEN max({value}) ELSE {self.mean_of_several(value)} END"

    def mean_of_several(self, value: str) -> str:
        """Return the rounded mean of a group."""
        total, size = f"sum({self.exact.format(value=value)})", self.size.format(value=value)
        return self.rounded.format(number=f"{total} / count(*)", size=f"{size} / count(*)")


_NUMERIC: Final = "CAST(CAST({value} AS text) AS numeric)"
ARITHMETIC: Final[Mapping[Kind, Arithmetic]] = {
    "sqlite": Arithmetic(
        exact="{value}",
        size="sum(abs({value}))",
        # SQLite adds binary numbers. Their errors are far below the twelfth digit.
        rounded="round({number}, max(0, 11 - CAST(substr(printf('%.2e', {size}), 6) AS integer)))",
    ),
    # The text of a number is its shortest decimal; a cast to numeric alone would round it to fifteen digits.
    "postgres": Arithmetic(
        exact=_NUMERIC,
        # Converts each value once, and only negative ones again: that takes most of the time of a sum.
        size=f"(sum({_NUMERIC}) - 2 * coalesce(sum({_NUMERIC}) FILTER (WHERE {{value}} < 0), 0))",
        rounded="callspan_rounded({number}, {size})",
    ),
}
_TO_SESSION: Final = f"scope = 'session' AND objective = {REWARD!r} AND value IS NOT NULL AND NOT (session_id IS NULL)"
_OF_EVENT: Final = f"scope = 'event' AND objective = {REWARD!r} AND value IS NOT NULL"
_COUNTS: Final = """(r.event_id IS NULL OR NOT (
     EXISTS (SELECT 1 FROM events e WHERE e.event_id = r.event_id AND e.reward IS NOT NULL)
     OR EXISTS (SELECT 1 FROM rewards f WHERE f.event_id = r.event_id AND f.scope = 'event' AND f.objective = 'reward'
       AND f.value IS NOT NULL AND (coalesce(f.time_ns, 0), f.reward_id) < (coalesce(r.time_ns, 0), r.reward_id))))"""
"""Whether the reward `r` of an event is its only one: an event has its own, else the first one given to it."""
_OF_EVENTS: Final = "(SELECT {} FROM events e WHERE e.session_id = r.session_id AND e.reward IS NOT NULL)"
_VALUES: Final = f"""
-- Each value that counts, once. An event has one reward: its own, else the first one that was given to it.
CREATE VIEW reward_values AS
SELECT session_id, timestep_id, event_id, NULL AS call_id, 'event' AS scope, {REWARD!r} AS objective, reward AS value,
       time_ns, sequence, NULL AS reward_id
  FROM events WHERE reward IS NOT NULL
UNION ALL SELECT session_id, timestep_id, event_id, call_id, scope, objective, value, time_ns, NULL, reward_id
  FROM rewards r WHERE value IS NOT NULL AND (scope <> 'event' OR objective <> {REWARD!r} OR {_COUNTS})
"""
_OF_SESSIONS: Final = """
SELECT g.session_id, 'reward' AS objective, g.value AS score, 1 AS n
  FROM rewards g WHERE {to_session} AND NOT EXISTS (
    SELECT 1 FROM (SELECT session_id, time_ns, reward_id FROM rewards WHERE {to_session}) l
     WHERE l.session_id = g.session_id
       AND (coalesce(l.time_ns, 0), l.reward_id) > (coalesce(g.time_ns, 0), g.reward_id))
UNION ALL SELECT session_id, 'reward', {total}, n
  FROM (SELECT session_id, count(*) AS n, sum({reward}) AS total, {reward_size} AS size, min(reward) AS low
      FROM events WHERE reward IS NOT NULL AND session_id IS NOT NULL GROUP BY session_id) e
 WHERE NOT EXISTS (SELECT 1 FROM rewards r WHERE {of_event} AND r.session_id = e.session_id AND {counts})
   AND NOT EXISTS (SELECT 1 FROM rewards WHERE {to_session} AND rewards.session_id = e.session_id)
UNION ALL SELECT session_id, 'reward', {total}, n
  FROM (SELECT session_id, count(*) + {own_count} AS n, sum({value}) + {own_total} AS total,
      {value_size} + {own_size} AS size, min(value) AS low
      FROM rewards r WHERE {of_event} AND session_id IS NOT NULL AND {counts} GROUP BY session_id) r
 WHERE NOT EXISTS (SELECT 1 FROM rewards WHERE {to_session} AND rewards.session_id = r.session_id)
UNION ALL SELECT session_id, objective, {mean}, count(*)
  FROM rewards WHERE objective <> 'reward' AND value IS NOT NULL AND session_id IS NOT NULL
 GROUP BY session_id, objective
"""
_ABOUT_SESSIONS: Final = (
    "-- The reward of each session, and its score for every other objective; `n` is the number of values."
)
_ABOUT_CALLS: Final = "-- Scores that were given to calls. A call without one has the score of its session."
_TYPES: Final[Mapping[Kind, tuple[str, str, str, str]]] = {
    "sqlite": ("TEXT", "INTEGER", "REAL", " WITHOUT ROWID"),
    "postgres": ('text COLLATE "C"', "bigint", "double precision", ""),
}
"""The types of texts, integers and numbers, and the end of a table definition with a key of two texts."""
_OF_CALLS: Final = """
SELECT call_id, objective, {mean} AS score, count(*) AS n
  FROM rewards r WHERE r.scope = 'call' AND r.value IS NOT NULL AND r.call_id IS NOT NULL GROUP BY call_id, objective
"""
_STEPS: Final = """
SELECT * FROM (WITH RECURSIVE event_values AS (
  SELECT timestep_id, objective, value FROM reward_values
   WHERE session_id = :session_id AND scope = 'event' AND timestep_id IS NOT NULL),
inside AS (
  SELECT DISTINCT timestep_id, timestep_id AS ancestor_id FROM event_values
  {union} SELECT i.timestep_id, t.parent_timestep_id FROM inside i JOIN timesteps t ON t.timestep_id = i.ancestor_id
   WHERE t.session_id = :session_id AND t.parent_timestep_id IS NOT NULL AND t.timestep_id NOT IN ({excluded}))
SELECT i.ancestor_id, v.objective, CASE WHEN v.objective = 'reward' THEN {total} ELSE {mean} END
  FROM inside i JOIN event_values v ON v.timestep_id = i.timestep_id GROUP BY i.ancestor_id, v.objective) scores
"""
JOINED: Final = "LEFT JOIN {subject}_scores {name} ON {name}.{subject}_id = {key} AND {name}.objective = {of}"
"""A join of calls or sessions with their scores."""
OF_CALL: Final = "coalesce(own.score, score0.score)"
"""The score of a call, joined as `own`, else its session's, joined as `score0`."""
OWN: Final = "SELECT o.score FROM call_scores o WHERE o.call_id = c.call_id AND o.objective = {objective}"
"""The own score of a call `c`."""
CALLS_ABOVE: Final = "SELECT x.call_id FROM call_scores x WHERE x.objective = {objective} AND x.score >= :min_score"
SESSIONS_ABOVE: Final = (
    "SELECT x.session_id FROM session_scores x WHERE x.objective = {objective} AND x.score >= :{least}"
)
SESSION_HAS_LABEL: Final = (
    "listed.session_id IN (SELECT l.session_id FROM rewards l WHERE l.label = :label AND l.label <> ''{of})"
)
CALL_HAS_LABEL: Final = """(
  c.call_id IN (SELECT l.call_id FROM rewards l WHERE l.label = :label AND l.label <> '' AND l.scope = 'call'{of})
  OR (c.session_id IN (SELECT l.session_id FROM rewards l
      WHERE l.label = :label AND l.label <> '' AND l.scope <> 'call'{of})
    AND NOT EXISTS (SELECT 1 FROM rewards l WHERE l.call_id = c.call_id AND l.scope = 'call' AND l.label <> ''{of})))"""
"""A call with its own labels does not inherit its session's."""


def of_steps(arithmetic: Arithmetic, excluded: str, union: str) -> str:
    """Return the query for the scores of the timesteps of `:session_id`; values of descendants count in them.

    Values of the timesteps `excluded` do not count in their ancestors. `union` is that of a recursive query.
    """
    value = arithmetic.exact.format(value="v.value")
    size = arithmetic.size.format(value="v.value")
    total = arithmetic.total(f"sum({value})", size, "min(v.value)", "count(*)")
    return _STEPS.format(excluded=excluded, union=union, total=total, mean=arithmetic.mean("v.value"))


def definitions(kind: Kind) -> dict[str, str]:
    """Return the queries that define the rows of `session_scores` and `call_scores`, by table."""
    arithmetic = ARITHMETIC[kind]
    mean = arithmetic.mean("value")
    reward = arithmetic.exact.format(value="reward")
    of_sessions = _OF_SESSIONS.format(
        own_count=_OF_EVENTS.format("count(*)"), own_total=_OF_EVENTS.format(f"coalesce(sum({reward}), 0)"),
        own_size=_OF_EVENTS.format(f"coalesce({arithmetic.size.format(value='reward')}, 0)"),
        to_session=_TO_SESSION, of_event=_OF_EVENT, counts=_COUNTS, mean=mean,
        reward=reward, reward_size=arithmetic.size.format(value="reward"),
        value_size=arithmetic.size.format(value="value"), value=arithmetic.exact.format(value="value"),
        total=arithmetic.total("total", "size", "low", "n"),
    )  # fmt: skip
    return {"session_scores": of_sessions.strip(), "call_scores": _OF_CALLS.format(mean=mean).strip()}


def tables(kind: Kind) -> list[str]:
    """Return the SQL that creates the tables of scores and the view of the values that count."""
    text, integer, real, end = _TYPES[kind]
    columns = f"objective {text} NOT NULL, score {real}, n {integer} NOT NULL"
    sessions, calls = (
        f"CREATE TABLE {name}_scores ({name}_id {text} NOT NULL, {columns}, PRIMARY KEY ({name}_id, objective)){end}"
        for name in ("session", "call")
    )
    indexes = (
        f"CREATE INDEX {name}_scores_best ON {name}_scores (objective, score, {name}_id)"
        for name in ("session", "call")
    )
    return [_VALUES.strip(), f"{_ABOUT_SESSIONS}\n{sessions}", f"{_ABOUT_CALLS}\n{calls}", *indexes]
