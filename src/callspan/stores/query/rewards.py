"""Rewards: joins rewards with their targets when either is written, and reads scores, labels and reward curves.

A reward may name its call by a provider's id, and its target without the target's session or timestep. Its row then
gets the call's own id and the session and timestep of its target, whichever of the two is stored first.
"""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, TypeAlias, TypeVar

import msgspec

from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, Record, RewardRecord, SessionRecord, TimestepRecord
from callspan.record.reward_sums import REWARD, Score, running
from callspan.stores.base import CallIds
from callspan.stores.tables.database import Database, SqlDatabase, Values, in_batches, items
from callspan.stores.tables.facts import CALL_IDS, GIVEN
from callspan.stores.tables.score_tables import refresh, scored_by
from callspan.stores.tables.scores import of_steps

Subject: TypeAlias = Literal["session", "call"]
"""What rewards are given to."""
Scores: TypeAlias = Mapping[str, float]
"""Scores by objective."""
Labels: TypeAlias = Mapping[str, Sequence[str]]
"""Labels by objective, the last first."""
_Scored = TypeVar("_Scored", SessionRecord, TimestepRecord)
_NAMING: Final = """
SELECT reward_id FROM rewards WHERE call_id IN ({items})
UNION SELECT reward_id FROM rewards WHERE given_call_id IN ({items})
UNION SELECT reward_id FROM rewards WHERE (session_id IS NULL OR timestep_id IS NULL) AND event_id IN ({items})
UNION SELECT reward_id FROM rewards WHERE session_id IS NULL AND timestep_id IN ({items})"""
_ORIGIN: Final = (
    "coalesce(c.provider, '') || ' ' || coalesce(c.response_model, '') || ' ' || coalesce(c.response_created_s, 0)"
)
_ANSWER: Final = """(SELECT t.hash FROM contents t
      WHERE t.owner = coalesce(c.owner, 's:' || c.session_id, 'c:' || c.call_id) AND t.n = c.output)"""
_TOKENS: Final = "'' || c.input_tokens || ' ' || c.output_tokens"
_IS_ONE_ANSWER: Final = f"""count(DISTINCT {_ORIGIN}) = 1
        AND count(DISTINCT CASE WHEN c.cached IS NULL THEN {_ANSWER} END) <= 1
        AND count(DISTINCT CASE WHEN c.cached IS NULL THEN {_TOKENS} END) <= 1"""
"""Whether calls with the same id have the same answer, as far as is known. A cache may change what is around a text."""
_NAMED: Final = ", ".join(
    f"""(SELECT CASE WHEN {_IS_ONE_ANSWER} THEN (SELECT c.call_id FROM calls c
        WHERE c.{name} = rewards.call_id ORDER BY c.cached IS NOT NULL, c.start_ns, c.call_id LIMIT 1) END
      FROM calls c WHERE c.{name} = rewards.call_id)"""
    for name in CALL_IDS[1:]
)
"""Of several calls with an id, as after a replay or from a cache, the first one that was bought. If these are several
answers, because the server repeats its ids, it is unknown which one is meant."""
_EVENT: Final = "(SELECT e.{column} FROM events e WHERE e.event_id = rewards.event_id)"
_CALL: Final = "(SELECT c.{column} FROM calls c WHERE c.call_id = rewards.call_id)"
_TIMESTEP: Final = "(SELECT t.session_id FROM timesteps t WHERE t.timestep_id = rewards.timestep_id)"
_SESSION_OF: Final = ", ".join((_EVENT.format(column="session_id"), _CALL.format(column="session_id"), _TIMESTEP))
_TIMESTEP_OF: Final = ", ".join((_EVENT.format(column="timestep_id"), _CALL.format(column="timestep_id")))
_TIMESTEP_IN_SESSION: Final = ", ".join(
    f"{of.format(column='timestep_id')[:-1]} AND {row}.session_id = rewards.session_id)"
    for row, of in (("e", _EVENT), ("c", _CALL))
)
_JOINED: Final = [name.removeprefix("given_") for name in GIVEN]
_JOIN: Final = (
    f"""UPDATE rewards SET {", ".join(map("{} = {}".format, _JOINED, GIVEN))}
      WHERE given_call_id IS NOT NULL AND reward_id IN ({{items}})""",
    f"""UPDATE rewards SET {", ".join(map("{} = {}".format, GIVEN, _JOINED))}, call_id = coalesce({_NAMED}, call_id)
      WHERE call_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.call_id = rewards.call_id)
        AND reward_id IN ({{items}})""",
    f"""UPDATE rewards SET session_id = coalesce({_SESSION_OF}), timestep_id = coalesce({_TIMESTEP_OF}, timestep_id)
      WHERE session_id IS NULL AND reward_id IN ({{items}})""",
    f"""UPDATE rewards SET timestep_id = coalesce({_TIMESTEP_IN_SESSION})
      WHERE timestep_id IS NULL AND session_id IS NOT NULL AND reward_id IN ({{items}})""",
)
"""A reward gets the session of its narrowest target: event, call, timestep. If it names its session as well, it gets
the timestep of a target in that session. One that names its call by another id is joined anew with each call that has
this id, because the next one may be another answer."""
_LAST: Final = """
SELECT session_id, objective, value FROM (
  SELECT session_id, objective, value,
      row_number() OVER (PARTITION BY session_id, objective ORDER BY time_ns DESC, reward_id DESC) AS position
    FROM {rewards} WHERE {condition} AND value IS NOT NULL) ranked WHERE position = 1
"""
_LABELS: Final = """
SELECT session_id, objective, max(label) FROM {rewards} WHERE {condition} AND value IS NOT NULL
 GROUP BY session_id, objective HAVING min(coalesce(label, '')) = max(label) AND max(label) <> ''
"""
_CURVE: Final = f"""
SELECT session_id, time_ns, value FROM reward_values WHERE {{condition}} AND scope = 'event' AND objective = {REWARD!r}
 ORDER BY session_id, time_ns, coalesce(sequence, 0), reward_id IS NOT NULL, coalesce(reward_id, event_id)
"""


