"""Session values: one number of each measure for many sessions, to compare groups of them.

A `SessionSummary` has much more, and takes a hundred times the memory of these numbers.
"""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, MutableSequence, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

from callspan.record.labels import labels
from callspan.runtime.process_identity import state_of
from callspan.stores.query.filters import FAILED
from callspan.stores.query.interrupted import silent_ns
from callspan.stores.query.session_summaries import ACTIVE, extents
from callspan.stores.query.sums import MODEL, WITHOUT_COST, WITHOUT_USAGE, exact_cost, labels_of_sessions, other_costs
from callspan.stores.tables.database import NO_VALUES, Database, Values, in_batches, items

Number: TypeAlias = float | Decimal
SESSION_FACTS: Final = ("experiment", "task_id", "group_id", "name", "user_id")
"""The facts that sessions are grouped by, besides their start, their models and their labels."""
_TOKENS: Final = ("input_tokens", "output_tokens", "reasoning_tokens")
_INTEGERS: Final = ("timesteps", "calls", "errors", *_TOKENS)
_COUNTS: Final = ("timesteps", "calls", "errors")
"""These are 0, not unknown, in a session without such records."""
_AT_ONCE: Final = 2_000
"""Ids per query: their JSON is below 128 KB, the most that a ClickHouse server takes in one parameter."""
_EVERY: Final = "session_id IS NOT NULL"
_SESSIONS: Final = f"""
SELECT session_id, start_ns, end_ns, metadata, success, outcome, seen_ns, process, {", ".join(SESSION_FACTS)}
  FROM sessions WHERE {{condition}}"""
_SUMS: Final = f"""
SELECT c.session_id, count(*), sum(CASE WHEN {FAILED} THEN 1 ELSE 0 END),
  max(CASE WHEN {WITHOUT_USAGE} THEN 1 ELSE 0 END),
  CAST(sum(c.input_tokens) AS bigint), CAST(sum(c.output_tokens) AS bigint), CAST(sum(c.reasoning_tokens) AS bigint),
  max(CASE WHEN {WITHOUT_COST} THEN 1 ELSE 0 END),
  sum((c.cost_picousd - c.cost_picousd % 1000000) / 1000000), sum(c.cost_picousd % 1000000), {{others}},
  max(CASE WHEN c.inferred THEN 1 END), max(CASE WHEN c.inferred THEN c.user_id END),
  min(c.start_ns), max(coalesce(c.end_ns, c.start_ns)), max(c.end_ns)
  FROM calls c WHERE c.{{condition}} GROUP BY c.session_id"""
_MODELS: Final = f"SELECT DISTINCT c.session_id, {MODEL} FROM calls c WHERE c.{{condition}} AND {MODEL} IS NOT NULL"
_STEPS: Final = "SELECT session_id, count(*) FROM timesteps WHERE {condition} GROUP BY session_id"
_SCORES: Final = "SELECT session_id, objective, score FROM session_scores WHERE {condition} AND score IS NOT NULL"


class Column:
    """A number of each session, by the session's position; 8 bytes each, if they fit."""

    def __init__(self, kind: Literal["integer", "float", "decimal"], length: int, value: int | None = None) -> None:
        """`value`: that of every session; None: unknown."""
        self._numbers: MutableSequence[Any]
        if kind == "decimal":
            self._numbers = [None] * length
        else:
            self._numbers = array("q" if kind == "integer" else "d", [value or 0]) * length
        self._is_known = bytearray([value is not None]) * length

    def __setitem__(self, position: int, number: Number) -> None:
        try:
            self._numbers[position] = number
        except OverflowError:
            self._numbers = [*self._numbers]
            self._numbers[position] = number
        self._is_known[position] = True

    def __getitem__(self, position: int) -> Number | None:
        return cast("Number", self._numbers[position]) if self._is_known[position] else None

    def known(self, positions: Iterable[int]) -> list[Number]:
        """Return the known numbers of these sessions, in their order."""
        numbers, is_known = self._numbers, self._is_known
        return [numbers[position] for position in positions if is_known[position]]

    def count(self, positions: Iterable[int]) -> int:
        """Return how many of these sessions have a known number."""
        return sum(map(self._is_known.__getitem__, positions))


