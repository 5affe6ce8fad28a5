"""Score tables: keeps the rows of `session_scores` and `call_scores` equal to their definition (`scores`).

Whoever writes, joins or deletes values computes the scores of their sessions and calls anew, in the same transaction:
all values of these sessions and calls are read, no others. Two processes that write values of one session wait for each
other, since the second one must read what the first one wrote.
"""

# ruff: noqa: S608 - SQL text holds only our own names and conditions; values are parameters

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from callspan.stores.tables.database import NO_VALUES, Database, SqlDatabase, Values, in_batches, items

_SCORED: Final = """
SELECT session_id, CASE WHEN scope = 'call' THEN call_id END FROM rewards WHERE {rewards}
UNION SELECT session_id, NULL FROM events WHERE reward IS NOT NULL AND ({events})
UNION SELECT session_id, NULL FROM rewards WHERE event_id IN (
  SELECT event_id FROM rewards WHERE event_id IS NOT NULL AND ({rewards})
  UNION SELECT event_id FROM events WHERE reward IS NOT NULL AND ({events}))"""
"""Sessions and calls with these rewards or events. A reward for an event may decide whether another one counts."""


class Scored(NamedTuple):
    """The sessions and calls with scores that may depend on some values."""

    session_ids: frozenset[str] = frozenset()
    call_ids: frozenset[str] = frozenset()

    def __or__(self, other: Scored) -> Scored:
        """Return the union."""
        return Scored(self.session_ids | other.session_ids, self.call_ids | other.call_ids)


def scored(database: Database, rewards: str, events: str, values: Values = NO_VALUES) -> Scored:
    """Return the sessions and calls that may get scores from the rewards and events that match these conditions."""
    rows = [*database.tuples(_SCORED.format(rewards=rewards, events=events), values)]
    return Scored(*(frozenset(ident for ident in ids if ident is not None) for ids in zip(*rows, strict=True)))


def scored_by(database: Database, ids: Iterable[str]) -> Scored:
    """Return the sessions and calls that may get scores from the rewards and events with these ids."""
    values, listed = items(ids), database.dialect.items
    return scored(database, f"reward_id IN ({listed})", f"event_id IN ({listed})", values)


def refresh(database: SqlDatabase, changed: Scored) -> None:
    """Compute the scores of these sessions and calls anew."""
    database.lock(f"scores:{ident}" for ids in changed for ident in ids)
    for subject, ids in zip(("session", "call"), changed, strict=True):
        table, key = f"{subject}_scores", f"{subject}_id"
        for condition, parameters in in_batches(sorted(ids), key):
            database.run(f"DELETE FROM {table} WHERE {condition}", parameters)
            # The database applies a condition on the key within the definition, before it groups.
            definition = f"SELECT * FROM ({database.dialect.scores[table]}) defined WHERE {condition}"
            database.run(f"INSERT INTO {table} {definition}", parameters)