def needs_join(record: Record) -> bool:
    """Return whether a record is a reward that takes its session or timestep from its target.

    So is each reward of an event, which may have one already.
    """
    if not isinstance(record, RewardRecord):
        return False
    lacks_step = record.timestep_id is None and record.call_id is not None
    return record.session_id is None or record.event_id is not None or lacks_step


def join(database: SqlDatabase, records: Sequence[Record]) -> None:
    """Set the call, session and timestep of the rewards among these new records, and of rewards for these records.

    Then compute the scores that these rewards, and the rewards of new events, change.
    """
    reward_ids = _concerned(database, records)
    event_ids = {record.event_id for record in records if isinstance(record, EventRecord) and record.reward is not None}
    if not reward_ids and not event_ids:
        return
    joined_ids = reward_ids | event_ids
    former = scored_by(database, reward_ids)
    for sql in _JOIN if reward_ids else ():
        database.run(sql.format(items=database.dialect.items), items(reward_ids))
    refresh(database, former | scored_by(database, joined_ids))


def _concerned(database: Database, records: Sequence[Record]) -> set[str]:
    """Return the ids of the rewards among these new records, and of stored rewards for these records."""
    if next(database.tuples("SELECT 1 FROM rewards LIMIT 1"), None) is None:
        return set()
    reward_ids = {record.reward_id for record in records if isinstance(record, RewardRecord)}
    if target_ids := {ident for record in records for ident in _ids_of(record) if ident is not None}:
        sql = _NAMING.format(items=database.dialect.items)
        reward_ids.update(row[0] for row in database.tuples(sql, items(target_ids)))
    return reward_ids


def _ids_of(record: Record) -> tuple[str | None, ...]:
    """Return the ids that rewards may name a record by."""
    match record:
        case CallRecord():
            response_id = None if record.response is None else record.response.id
            return record.call_id, response_id, record.request_id, record.span_id
        case EventRecord():
            return (record.event_id,)
        case TimestepRecord():
            return (record.timestep_id,)
        case _:
            return ()


def scores_of_sessions(database: Database, condition: str, parameters: Values) -> dict[str, dict[str, Score]]:
    """Return the scores of the condition sessions by objective, the reward too, with their numbers and last values."""
    last_values = {
        row[:2]: row[2]
        for row in database.tuples(
            _LAST.format(condition=condition, rewards=database.dialect.session_rewards), parameters
        )
    }
    scores: dict[str, dict[str, Score]] = defaultdict(dict)
    sql = f"SELECT session_id, objective, score, n FROM session_scores WHERE {condition}"
    for session_id, objective, score, number in database.tuples(sql, parameters):
        scores[session_id][objective] = Score(score, number, last_values.get((session_id, objective), score))
    return scores


def scores_of_calls(
    database: Database, calls: Sequence[CallIds], objectives: Sequence[str]
) -> dict[str, dict[str, float]]:
    """See `Reader.call_scores`."""
    session_ids = [*{call.session_id: None for call in calls if call.session_id}]
    of_sessions = _scores(database, "session", session_ids, {*objectives, REWARD})
    own_scores = _scores(database, "call", [call.call_id for call in calls], objectives)
    return {
        call.call_id: {**of_sessions.get(call.session_id or "", {}), **own_scores.get(call.call_id, {})}
        for call in calls
    }