class SessionValues:
    """The numbers of many sessions by measure, and what they are grouped by, each by the session's position."""

    def __init__(self, ids: Sequence[str], groupings: Collection[str]) -> None:
        """`groupings`: those of `SESSION_FACTS`, `start_ns` and `models` that are kept, besides `task_id`."""
        self.ids = ids
        length = len(ids)
        self.succeeded = Column("integer", length)
        """1 or 0, see `SessionSummary.succeeded`."""
        self.scores: dict[str, Column] = {}
        """By objective, the reward among them."""
        self.sums: dict[str, Column] = {
            **{name: Column("integer", length, 0 if name in _COUNTS else None) for name in _INTEGERS},
            "cost_usd": Column("decimal", length),
            **{name: Column("integer", length) for name in ("duration_ns", "active_ns")},
        }
        """By the name in `SessionSummary`: tokens and cost of the calls for which they are known."""
        self.lacks_usage = bytearray(length)
        """Whether the tokens of any call are unknown."""
        self.lacks_cost = bytearray(length)
        """Whether the cost of any call is unknown."""
        self.is_rated = bytearray(b"\1") * length
        """See `SessionSummary.is_rated`."""
        self.facts: dict[str, list[Any]] = {name: [None] * length for name in ("task_id", *groupings)}
        """The facts that were asked for; `models` are sorted lists."""
        self.labels: dict[str, dict[int, Sequence[str]]] = {}
        """By metadata key that was asked for: the values in the calls of a session, else its own; absent if none."""

    def __len__(self) -> int:
        return len(self.ids)

    def complete(self, name: str, positions: Iterable[int]) -> list[Number]:
        """Return the known sums of these sessions, without sessions that lack it for any call."""
        return self.sums[name].known(at for at in positions if not self.lacks(name, at))

    def lacks(self, name: str, position: int) -> bool:
        """Return whether a sum is unknown for any call of this session, so that it is a lower bound."""
        lacks = self.lacks_cost if name == "cost_usd" else self.lacks_usage if name in _TOKENS else None
        return lacks is not None and bool(lacks[position])


def session_values(
    database: Database,
    ids: Sequence[str],
    *,
    is_every: bool,
    groupings: Collection[str] = (),
    label_keys: Collection[str] = (),
) -> SessionValues:
    """Return the values of these sessions, the calls of each of which are summed by the database.

    `is_every`: they are all sessions of the store, so that no query names them.
    """
    values = SessionValues(ids, groupings)
    reading = _Reading(database, values)
    for condition, parameters in [(_EVERY, NO_VALUES)] if is_every else _batches(database, ids):
        reading.read(condition, parameters, label_keys)
    return values


