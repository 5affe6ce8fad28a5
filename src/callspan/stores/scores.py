"""Scores: the only definition of the reward and the scores of sessions and calls, as views: see `docs/sql.md`.

The reward of a session is the last one given to the session itself, else the sum of the rewards of its events. Every
other objective has a score: the mean of its values, those of calls included. A call has its own score, the mean of the
values given to it, else that of its session.
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
    """A `{number}`, rounded to the twelfth digit of a sum or mean of absolute values, the `{size}`."""

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
OWN: Final = "r.scope = 'call' AND r.value IS NOT NULL AND r.call_id IS NOT NULL"
"""Whether the value of a reward `r` is a score of a call."""
_OF_EVENTS: Final = "(SELECT {} FROM events e WHERE e.session_id = r.session_id AND e.reward IS NOT NULL)"
_OWN_VALUES: Final = f"FROM rewards r WHERE {OWN} AND r.call_id = c.call_id AND r.objective = {{}}"
OF_CALLS: Final = f"SELECT r.call_id FROM rewards r WHERE {OWN} AND r.objective = :objective0"
"""The calls with values for the first objective."""
OF_CALLS_ABOVE: Final = f"{OF_CALLS} AND r.value >= :least_value"
OF_SESSIONS: Final = "SELECT session_id, score FROM session_scores WHERE objective = :objective0"
"""The sessions with a score for the first objective."""
REWARDED_ABOVE: Final = f"SELECT session_id FROM session_scores WHERE objective = {REWARD!r} AND score >= :{{}}"
"""The sessions with a minimum reward: a sum can be high although no value is."""
JUDGED_ABOVE: Final = (
    f"SELECT DISTINCT session_id FROM rewards WHERE objective = :objective0 AND objective <> {REWARD!r}"
    " AND value IS NOT NULL AND session_id IS NOT NULL AND value >= :least_value"
)
"""The sessions with a value for the first objective without which its mean is less."""
_ROUNDING: Final = 1e-11
"""More than the share of a mean that rounding may add."""
_SMALLEST: Final = 1e-29
"""More than what rounding may add to a mean near zero: SQLite rounds to 30 digits after the point at most."""
_VALUES: Final = f"""
-- Each value that counts, once. An event has one reward: its own, else the first one that was given to it.
CREATE VIEW reward_values AS
SELECT session_id, timestep_id, event_id, NULL AS call_id, 'event' AS scope, {REWARD!r} AS objective, reward AS value,
       time_ns, sequence, NULL AS reward_id
  FROM events WHERE reward IS NOT NULL
UNION ALL SELECT session_id, timestep_id, event_id, call_id, scope, objective, value, time_ns, NULL, reward_id
  FROM rewards r WHERE value IS NOT NULL AND (scope <> 'event' OR objective <> {REWARD!r} OR {_COUNTS})
"""
_SESSIONS: Final = """
-- The reward of each session, and its score for every other objective; `n` is the number of values.
CREATE VIEW session_scores AS
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
_CALLS: Final = f"""
-- Scores that were given to calls. A call without one has the score of its session.
CREATE VIEW call_scores AS
SELECT call_id, objective, {{mean}} AS score, count(*) AS n
  FROM rewards r WHERE {OWN} GROUP BY call_id, objective
"""
_STEPS: Final = """
WITH RECURSIVE event_values AS (
  SELECT timestep_id, objective, value FROM reward_values
   WHERE session_id = :session_id AND scope = 'event' AND timestep_id IS NOT NULL),
inside (timestep_id, ancestor_id) AS (
  SELECT timestep_id, timestep_id FROM event_values
  UNION SELECT i.timestep_id, t.parent_timestep_id FROM inside i JOIN timesteps t ON t.timestep_id = i.ancestor_id
   WHERE t.session_id = :session_id AND t.parent_timestep_id IS NOT NULL AND t.timestep_id NOT IN ({excluded}))
SELECT i.ancestor_id, v.objective, CASE WHEN v.objective = 'reward' THEN {total} ELSE {mean} END
  FROM inside i JOIN event_values v ON v.timestep_id = i.timestep_id GROUP BY i.ancestor_id, v.objective
"""
JOINED: Final = (
    """LEFT JOIN (SELECT session_id, score FROM session_scores WHERE {of}) {name} ON {name}.session_id = {key}"""
)
"""A join of sessions with their scores; each is computed once, in the order of an index."""
SESSION_HAS_LABEL: Final = (
    "listed.session_id IN (SELECT l.session_id FROM rewards l WHERE l.label = :label AND l.label <> ''{of})"
)
CALL_HAS_LABEL: Final = """(
  c.call_id IN (SELECT l.call_id FROM rewards l WHERE l.label = :label AND l.label <> '' AND l.scope = 'call'{of})
  OR (c.session_id IN (SELECT l.session_id FROM rewards l
      WHERE l.label = :label AND l.label <> '' AND l.scope <> 'call'{of})
    AND NOT EXISTS (SELECT 1 FROM rewards l WHERE l.call_id = c.call_id AND l.scope = 'call' AND l.label <> ''{of})))"""