def _scores(
    database: Database, subject: Subject, ids: Sequence[str], objectives: Collection[str]
) -> dict[str, dict[str, float]]:
    """Return the scores in a view for these objectives, by id and objective."""
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for condition, parameters in in_batches(ids, f"{subject}_id"):
        before = _before(database, "call", condition) if subject == "call" else ""
        sql = f"{before}SELECT {subject}_id, objective, score FROM {subject}_scores WHERE {condition}"
        for ident, objective, score in database.tuples(sql, parameters):
            if objective in objectives:
                scores[ident][objective] = score
    return scores


def rewards_of(database: Database, subject: Subject, condition: str) -> str:
    """Return the SQL for the rewards whose session or call matches a condition."""
    return f"{_before(database, subject, condition)}SELECT * FROM rewards WHERE {condition}"


def _before(database: Database, subject: Subject, condition: str) -> str:
    """Return what precedes a query for the rewards whose session or call matches a condition."""
    dialect = database.dialect
    return (dialect.of_sessions if subject == "session" else dialect.of_calls).format(condition=condition)


def labels_of_calls(
    database: Database, calls: Sequence[CallIds], objectives: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """See `Reader.call_labels`."""
    own_labels = _labels(database, "call", "=", [call.call_id for call in calls], objectives)
    session_ids = [*{call.session_id: None for call in calls if call.session_id}]
    of_sessions = _labels(database, "session", "<>", session_ids, objectives)
    return {call.call_id: own_labels.get(call.call_id) or of_sessions.get(call.session_id or "", {}) for call in calls}


def rated_ids(database: Database, kind: Subject, ids: Sequence[str]) -> set[str]:
    """See `Reader.rated_ids`."""
    column = f"{kind}_id"
    rated: set[str] = set()
    for condition, parameters in in_batches(ids, column):
        sql = f"SELECT DISTINCT {column} FROM rewards WHERE {condition} AND source = 'human' AND objective <> 'tag'"
        rated.update(row[0] for row in database.tuples(_before(database, kind, condition) + sql, parameters))
    return rated


def labels_of_scores(database: Database, session_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """See `Reader.score_labels`."""
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    for condition, parameters in in_batches(session_ids):
        for session_id, objective, label in database.tuples(
            _LABELS.format(condition=condition, rewards=database.dialect.session_rewards), parameters
        ):
            labels[session_id][objective] = label
    return labels


def _labels(
    database: Database, subject: Subject, equals: str, ids: Sequence[str], objectives: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """Return the labels by id and objective of rewards that were given to a call (`=`), or not (`<>`)."""
    labels: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for condition, parameters in in_batches(ids, f"{subject}_id"):
        sql = f"""{_before(database, subject, condition)}SELECT {subject}_id, objective, label FROM rewards
          WHERE {condition} AND scope {equals} 'call' AND label <> '' ORDER BY time_ns DESC, reward_id DESC"""
        for ident, objective, label in database.tuples(sql, parameters):
            if objective in objectives:
                labels[ident][objective].append(label)
    return labels


def scores_of_steps(database: Database, session_id: str, excluded: Sequence[str]) -> dict[str, dict[str, float]]:
    """See `Reader.timestep_scores`."""
    dialect = database.dialect
    before = _before(database, "session", "session_id = :session_id")
    sql = f"{before}{of_steps(dialect.arithmetic, excluded=dialect.items, union=dialect.recursive_union)}"
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for timestep_id, objective, score in database.tuples(sql, {"session_id": session_id, **items(excluded)}):
        scores[timestep_id][objective] = score
    return scores


def with_scores(record: _Scored, scores: Mapping[str, float]) -> _Scored:
    """Return a session or timestep with these scores by objective; unchanged if its totals are unknown."""
    if record.totals is None:
        return record
    other_scores = {name: score for name, score in scores.items() if name != REWARD}
    totals = msgspec.structs.replace(record.totals, reward=scores.get(REWARD), rewards=other_scores)
    return msgspec.structs.replace(record, totals=totals)


def reward_curve(database: Database, condition: str, parameters: Values) -> dict[str, list[tuple[int, float]]]:
    """Return the cumulative reward after each reward of the condition sessions, with its time, by session."""
    rewards_by_session: dict[str, list[tuple[int, float]]] = defaultdict(list)
    sql = _before(database, "session", condition) + _CURVE.format(condition=condition)
    for session_id, time_ns, value in database.tuples(sql, parameters):
        rewards_by_session[session_id].append((time_ns, value))
    return {session_id: list(running(rewards)) for session_id, rewards in rewards_by_session.items()}
