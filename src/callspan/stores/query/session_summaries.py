"""Session summaries: reads the data of lists of sessions: sums, first words, and timelines."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final, cast

import msgspec
from msgspec.structs import replace

from callspan.formatting import excerpt
from callspan.joining.joints import RULES, Joint, Joints, agrees, joints_of, parsed
from callspan.joining.known import stated_by
from callspan.joining.same_message import ANSWERING
from callspan.record.call import CallRecord, Place
from callspan.record.events import SessionRecord, start_id
from callspan.record.labels import ASIDES, PURPOSE
from callspan.record.reward_sums import REWARD
from callspan.stores.base import CallAggregates, CallError, Opening, Run, SessionSummary, Summary
from callspan.stores.query import aggregates, rewards
from callspan.stores.query.filters import FAILED
from callspan.stores.query.interrupted import mark_unended
from callspan.stores.query.new_messages import question, spoken, words_of_user
from callspan.stores.query.sums import MODEL, labels_of_sessions, summed
from callspan.stores.tables.call_rows import read_calls, record_of, user_messages
from callspan.stores.tables.database import Database, Values, in_batches
from callspan.stores.tables.facts import SESSIONS

_WORDS: Final = 160
"""Characters of the first words."""
_WITHOUT_MENTIONS: Final = partial(parsed, mentions=False)
_NO_CALLS: Final = CallAggregates(calls=0, errors=0)
_QUESTION: Final = "question"
_IN_CONVERSATION: Final = (
    f"(c.metadata IS NULL OR coalesce(callspan_label(c.metadata, '{PURPOSE}'), '') NOT IN {ASIDES!r})"
)
_FIRST: Final = f"""
SELECT c.call_id, c.session_id FROM calls c WHERE {_IN_CONVERSATION} AND (c.session_id, c.start_ns) IN (
  SELECT c.session_id, min(c.start_ns) FROM calls c WHERE c.{{condition}} AND {_IN_CONVERSATION} GROUP BY c.session_id)
ORDER BY c.call_id
"""
_LAST_OF_RUNS: Final = f"""
SELECT c.session_id, c.call_id FROM calls c WHERE c.{{condition}} AND c.inferred AND {_IN_CONVERSATION}
  AND c.call_id NOT IN (SELECT c.previous_call_id FROM calls c WHERE c.{{condition}} AND c.previous_call_id IS NOT NULL)
ORDER BY c.start_ns, c.call_id
"""
"""The calls of runs that no other one continues: one, if the run has no branches."""
_MAX_BRANCHES: Final = 4
"""Branches of a run whose questions are listed."""
_RUNS: Final = """
SELECT * FROM (
SELECT c.session_id AS of_session, 'call' AS kind, c.start_ns AS began, c.duration_ns AS lasted,
    c.first_token_ns, c.outcome, c.retries FROM calls c WHERE c.{condition}
UNION ALL SELECT e.session_id, 'tool', e.time_ns, e.duration_ns, NULL,
    CASE WHEN e.error IS NULL THEN NULL ELSE 'error' END, NULL
  FROM events e WHERE e.{condition} AND coalesce(e.event_type, '') = 'tool') runs ORDER BY began, lasted
"""
_ERRORS: Final = f"""
SELECT c.session_id, c.call_id, c.error_kind, c.http_status FROM calls c
 WHERE c.{{condition}} AND {FAILED} ORDER BY c.start_ns, c.call_id
"""
_EXTENTS: Final = f"""
SELECT 'timesteps', session_id, count(*), max(coalesce(end_ns, start_ns)) FROM timesteps WHERE {{condition}} GROUP BY 2
UNION ALL SELECT 'messages', session_id, count(*), max(time_ns) FROM messages WHERE {{condition}} GROUP BY 2
UNION ALL SELECT 'rewards', session_id, count(*), max(time_ns) FROM {{rewards}} WHERE {{condition}} GROUP BY 2
UNION ALL SELECT 'events', session_id, count(*), max(time_ns) FROM events WHERE {{condition}}
 AND NOT (event_id IN (SELECT event_id || '{start_id("")}' FROM events
  WHERE {{condition}} AND {aggregates.ANNOUNCED})) GROUP BY 2
"""
"""Number and last time of the records in sessions, without start events of runs that are also stored with their end."""
_IN_RANGE: Final = (
    "coalesce({start}, -1) BETWEEN 0 AND 4611686018427387904 AND {lasted} BETWEEN 0 AND 4611686018427387902"
)
"""Until the year 2116, so that no sum overflows. `coalesce`: or an index of starts is used, although all match."""
ACTIVE: Final = f"""
SELECT session_id, CAST(sum(CASE WHEN before IS NULL OR before < began THEN ended - began
    WHEN before < ended THEN ended - before ELSE 0 END) AS bigint) AS active