"""A call with its own labels does not inherit those of its session."""


def of_call(arithmetic: Arithmetic, objective: str) -> str:
    """Return the score of a call `c`: its own, else that of its session, which is joined as `score0`."""
    return f"coalesce({_own(arithmetic, objective)}, score0.score)"


def call_has_score(arithmetic: Arithmetic, objective: str, of_session: str) -> str:
    """Return whether a call `c` has the score `:min_score`, with the condition on its session if it has no own one."""
    return f"coalesce({_own(arithmetic, objective)} >= :min_score, {of_session})"


def _own(arithmetic: Arithmetic, objective: str) -> str:
    """Return the own score of a call `c`: the view `call_scores` would be computed for all calls."""
    values = _OWN_VALUES.format(objective)
    # Most have one value, and the sums of several take twice as long.
    rounded_mean = f"(SELECT {arithmetic.mean_of_several('r.value')} {values})"
    return f"(SELECT CASE count(*) WHEN 0 THEN NULL WHEN 1 THEN max(r.value) ELSE {rounded_mean} END {values})"


def least_value(score: float) -> float:
    """Return the number that the largest value of a mean with this score reaches, whatever rounding added."""
    return score - abs(score) * _ROUNDING - _SMALLEST


def most_value(score: float) -> float:
    """Return the number that the smallest value of a mean with this score does not exceed."""
    return -least_value(-score)


def of_steps(arithmetic: Arithmetic, excluded: str) -> str:
    """Return the query for the scores of the timesteps of `:session_id`, including those of their descendants.

    Values of the timesteps `excluded` do not count in their ancestors.
    """
    value = arithmetic.exact.format(value="v.value")
    size = arithmetic.size.format(value="v.value")
    total = arithmetic.total(f"sum({value})", size, "min(v.value)", "count(*)")
    return _STEPS.format(excluded=excluded, total=total, mean=arithmetic.mean("v.value"))


def views(kind: Kind) -> list[str]:
    """Return the SQL that creates the views."""
    arithmetic = ARITHMETIC[kind]
    mean = arithmetic.mean("value")
    reward = arithmetic.exact.format(value="reward")
    sessions = _SESSIONS.format(
        own_count=_OF_EVENTS.format("count(*)"), own_total=_OF_EVENTS.format(f"coalesce(sum({reward}), 0)"),
        own_size=_OF_EVENTS.format(f"coalesce({arithmetic.size.format(value='reward')}, 0)"),
        to_session=_TO_SESSION, of_event=_OF_EVENT, counts=_COUNTS, mean=mean,
        reward=reward, reward_size=arithmetic.size.format(value="reward"),
        value_size=arithmetic.size.format(value="value"), value=arithmetic.exact.format(value="value"),
        total=arithmetic.total("total", "size", "low", "n"),
    )  # fmt: skip
    return [_VALUES.strip(), sessions.strip(), _CALLS.format(mean=mean).strip()]