def _batches(database: Database, ids: Sequence[str]) -> Iterator[tuple[str, Values]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield f"session_id IN ({database.dialect.items})", items(ids[start : start + _AT_ONCE])


class _Reading:
    """Fills values from the rows of queries, which come in any order."""

    def __init__(self, database: Database, values: SessionValues) -> None:
        self._database = database
        self._values = values
        self._positions = {session_id: position for position, session_id in enumerate(values.ids)}
        self._starts = Column("integer", len(values))
        self._is_recorded = bytearray(len(values))
        """Whether there is a row of the session, not only its calls."""
        self._state_of = lru_cache(state_of)
        self._silent_ns = silent_ns()
        self._texts: dict[str | None, str | None] = {}
        """Each text once: a task or an experiment has many sessions."""

    def read(self, condition: str, parameters: Values, label_keys: Collection[str]) -> None:
        """Read the values of the sessions that match a condition."""
        values = self._values
        for key in label_keys:
            values.labels.setdefault(key, {})
        silent = self._read_sessions(condition, parameters)
        runs = self._read_sums(condition, parameters, silent)
        self._end_silent(silent)
        for sql, column in ((_STEPS, values.sums["timesteps"]), (ACTIVE, values.sums["active_ns"])):
            for position, (_, number) in self._rows(sql, condition, parameters):
                column[position] = number
        for position, (_, objective, score) in self._rows(_SCORES, condition, parameters):
            if objective not in values.scores:
                values.scores[objective] = Column("float", len(values))
            values.scores[objective][position] = score
        for position in runs:
            results = (values.succeeded, *values.scores.values())
            values.is_rated[position] = any(column[position] is not None for column in results)
        if "models" in values.facts:
            self._read_models(condition, parameters)
        for key, labels_of in values.labels.items():
            of_calls = labels_of_sessions(self._database, key, f"c.{condition}", parameters)
            labels_of.update(
                {self._positions[ident]: texts for ident, texts in of_calls.items() if ident in self._positions}
            )

    def _rows(self, sql: str, condition: str, parameters: Values) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield the rows of these sessions with the session's position; each row begins with the session's id."""
        position_of = self._positions.get
        for row in self._database.tuples(sql.format(condition=condition), parameters):
            position = position_of(row[0])
            if position is not None:
                yield position, row

    def _read_sessions(self, condition: str, parameters: Values) -> dict[int, int]:
        """Read the sessions' own rows; return the last signs of life of those that may be `unknown`, by position."""
        values, last_ns = self._values, dict[int, int]()
        facts = [(values.facts[name], index) for index, name in enumerate(SESSION_FACTS, 8) if name in values.facts]
        for position, row in self._rows(_SESSIONS, condition, parameters):
            _, start_ns, end_ns, metadata, *ending = row[:8]
            self._is_recorded[position] = True
            if start_ns is not None:
                self._start(position, start_ns)
                if end_ns:
                    values.sums["duration_ns"][position] = max(0, end_ns - start_ns)
            if (sign_ns := self._end(position, end_ns, start_ns or 0, *ending)) is not None:
                last_ns[position] = sign_ns
            for column, index in facts:
                column[position] = self._texts.setdefault(row[index], row[index])
            for key, labels_of in values.labels.items():
                if metadata is not None and (own := labels(msgspec.json.decode(metadata, type=dict), key)):
                    labels_of[position] = own
        return last_ns

    def _start(self, position: int, start_ns: int) -> None:
        self._starts[position] = start_ns
        if "start_ns" in self._values.facts:
            self._values.facts["start_ns"][position] = start_ns

    def _end(
        self,
        position: int,
        end_ns: int | None,
        start_ns: int,
        success: bool | None,
        outcome: str | None,
        seen_ns: int,
        process: str | None,
    ) -> int | None:
        """Say whether a session succeeded; return its last sign of life if it may be `unknown`, see `mark_unended`."""
        succeeded = self._values.succeeded
        if success is not None or outcome is not None:
            succeeded[position] = int(outcome == "success" if success is None else success)
        elif end_ns is None and seen_ns > 0:
            state, last_ns = self._state_of(process), max(seen_ns, start_ns)
            if state == "exited":
                succeeded[position] = 0
            elif state == "elsewhere" and last_ns < self._silent_ns:
                return last_ns
        return None

    def _read_sums(self, condition: str, parameters: Values, last_ns: dict[int, int]) -> list[int]:
        """Read the sums over the calls; return the positions of runs."""
        values, runs = self._values, list[int]()
        calls, errors = values.sums["calls"], values.sums["errors"]
        tokens = [(values.sums[name], index) for index, name in enumerate(_TOKENS, 4)]
        others = other_costs(self._database.dialect)
        for position, row in self._rows(_SUMS.format(others=others, condition="{condition}"), condition, parameters):
            _, calls[position], errors[position], values.lacks_usage[position] = row[:4]
            values.lacks_cost[position], micro, rest, other, inferred, run_user, first_ns, latest_ns, end_ns = row[7:]
            for column, index in tokens:
                if row[index] is not None:
                    column[position] = row[index]
            if (cost := exact_cost(micro, rest, other)) is not None:
                values.sums["cost_usd"][position] = cost
            if not self._is_recorded[position]:
                self._start(position, first_ns)
                if "user_id" in values.facts:
                    values.facts["user_id"][position] = run_user
            if end_ns is not None:
                self._last_call(position, latest_ns)
            if position in last_ns:
                last_ns[position] = max(last_ns[position], latest_ns)
            if inferred is not None:
                runs.append(position)
        return runs

    def _last_call(self, position: int, last_ns: int) -> None:
        """Note the duration of a session without an end."""
        durations = self._values.sums["duration_ns"]
        if durations[position] is None and isinstance(start_ns := self._starts[position], int):
            durations[position] = max(0, last_ns - start_ns)

    def _end_silent(self, last_ns: dict[int, int]) -> None:
        """Count as failed what has shown no sign of life for long, see `mark_unended`."""
        ids = self._values.ids
        for condition, parameters in in_batches([ids[position] for position in last_ns]):
            for _, session_id, _, latest_ns in self._database.tuples(extents(self._database, condition), parameters):
                position = self._positions[session_id]
                last_ns[position] = max(last_ns[position], latest_ns or 0)
        for position, latest_ns in last_ns.items():
            if latest_ns < self._silent_ns:
                self._values.succeeded[position] = 0

    def _read_models(self, condition: str, parameters: Values) -> None:
        column = self._values.facts["models"]
        for position, (_, model) in self._rows(_MODELS, condition, parameters):
            column[position] = sorted({*(column[position] or ()), model})
