"""Superseded: what only replaced versions say: contents that only they refer to, and the earlier session of a timestep.

A writer looks for other versions after it has written its own, so that of two processes that write at once the later
one sees both. Deleted rows are read no more, and leave the disk when the server merges their parts.
"""

# ruff: noqa: S608 - only our own names are put into SQL; values are parameters

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from callspan.stores.clickhouse.database import ClickHouseDatabase
from callspan.stores.schema import NOW_NS
from callspan.stores.tables.database import in_batches
from callspan.stores.tables.facts import STORED
from callspan.stores.tables.payloads import owner_of

_NUMBERS: Final = "arrayConcat([{0}.request, {0}.output], {0}.contents.2)"
"""The numbers of the contents that a row of `call_contents` refers to."""
_OWN: Final = "concat('c:', v.call_id)"
_SEVERAL: Final = f"""
SELECT k.call_id FROM call_contents k
 WHERE (k.owner, k.call_id) IN (
   SELECT arrayJoin(arrayConcat([{_OWN}, ifNull(concat('s:', v.session_id), {_OWN})],
       arrayMap(session_id -> concat('s:', session_id), JSONExtract(:sessions, v.call_id, 'Array(String)')))), v.call_id
     FROM call_versions v WHERE v.{{condition}})
 GROUP BY k.call_id HAVING uniqExact(k.owner, k.version) > 1"""
"""Calls with several versions, which may have several owners."""
_OWNERS: Final = f"""
SELECT owner, call_id, toString(version), {_NUMBERS.format("k")} FROM call_contents k
 WHERE call_id IN (SELECT arrayJoin(JSONExtract(:calls, 'Array(String)')))
   AND owner IN (SELECT arrayJoin(JSONExtract(:owners, 'Array(String)')))"""
_CURRENT: Final = "SELECT call_id, session_id, toString(version) FROM calls WHERE {condition}"
_KEPT: Final = f"""
SELECT k.owner, arrayJoin({_NUMBERS.format("k")}) FROM call_contents k LEFT JOIN (
    SELECT call_id, max(version) AS newest FROM call_versions
     WHERE call_id IN (SELECT call_id FROM call_contents WHERE owner = :owner) GROUP BY call_id) v
  ON v.call_id = k.call_id
 WHERE k.owner = :owner AND k.version >= ifNull(v.newest, 0)
   AND (k.call_id, toString(k.version)) NOT IN (
     SELECT arrayJoin(JSONExtract(:superseded, 'Array(Tuple(String, String))')))"""
"""What newest versions refer to, also of calls whose own row is yet to be written."""


_OF_OTHER_SESSIONS: Final = "timestep_id = :timestep AND ifNull(session_id, '') <> :session"
_MOVED: Final = """
SELECT timestep_id, argMax(session_id, seen_ns) FROM timestep_versions
 WHERE {condition} GROUP BY timestep_id HAVING uniqExact(ifNull(session_id, '')) > 1"""
_MOVE: Final = f"""
INSERT INTO timestep_versions SELECT * REPLACE (:session AS session_id, {NOW_NS["clickhouse"]} AS {STORED})
  FROM (SELECT * FROM timestep_versions FINAL WHERE {_OF_OTHER_SESSIONS})"""


class Reference(NamedTuple):
    """A row of `call_contents`."""

    owner: str
    call_id: str
    version: str
    numbers: frozenset[int]


def calls_with_several_versions(
    database: ClickHouseDatabase, sessions: Mapping[str, Collection[str]]
) -> dict[str, Collection[str]]:
    """Return those of these calls that have several versions, with the sessions that they are known to have had."""
    several: dict[str, Collection[str]] = {}
    for condition, parameters in in_batches([*sessions], "call_id"):
        listed = {"sessions": _json({str(ident): [*sessions[str(ident)]] for ident in parameters.values()})}
        for (call_id,) in database.tuples(_SEVERAL.format(condition=condition), {**parameters, **listed}):
            several[call_id] = sessions[call_id]
    return several


def delete_superseded(database: ClickHouseDatabase, sessions: Mapping[str, Collection[str]]) -> None:
    """Delete what only replaced versions of these calls refer to.

    `sessions` has those that each call is known to have had.
    """
    delete_references(database, _superseded(database, sessions))


def move_timesteps(database: ClickHouseDatabase, timestep_ids: Collection[str]) -> None:
    """Move all versions of these timesteps to the session that the newest one names.

    The view merges the versions that are in one session, so that a session's timesteps are found without reading all.
    """
    for condition, parameters in in_batches([*timestep_ids], "timestep_id"):
        for timestep_id, session_id in list(database.tuples(_MOVED.format(condition=condition), parameters)):
            values = {"timestep": timestep_id, "session": session_id}
            database.insert_selected(_MOVE, values)
            database.delete("timestep_versions", _OF_OTHER_SESSIONS, values)


def delete_references(database: ClickHouseDatabase, references: Iterable[Reference]) -> None:
    """Delete these rows of `call_contents`, and the contents that only they refer to."""
    by_owner: dict[str, list[Reference]] = {}
    for reference in references:
        by_owner.setdefault(reference.owner, []).append(reference)
    for owner, of_owner in by_owner.items():
        _delete(database, owner, of_owner)


def references_of(database: ClickHouseDatabase, calls: Collection[str], owners: Collection[str]) -> list[Reference]:
    """Return the rows of `call_contents` of these calls, in the contents of these owners."""
    values = {"calls": _json([*calls]), "owners": _json(sorted(owners))}
    return [
        Reference(owner, call_id, version, frozenset(msgspec.json.decode(numbers)) - {None})
        for owner, call_id, version, numbers in database.tuples(_OWNERS, values)
    ]


def _delete(database: ClickHouseDatabase, owner: str, references: Sequence[Reference]) -> None:
    """Delete those of an owner's contents that only these rows of `call_contents` refer to, and these rows."""
    values = {"owner": owner, "superseded": _json([[row.call_id, row.version] for row in references])}
    numbers = frozenset[int]().union(*(row.numbers for row in references))
    listed = ", ".join(map(str, sorted(numbers)))
    # Whoever writes meanwhile, and knows these contents as stored, writes them again.
    database.note_deletion()
    database.delete("content_versions", f"owner = :owner AND n IN ({listed}) AND (owner, n) NOT IN ({_KEPT})", values)
    database.delete(
        "call_contents",
        """owner = :owner AND (call_id, toString(version)) IN (
          SELECT arrayJoin(JSONExtract(:superseded, 'Array(Tuple(String, String))')))""",
        values,
    )


def _superseded(database: ClickHouseDatabase, sessions: Mapping[str, Collection[str]]) -> Iterator[Reference]:
    """Yield the rows of `call_contents` of replaced versions that refer to more than the call by now."""
    current: dict[str, tuple[str, str]] = {}
    for condition, parameters in in_batches([*sessions], "call_id"):
        for call_id, session_id, version in database.tuples(_CURRENT.format(condition=condition), parameters):
            current[call_id] = owner_of(call_id, session_id), version
    owners = {owner_of(call_id, None) for call_id in sessions} | {owner for owner, _ in current.values()}
    owners |= {owner_of("", session_id) for ids in sessions.values() for session_id in ids}
    references = references_of(database, [*sessions], owners)
    kept = {row[:2]: row.numbers for row in references if current.get(row.call_id) == (row.owner, row.version)}
    for row in references:
        is_current = current.get(row.call_id) == (row.owner, row.version)
        if row.call_id in current and not is_current and not row.numbers <= kept.get(row[:2], frozenset()):
            yield row


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
