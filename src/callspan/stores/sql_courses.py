"""SQL courses: what lists show of sessions beside their sums: their first words, when what ran, why calls failed."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import msgspec

from callspan.formatting import shown
from callspan.record import reward_sums
from callspan.record.call import CallRecord
from callspan.record.events import RewardRecord, record_key
from callspan.stores import aggregates
from callspan.stores.base import CallError, Content, Run
from callspan.stores.sql_rewards import SqlRewards, Values, in_parts

_MOST_RUNS: Final = 256
"""A session with more calls and tools has no course."""
_WORDS: Final = 160
"""Characters of the first words."""
_QUESTION: Final = "question"
_FIRST: Final = """
SELECT c.{row_id}, c.session_id FROM calls c WHERE (c.session_id, c.start_ns) IN (
  SELECT session_id, min(start_ns) FROM calls WHERE {chosen} GROUP BY session_id) ORDER BY c.call_id
"""
_RUNS: Final = """
SELECT * FROM (
SELECT c.session_id AS of_session, 'call' AS kind, c.start_ns AS began, c.duration_ns AS lasted,
    c.ttft_ns, c.outcome, c.retries FROM calls c WHERE c.{chosen}
UNION ALL SELECT e.session_id, 'tool', e.time_ns, e.duration_ns, NULL,
    CASE WHEN e.error IS NULL THEN NULL ELSE 'error' END, NULL
  FROM events e WHERE e.{chosen} AND coalesce(e.event_type, '') = 'tool') runs ORDER BY began, lasted
"""
_COUNT: Final = "SELECT session_id, count(*) FROM {table} WHERE {chosen} GROUP BY session_id"
_ERRORS: Final = """
SELECT c.session_id, c.call_id, c.error_kind, c.http_status FROM calls c
 WHERE c.{chosen} AND c.outcome IN ('error', 'timeout') ORDER BY c.start_ns, c.call_id
"""


class SqlCourses(SqlRewards):
    """Reads what lists show of sessions."""

    _row_id: str

    @abstractmethod
    def _read(self, ids: Sequence[object], content: Content) -> Iterator[CallRecord]:
        """Yield the calls of these ids, in this order."""

    def version(self) -> str | None:
        """Return a text that differs when something was written since; None: the store cannot tell."""
        return None

    def interrupt(self) -> None:
        """Stop the query that runs, from any thread, where the store can."""

    def first_words(self, session_ids: Sequence[str]) -> dict[str, str]:
        """Return the first words of each of these sessions, on one line, where that is kept."""
        found: dict[str, str] = {}
        for chosen, names in in_parts(session_ids):
            query = f"SELECT session_id, content FROM messages WHERE {chosen} AND message_type = '{_QUESTION}'"
            for session_id, content in self._tuples(f"{query} ORDER BY time_ns, message_id", **names):
                if content is not None:
                    found.setdefault(str(session_id), _text_of(content))
            first: dict[str, object] = {}
            for row_id, session_id in self._tuples(_FIRST.format(row_id=self._row_id, chosen=chosen), **names):
                first.setdefault(str(session_id), row_id)
            rest = [row_id for session_id, row_id in first.items() if session_id not in found]
            for call in self._read(rest, "all") if rest else ():
                words = _question(call)
                if words and call.place.session_id is not None:
                    found[call.place.session_id] = words
        return {session_id: words for session_id, words in found.items() if words}

    def courses(self, session_ids: Sequence[str]) -> dict[str, list[Run]]:
        """Return when the calls and tools of each of these sessions ran, in order; for sessions with few of them."""
        found: dict[str, list[Run]] = defaultdict(list)
        for chosen, names in in_parts(session_ids):
            numbers: dict[str, int] = defaultdict(int)
            for table in ("calls", "events"):
                for session_id, number in self._tuples(_COUNT.format(table=table, chosen=chosen), **names):
                    numbers[str(session_id)] += int(str(number))
            short = [session_id for session_id, number in numbers.items() if number <= _MOST_RUNS]
            for some, of_short in in_parts(short):
                for row in cast("Iterator[tuple[Any, ...]]", self._tuples(_RUNS.format(chosen=some), **of_short)):
                    found[row[0]].append(Run._make(row[1:]))
        return dict(found)

    def reward_curves(self, session_ids: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        """Return the reward so far after each that was given, by session, with its time."""
        found: dict[str, list[tuple[int, float]]] = {}
        for chosen, names in in_parts(session_ids):
            for session_id, rewards in self._rewards_in_order(chosen, names).items():
                found[str(session_id)] = list(reward_sums.running(rewards))
        return found

    def _rewards_in_order(self, chosen: str, names: Values) -> dict[object, list[tuple[int, float]]]:
        """Return the time and value of what counts towards the reward so far of the chosen sessions, in order."""
        given = self._given(chosen, names)
        twice = self._rewarded_twice(chosen, names, given)
        found: dict[object, list[tuple[Any, ...]]] = defaultdict(list)
        own = "session_id, time_ns, coalesce(sequence, 0), 'event', event_id, reward"
        for session_id, *order, value in self._own_rewards(own, chosen, names):
            found[session_id].append((*order, value))
        for session_id, records in given.items():
            for one in aggregates.counted(records, twice[session_id]):
                if isinstance(one, RewardRecord) and reward_sums.sums_of(one).events is not None:
                    found[session_id].append((one.time_ns, 0, *record_key(one), one.value))
        return {key: [(time_ns, value) for time_ns, *_, value in sorted(some)] for key, some in found.items()}

    def _first_errors(self, session_ids: Sequence[str]) -> dict[str, CallError]:
        """Return why the first call of each of these sessions failed that did."""
        found: dict[str, CallError] = {}
        for chosen, names in in_parts(session_ids):
            for session_id, call_id, kind, status in self._tuples(_ERRORS.format(chosen=chosen), **names):
                error = CallError(str(call_id), cast("str | None", kind), cast("int | None", status))
                found.setdefault(str(session_id), error)
        return found


def _text_of(content: object) -> str:
    """Return the text in a column of JSON, on one line."""
    value = msgspec.json.decode(content) if isinstance(content, str) else content
    return shown(value, _WORDS) if isinstance(value, str) else ""


def _question(call: CallRecord) -> str:
    """Return the first text of a user in the request of a call; "" if there is none."""
    messages = call.conversation.input if call.conversation is not None else []
    return next((shown(one.text, _WORDS) for one in messages if one.role == "user" and one.text), "")