FROM (SELECT session_id, began, ended,
    max(ended) OVER (PARTITION BY session_id ORDER BY began, ended
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
  FROM (SELECT c.session_id AS session_id, c.start_ns AS began, c.start_ns + c.duration_ns AS ended FROM calls c
      WHERE c.{{condition}} AND {_IN_RANGE.format(start="c.start_ns", lasted="c.duration_ns")}
    UNION ALL SELECT e.session_id, e.time_ns, e.time_ns + e.duration_ns FROM events e
      WHERE e.{{condition}} AND coalesce(e.event_type, '') = 'tool'
        AND {_IN_RANGE.format(start="e.time_ns", lasted="e.duration_ns")}) runs) behind
GROUP BY session_id
"""
"""Time during which any call or tool of a session ran. Each adds the time after the latest end so far."""


def extents(database: Database, condition: str) -> str:
    """Return the query for the number and last time of the records in sessions that match a condition, by table."""
    return _EXTENTS.format(condition=condition, rewards=database.dialect.session_rewards)


def session_summaries(
    database: Database, ids: Sequence[str], call_labels: Sequence[str] = ()
) -> Iterator[SessionSummary]:
    """Yield the summaries of these sessions, with a fixed number of queries per batch and key of `call_labels`."""
    for condition, parameters in in_batches(ids):
        labels = {key: labels_of_sessions(database, key, f"c.{condition}", parameters) for key in call_labels}
        for summary in _summarized(database, [*map(str, parameters.values())], condition, parameters):
            of_calls = {key: by_session.get(summary.session.session_id, []) for key, by_session in labels.items()}
            yield replace(summary, call_labels=of_calls) if of_calls else summary


def _summarized(database: Database, ids: Sequence[str], condition: str, parameters: Values) -> Iterator[SessionSummary]:
    of_ends = "max(c.end_ns) AS last_end_ns"
    of_runs = (
        "max(CASE WHEN c.inferred THEN 1 END) AS inferred, max(CASE WHEN c.inferred THEN c.user_id END) AS run_user"
    )
    models = f"{database.dialect.array.format(values=f'DISTINCT {MODEL}')} FILTER (WHERE {MODEL} IS NOT NULL) AS models"
    sums = {
        summary.key: (summary, row)
        for summary, row in summed(
            database, ["session"], f"c.{condition}", parameters, extra_columns=[models, of_ends, of_runs]
        )
    }
    rows = {row["session_id"]: row for row in database.rows(f"SELECT * FROM sessions WHERE {condition}", parameters)}
    counts: dict[tuple[str, str], int] = defaultdict(int)
    times: dict[str, list[int | None]] = defaultdict(list)
    for table, session_id, count, last_ns in database.tuples(extents(database, condition), parameters):
        counts[table, session_id] = count
        times[session_id].append(last_ns)
    scores = rewards.scores_of_sessions(database, condition, parameters)
    active = dict(database.tuples(ACTIVE.format(condition=condition), parameters))
    errors = _first_errors(
        database, [session_id for session_id in ids if session_id in sums and sums[session_id][0].errors]
    )
    for session_id in ids:
        of_calls, row = sums.get(session_id, (None, None))
        session = _session_record(session_id, rows.get(session_id), of_calls, None if row is None else row["run_user"])
        last_call_ns = None if of_calls is None else of_calls.last_ns
        activity_times = [session.start_ns, session.end_ns, last_call_ns, *times[session_id]]
        has_ended_call = row is not None and row["last_end_ns"] is not None
        other_scores = {name: score for name, score in scores[session_id].items() if name != REWARD}
        means = {name: score.mean for name, score in scores[session_id].items()}
        last_ns = max((time for time in activity_times if time is not None), default=None)
        yield SessionSummary(
            # Rewards may arrive after its end and from other processes.
            session=mark_unended(rewards.with_scores(session, means), last_ns),
            timesteps=counts["timesteps", session_id],
            events=sum(counts[table, session_id] for table in ("events", "messages", "rewards")),
            models=[] if row is None else _models(row),
            inferred=row is not None and row["inferred"] is not None,
            **{name: getattr(of_calls or _NO_CALLS, name) for name in CallAggregates.__struct_fields__},
            first_error=errors.get(session_id),
            reward=means.get(REWARD),
            scores=other_scores,
            active_ns=active.get(session_id),
            last_call_ns=last_call_ns if has_ended_call else None,
            last_ns=last_ns,
        )


def _models(row: Values) -> list[str]:
    return sorted(msgspec.json.decode(cast("str", row["models"] or "[]"), type=list[str]))


def _session_record(session_id: str, row: Values | None, sums: Summary | None, run_user: object) -> SessionRecord:
    if row is not None:
        return record_of(SESSIONS, row, SessionRecord)
    start_ns, user_id = None if sums is None else sums.first_ns, run_user if isinstance(run_user, str) else None
    return SessionRecord(session_id=session_id, seen_ns=0, start_ns=start_ns, user_id=user_id)


def _first_errors(database: Database, session_ids: Sequence[str]) -> dict[str, CallError]:
    """Return the error of the first failed call of each of these sessions."""
    errors: dict[str, CallError] = {}
    for condition, parameters in in_batches(session_ids):
        for session_id, *error in database.tuples(_ERRORS.format(condition=condition), parameters):
            errors.setdefault(session_id, CallError(*error))
    return errors


def openings(database: Database, session_ids: Sequence[str]) -> dict[str, Opening]:
    """See `Reader.openings`."""
    words_by_session, calls = dict[str, str](), list[CallRecord]()
    for condition, parameters in in_batches(session_ids):
        query = f"SELECT session_id, content FROM messages WHERE {condition} AND message_type = '{_QUESTION}'"
        query += " AND content IS NOT NULL ORDER BY time_ns, message_id"
        for session_id, content in database.tuples(query, parameters):
            words_by_session.setdefault(session_id, _text_of(content))
        first_calls: dict[str, str] = {}
        for call_id, session_id in database.tuples(_FIRST.format(condition=condition), parameters):
            first_calls.setdefault(session_id, call_id)
        last_calls: dict[str, list[str]] = defaultdict(list)
        for session_id, call_id in database.tuples(_LAST_OF_RUNS.format(condition=condition), parameters):
            last_calls[session_id].append(call_id)
        sessions_by_call = {
            call_id: session_id for session_id, call_id in first_calls.items() if session_id not in words_by_session
        }
        for call in read_calls(database, [*sessions_by_call], "all"):
            session_id = sessions_by_call[call.call_id]
            words_by_session[session_id] = _question(call, is_run=session_id in last_calls)
            calls.append(call)
        for session_id, call_ids in last_calls.items():
            first = words_by_session.get(session_id)
            words_by_session[session_id] = _questions(database, first, call_ids[:_MAX_BRANCHES])
    continued = _continued_sessions(calls)
    return {key: Opening(words or None, continued.get(key)) for key, words in words_by_session.items()}


def _continued_sessions(first_calls: Sequence[CallRecord]) -> dict[str, str]:
    """Return, by session, the one whose first answer is the last of such in its own first request."""
    continued, offers = dict[str, str](), defaultdict[int, list[tuple[Joint, CallRecord]]](list)
    for call in sorted(first_calls, key=lambda call: call.timing.start_ns) if any(map(_has_turns, first_calls)) else ():
        joints = joints_of(replace(call, place=Place()), _WITHOUT_MENTIONS)
        if (earlier := _earlier(call, joints, offers)) is not None:
            continued[call.place.session_id or ""] = earlier
        for joint in (*joints.offered, *(joints.histories or ())):
            offers[joint.key].append((joint, call))
    return continued


def _has_turns(call: CallRecord) -> bool:
    """Return whether a request has a history, or names one."""
    is_kept = call.request.continues is not None or call.request.conversation_id is not None
    return is_kept or any(message.role in ANSWERING for message in spoken(call))


def _earlier(call: CallRecord, joints: Joints, offers: Mapping[int, Sequence[tuple[Joint, CallRecord]]]) -> str | None:
    """Return the session that a session's first call continues; None if there is none, or more than one may be it."""
    owner = stated_by(call)
    for rule in RULES:
        for joint in joints.sought.get(rule, ()):
            calls = [other for offered, other in offers.get(joint.key, ()) if agrees(joint, offered)]
            ids = {other.place.session_id: None for other in calls if not stated_by(other).contradicts(owner)}
            # Each turn names the conversation that the provider keeps.
            if ids and (len(ids) == 1 or rule == "kept"):
                return [*ids][-1]
            if ids:
                return None
    return None


def courses(database: Database, session_ids: Sequence[str]) -> Mapping[str, Sequence[Run]]:
    """See `Reader.courses`."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for condition, parameters in in_batches(session_ids):
        for session_id, *run in database.tuples(_RUNS.format(condition=condition), parameters):
            runs[session_id].append(Run._make(run))
    return runs


def _text_of(content: str) -> str:
    """Return the text in a JSON column on one line."""
    value = msgspec.json.decode(content)
    return excerpt(value, _WORDS) if isinstance(value, str) else ""


def _questions(database: Database, first: str | None, call_ids: Sequence[str]) -> str:
    """Return the texts of the user in a run, on one line: the first one, and those that these requests repeat.

    Messages behind the last text that is shown are not read.
    """
    texts: dict[str, None] = {first: None} if first else {}
    condition, parameters = next(in_batches(call_ids, "call_id"))
    rows = database.with_references([*database.rows(f"SELECT * FROM calls WHERE {condition}", parameters)])
    for row in sorted(rows, key=lambda row: call_ids.index(str(row["call_id"]))):
        for message in user_messages(database, row, 2 * _WORDS):
            if sum(map(len, texts)) > _WORDS:
                break
            if text := words_of_user(message):
                texts[excerpt(text, _WORDS)] = None
    return excerpt(" · ".join(texts), _WORDS)


def _question(call: CallRecord, *, is_run: bool) -> str:
    """Return what is new in the first request of a session: the last text of the user, of a run the first one.

    Of a transcription it is the transcript; "" without a text.
    """
    if call.api == "transcriptions":
        return excerpt(call.text or "", _WORDS)
    if not is_run:
        return question(call) or ""
    return next((excerpt(text, _WORDS) for text in map(words_of_user, spoken(call)) if text), "")
