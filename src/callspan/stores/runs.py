"""Runs: keeps the calls that were made outside of sessions in runs, which are sessions that nobody opened.

A call is joined as it is delivered, in the transaction that writes it, whichever of two calls comes first.
`callspan.joining` decides; here are the calls that it asks about, and what it changes is written. The table `joints`
has what stored calls offer and await. Most calls outside of sessions are single ones. Of these only an offer is stored,
in the column `offer` of `calls`. Once a request has this offer, the histories of the call are read from its bodies and
stored as joints, and its offer becomes negative: -1 - offer. A key in `joints` of -1 - key is of a call that awaits it.

The columns `session_id`, `inferred`, `previous_call_id` and `joined_by` of its calls say what is in a run; the table
`runs` has how many there are, and in hashes whose they are stated to be. Of two runs that prove to be one the id of the
older or larger stays, and the table `run_ids` finds it by the other.
"""

# ruff: noqa: S608 - only our own table and column names are put into SQL; values are parameters

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from callspan.joining.joints import Joint, Joints, joints_of, mentions_of
from callspan.joining.known import MOST, NOBODY, Member, facts_of, hashed, stated_by
from callspan.joining.partition import Partition, Run
from callspan.joining.rules import AT_FIRST, ISSUED, MAX_MENTIONS
from callspan.record.call import CallRecord
from callspan.record.labels import Ownership, tenant_of
from callspan.stores.joint_reader import JointReader
from callspan.stores.tables.call_rows import exact_call
from callspan.stores.tables.contents import StoredCall
from callspan.stores.tables.database import SqlDatabase, in_batches
from callspan.stores.tables.facts import OFFER, OWNER
from callspan.stores.tables.payloads import PreparedCall, owner_of, without_run
from callspan.stores.tables.rows import Cell
from callspan.stores.tables.score_tables import refresh, scored

_LOCKS: Final = 1024
"""Locks for all keys of joints: an answer may have more of these than a server has room for locks."""
_MEMBERS: Final = """
SELECT c.call_id, c.session_id, c.inferred, c.owner, c.previous_call_id, c.joined_by, c.user_id, c.metadata, c.service,
       c.start_ns, c.end_ns, c.offer, r.calls, r.stated
  FROM calls c LEFT JOIN runs r ON r.session_id = c.session_id WHERE """
_MOVED: Final = ("events", "messages", "rewards")
"""Tables with records of calls."""
_POSTPONED: Final = 0
"""The key in `joints` of calls that are to be joined anew."""


def anonymous(owner: str) -> str:
    """Return another name for the owner of contents, which does not contain the id of the call."""
    return f"r:{blake2b(owner.encode(), digest_size=12).hexdigest()}"


class _Row(Member, kw_only=True, eq=False):
    """A call with what else its row says."""

    owner: str | None = None
    offer: int | None = None
    """The first of its offers; -1 - offer if its histories are joints."""
    is_stored: bool = False
    """Whether its row is in the store and not written by this batch."""


class Runs(Partition):
    """Joins the calls of one batch, in the transaction that writes it."""

    def __init__(self, database: SqlDatabase, reader: JointReader | None = None) -> None:
        """`reader`: reads the joints of new calls; None: they are not joined."""
        super().__init__()
        self._database, self._reader = database, reader
        self._members: dict[str, _Row] = {}
        self._offering: dict[int, tuple[tuple[str, int], ...]] = {}
        """Of the joints that were looked up: the calls that have them, with the proof."""
        self._added: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
        """Joints of the calls of the batch."""
        self._with_offer: dict[int, list[str]] = {}
        """Of the offers that were looked up, as stored: the calls that have them."""
        self._batch: Collection[str] = ()
        self._order: dict[str, int] = {}
        self._of_batch: defaultdict[int, list[str]] | None = None
        """By their offers, all calls of the batch, once a call asks for them."""
        self._calls: Mapping[str, CallRecord] = {}
        self._joints: dict[str, Joints] = {}
        self._mentioned: dict[str, Sequence[Joint]] = {}
        self._entered = set[str]()
        self._changed: dict[str, str | None] = {}
        """Stored calls whose rows are to be changed, with their former runs."""
        self._renamed: dict[str, str | None] = {}

    def join(
        self, calls: Mapping[str, CallRecord], prepared: Mapping[str, PreparedCall], stored: Mapping[str, StoredCall]
    ) -> list[PreparedCall]:
        """Join these calls, which are about to be written in this order; return them as they are to be written.

        `stored` has their former rows.
        """
        self._calls, self._batch = calls, calls.keys()
        self._order = {call_id: number for number, call_id in enumerate(calls)}
        if self._reader is not None:
            read = self._reader.joints
            self._joints = {
                call_id: read(call, prepared[call_id])
                for call_id, call in calls.items() if call.place.session_id is None
            }  # fmt: skip
        known = [call_id for call_id in calls if call_id in stored and _is_loose(stored[call_id])]
        if not known and not self._joints:
            return [*prepared.values()]
        self._database.lock(f"joint:{key % _LOCKS}" for own in self._joints.values() for key in _keys(own))
        new = [*self._joints]
        self._prefetch()
        self._load(known)
        for call_id in known:
            member, call = self._members[call_id], calls[call_id]
            if call.place.session_id is not None:
                self.leave(member)
            else:
                self.state(member, stated_by(call))
        has_joints = any(self._offering.values())
        for call_id in new:
            own = self._joints[call_id]
            is_sought = (has_joints or bool(self._added)) and self._is_sought(own)
            if is_sought or own.offered or own.histories or own.sought:
                member = self._members.get(call_id) or self._new_member(calls[call_id])
                member.offer = own.offers[0] if own.offers else None
                self.enter(member)
                continue
            self._entered.add(call_id)
            if own.mentioned:
                self._await(call_id, own.mentioned[:MAX_MENTIONS])
            if call_id in known:
                self._members[call_id].offer = own.offers[0] if own.offers else None
        return [self._placed(call_id, call) for call_id, call in prepared.items()]

    @property
    def has_postponed(self) -> bool:
        """Whether calls wait to be joined anew, as many in each transaction as take no long time."""
        return bool(self.postponed or self._offering.get(_POSTPONED))

    def join_postponed(self) -> bool:
        """Join calls anew that an earlier transaction postponed; return whether there were any."""
        taken = [call_id for call_id, _ in self._with(_POSTPONED)][:MOST]
        for condition, parameters in in_batches(taken, "call_id"):
            self._database.run(f"DELETE FROM joints WHERE key = {_POSTPONED} AND {condition}", parameters)
        self._load(taken)
        self.resume(taken)
        self.save()
        return bool(taken)

    def _placed(self, call_id: str, call: PreparedCall) -> PreparedCall:
        """Return a call of the batch with the cells that depend on its run."""
        member = self._members.get(call_id)
        if member is None:
            if (own := self._joints.get(call_id)) is not None and own.offers:
                call.row[OFFER] = own.offers[0]
            return call
        cells: dict[str, Cell] = {OWNER: member.owner, OFFER: member.offer}
        if member.run is not None:
            cells |= {"session_id": member.run, "inferred": True}
            cells |= {"previous_call_id": member.previous, "joined_by": member.rule}
        call.row.update({name: cell for name, cell in cells.items() if cell is not None})
        return call if member.owner is None else msgspec.structs.replace(call, owner=member.owner)

    def mend(self, runs: Iterable[str]) -> None:
        """Take deleted calls out of these runs: no call continues them, and a single call is in no run."""
        for run in runs:
            self._database.run(
                "UPDATE calls SET previous_call_id = NULL, joined_by = NULL WHERE session_id = :run"
                " AND previous_call_id IS NOT NULL"
                " AND NOT EXISTS (SELECT 1 FROM calls p WHERE p.call_id = calls.previous_call_id)",
                {"run": run},
            )
            ((calls, stated),) = self._database.tuples(
                "SELECT (SELECT count(*) FROM calls c WHERE c.session_id = :run),"
                " (SELECT r.stated FROM runs r WHERE r.session_id = :run)",
                {"run": run},
            )
            self.runs[run] = Run(calls, NOBODY if stated is None else Ownership(*msgspec.json.decode(stated)))
            self._without_single(run)
        self.save()

    def save(self) -> None:
        """Write the joints of the batch, and what changed in calls that are not part of it."""
        self._added[_POSTPONED] += ((call_id, 0) for call_id in self.postponed)
        known = [call_id for call_id, member in self._members.items() if call_id in self._batch and member.is_stored]
        for condition, parameters in in_batches(known, "call_id"):
            self._database.run(f"DELETE FROM joints WHERE {condition}", parameters)
        rows = {(key, call_id): proof for key, calls in self._added.items() for call_id, proof in calls}
        self._database.run_many(
            "INSERT INTO joints (key, call_id, proof) VALUES (:key, :call_id, :proof) ON CONFLICT DO NOTHING",
            [{"key": key, "call_id": call_id, "proof": proof} for (key, call_id), proof in sorted(rows.items())],
        )
        changed = [self._members[call_id] for call_id in self._changed if call_id not in self._batch]
        self._database.run_many(
            "UPDATE calls SET session_id = :run, inferred = :inferred, owner = :owner, previous_call_id = :previous,"
            " joined_by = :rule, offer = :offer WHERE call_id = :call_id",
            [
                {**_cells(member), "inferred": True if member.run is not None else None}
                for member in sorted(changed, key=lambda member: member.call_id)
            ],
        )
        self._save_runs()
        self._move_records()

    def _save_runs(self) -> None:
        for former_id, current_id in self._renamed.items():
            self._database.run("DELETE FROM runs WHERE session_id = :id", {"id": former_id})
            if current_id is not None:
                values = {"id": former_id, "session_id": current_id}
                self._database.run("UPDATE run_ids SET session_id = :session_id WHERE session_id = :id", values)
                self._database.run("INSERT INTO run_ids (id, session_id) VALUES (:id, :session_id)", values)
        self._database.run_many(
            "INSERT INTO runs (session_id, calls, stated) VALUES (:run, :calls, :stated)"
            " ON CONFLICT (session_id) DO UPDATE SET calls = excluded.calls, stated = excluded.stated",
            [
                {"run": name, "calls": run.calls, "stated": msgspec.json.encode(run.stated).decode()}
                for name, run in sorted(self.runs.items()) if name not in self._renamed
            ],
        )  # fmt: skip

    def _move_records(self) -> None:
        """Give the events, messages and rewards of moved calls the session of their call."""
        moved = {call_id: former for call_id, former in self._changed.items() if self._members[call_id].run != former}
        for condition, parameters in in_batches(sorted(moved), "call_id"):
            having = " UNION ALL ".join(f"SELECT 1 FROM {table} WHERE {condition}" for table in _MOVED)
            if next(self._database.tuples(f"{having} LIMIT 1", parameters), None) is None:
                continue
            before = scored(self._database, condition, condition, parameters)
            formers = {moved[str(call_id)] for call_id in parameters.values()}.difference([None])
            runs = {f"run{number}": run for number, run in enumerate(sorted(filter(None, formers)))}
            is_former = f" OR session_id IN ({', '.join(f':{name}' for name in runs)})" if runs else ""
            for table in _MOVED:
                own = f"(SELECT c.session_id FROM calls c WHERE c.call_id = {table}.call_id)"
                sql = f"UPDATE {table} SET session_id = {own} WHERE {condition} AND (session_id IS NULL{is_former})"
                self._database.run(sql, {**parameters, **runs})
            refresh(self._database, before | scored(self._database, condition, condition, parameters))

    # --- what is known

    def _prefetch(self) -> None:
        """Look up what most calls need, with few queries."""
        keys, histories = {_POSTPONED}, list[Joint]()
        for own in self._joints.values():
            for offer in own.offers:
                keys.add(-1 - offer)
            for joint in own.offered:
                keys |= {joint.key, -1 - joint.key}
            if own.sought:
                ids = [joint.key for rule in ISSUED for joint in own.sought.get(rule, [])[:AT_FIRST]]
                keys.update(ids)
                if not ids:
                    histories += own.sought.get("history", [])[:AT_FIRST]
            elif own.mentioned:
                keys.update(joint.key for joint in own.mentioned)
        self._look_up(keys.union(joint.key for joint in histories))
        self._look_up_offers({offer for joint in histories for offer in joint.offers})
        calls = [call_id for key, calls in self._offering.items() if key > 0 for call_id, _ in calls]
        self._load({*calls, *(call_id for alike in self._with_offer.values() for call_id in alike)})

    def expect(self, joints: Sequence[Joint]) -> None:
        """Look up what offers these joints."""
        self._look_up([joint.key for joint in joints])
        self._look_up_offers({offer for joint in joints for offer in joint.offers})

    def _look_up_offers(self, offers: Collection[int]) -> None:
        missing = [offer for offer in offers if offer not in self._with_offer]
        if not missing:
            return
        self._with_offer.update((offer, []) for offer in missing)
        values = {"keys": msgspec.json.encode(missing).decode(), "most": MOST + 1}
        for offer, call_id in self._database.tuples(self._database.dialect.offers, values):
            if call_id not in self._batch:
                self._with_offer[offer].append(call_id)

    def _look_up(self, keys: Collection[int]) -> None:
        missing = [key for key in keys if key not in self._offering]
        if not missing:
            return
        self._offering.update(dict.fromkeys(missing, ()))
        dialect, encode = self._database.dialect, msgspec.json.encode
        # Most keys of single calls have no joint, which is told at less expense.
        present = [key for (key,) in self._database.tuples(dialect.keys, {"keys": encode(missing).decode()})]
        if not present:
            return
        values, joints = {"keys": encode(present).decode(), "most": MOST + 1}, self._offering
        for key, call_id, proof in self._database.tuples(dialect.joints, values):
            if call_id not in self._batch:
                joints[key] = (*joints[key], (call_id, proof))

    def _with(self, key: int) -> Sequence[tuple[str, int]]:
        """Return the calls with a joint, with the proof."""
        if key not in self._offering:
            self._look_up([key])
        added = self._added.get(key)
        return self._offering[key] if added is None else (*self._offering[key], *added)

    def _load(self, call_ids: Collection[str]) -> None:
        """Read calls, and hold their runs until the transaction ends."""
        missing = [call_id for call_id in call_ids if call_id not in self._members]
        for condition, parameters in in_batches(sorted({*missing}) if missing else (), "c.call_id"):
            sql = f"SELECT c.session_id FROM calls c WHERE {condition} AND c.inferred"
            self._database.lock(f"run:{row[0]}" for row in self._database.tuples(sql, parameters))
            self._add_members(condition, parameters)

    def _add_members(self, condition: str, parameters: Mapping[str, object]) -> None:
        for row in self._database.tuples(_MEMBERS + condition, parameters):
            call_id, session_id, inferred, owner, previous, rule, user, metadata, service, *times, calls, stated = row
            if call_id in self._members:
                continue
            run = session_id if inferred else None
            if run is not None and run not in self.runs:
                self.runs[run] = Run(calls, Ownership(*msgspec.json.decode(stated)))
            start_ns, end_ns, offer = times
            self._members[call_id] = _Row(
                call_id=call_id, run=run, owner=owner, previous=previous, rule=rule,
                stated=hashed(user, tenant_of(_decoded(metadata)), service), start_ns=start_ns, end_ns=end_ns,
                offer=offer, is_stored=True,
            )  # fmt: skip

    def _new_member(self, call: CallRecord) -> _Row:
        offers = self._joints[call.call_id].offers
        member = _Row(**facts_of(call), offer=offers[0] if offers else None)
        self._members[call.call_id] = member
        return member

    def member(self, call_id: str) -> Member | None:
        """Return a call that is stored, or of the batch so far."""
        if (member := self._members.get(call_id)) is not None:
            return member
        if call_id in self._entered:
            return self._new_member(self._calls[call_id])
        self._load([call_id])
        return self._members.get(call_id)

    def members_of(self, run: str) -> Collection[Member]:
        """Return all calls of a run."""
        self._add_members("c.session_id = :run", {"run": run})
        return [member for member in self._members.values() if member.run == run]

    def followers(self, call_id: str) -> Sequence[str]:
        """Return the calls that continue a call."""
        rows = self._database.tuples("SELECT call_id FROM calls WHERE previous_call_id = :call", {"call": call_id})
        stored = (str(row[0]) for row in rows)
        unknown = [name for name in stored if name not in self._members]
        return unknown + [name for name, member in self._members.items() if member.previous == call_id]

    def seeking(self, key: int, most: int | None = None) -> Sequence[str]:
        """Return the calls that await a joint with this key."""
        seeking = [call_id for call_id, _ in self._with(-1 - key)]
        if most is None and len(seeking) > MOST:
            rows = self._database.tuples("SELECT call_id FROM joints WHERE key = :key", {"key": -1 - key})
            return [*dict.fromkeys([*(str(row[0]) for row in rows if row[0] not in self._batch), *seeking])]
        return seeking

    def is_free(self, run: str, first: Member) -> bool:
        """Return whether no run has, or had, the id that a call gives it."""
        if run in self.runs:
            return False
        sql = "SELECT 1 FROM runs WHERE session_id = :id UNION ALL SELECT 1 FROM run_ids WHERE id = :id"
        is_new = not self._members[first.call_id].is_stored
        return is_new or next(self._database.tuples(sql, {"id": run}), None) is None

    def is_earlier(self, call: Member, other: Member) -> bool:
        """Return whether a call was delivered before another one."""
        places = [
            -1 if self._members[one.call_id].is_stored else self._order.get(one.call_id, -1) for one in (call, other)
        ]
        return places[0] <= places[1]

    def record(self, call_id: str) -> CallRecord:
        """Return the record of a call."""
        return self._calls.get(call_id) or without_run(exact_call(self._database, call_id))

    def joints(self, member: Member) -> Joints:
        """Return the joints of a call."""
        if (own := self._joints.get(member.call_id)) is None:
            own = self._joints[member.call_id] = joints_of(self.record(member.call_id))
        return own

    def mentions(self, member: Member) -> Sequence[Joint]:
        """Return the joints of the words in the texts of a call."""
        own = self._joints.get(member.call_id)
        joints = self._mentioned.get(member.call_id) if own is None or own.mentioned is None else own.mentioned
        if joints is None:
            joints = self._mentioned[member.call_id] = mentions_of(self.record(member.call_id))
        return joints

    def offering(self, joint: Joint) -> Sequence[tuple[Member, int]]:
        """Return the calls with a joint, with their proofs."""
        calls = self._with(joint.key)
        if len(calls) > 1:
            self._load([call_id for call_id, _ in calls if call_id not in self._entered])
        return [(member, proof) for call_id, proof in calls if (member := self.member(call_id)) is not None]

    def with_offers(self, offers: Iterable[int]) -> Sequence[Member] | None:
        """Return the calls with any of these offers, with their histories known; None if one has more than `MOST`."""
        offers = [*offers]
        self._look_up_offers([stored for offer in offers for stored in (offer, -1 - offer)])
        calls = list[str]()
        for offer in offers:
            alike = self._with_offer[offer] + self._with_offer[-1 - offer]
            if len(alike) > MOST:
                return None
            calls += alike
            calls += self._newly_offering(offer)
        members = [member for call_id in dict.fromkeys(calls) if (member := self.member(call_id)) is not None]
        for member in members:
            self._complete(member)
        return members

    def _newly_offering(self, offer: int) -> list[str]:
        """Return the calls of the batch so far that have an offer."""
        if self._of_batch is None:
            self._of_batch = defaultdict(list)
            for call_id, own in self._joints.items():
                for own_offer in own.offers if call_id in self._batch else ():
                    self._of_batch[own_offer].append(call_id)
        return [call_id for call_id in self._of_batch.get(offer, ()) if call_id in self._entered]

    # --- what changes

    def _is_sought(self, own: Joints) -> bool:
        """Return whether a call of which only offers are known may be continued, or names what is stored."""
        for offer in own.offers:
            if self._offering[-1 - offer] or -1 - offer in self._added:
                return True
        return bool(own.mentioned) and any(self._with(joint.key) for joint in own.mentioned or ())

    def offer(self, member: Member, own: Joints) -> None:
        """Let a call be found by what it offers."""
        for joint in own.offered:
            self._added[joint.key].append((member.call_id, joint.proof))
        self._entered.add(member.call_id)
        if own.histories is not None:
            self._complete(member)

    def _complete(self, member: Member) -> None:
        """Let a call be found by its histories."""
        row = self._members[member.call_id]
        if row.offer is None or row.offer < 0:
            return
        own = self._joints.get(member.call_id)
        if own is None or own.histories is None:
            own = self._joints[member.call_id] = joints_of(self.record(member.call_id))
        for joint in own.histories or ():
            self._added[joint.key].append((member.call_id, joint.proof))
        self.touch(member)
        row.offer = -1 - row.offer

    def await_(self, member: Member, joints: Iterable[Joint]) -> None:
        """Let a call be found by what it awaits."""
        self._await(member.call_id, joints)

    def _await(self, call_id: str, joints: Iterable[Joint]) -> None:
        for joint in joints:
            self._added[-1 - joint.key].append((call_id, joint.proof))

    def touch(self, member: Member) -> None:
        """Note that a call is about to change."""
        self._changed.setdefault(member.call_id, member.run)

    def share(self, member: Member, earlier: Member) -> None:
        """Note that a new call repeats the contents of an earlier one."""
        own, other = self._members[member.call_id], self._members[earlier.call_id]
        other.owner = other.owner or owner_of(other.call_id, None)
        if own.run is None and own.call_id in self._batch:
            own.owner = other.owner
        own.owner = own.owner or owner_of(own.call_id, None)

    def leave(self, member: Member) -> None:
        """Take a call out of its run, and its contents."""
        super().leave(member)
        row = self._members[member.call_id]
        row.owner = row.offer = None

    def rename(self, run: str, current: str | None) -> None:
        """Note that a run is part of another one by now, or is none."""
        for former_id, current_id in self._renamed.items():
            if current_id == run:
                self._renamed[former_id] = current
        self._renamed[run] = current


def _is_loose(row: StoredCall) -> bool:
    return row.session_id is None or bool(row.inferred)


def _decoded(metadata: Any) -> Any:
    return msgspec.json.decode(metadata) if isinstance(metadata, str | bytes) else metadata


def _cells(member: _Row) -> dict[str, object]:
    return {
        "call_id": member.call_id, "run": member.run, "owner": member.owner, "previous": member.previous,
        "rule": member.rule, "offer": member.offer,
    }  # fmt: skip


def _keys(own: Joints) -> Iterator[int]:
    """Yield what other deliveries wait for while a call is joined."""
    yield from own.offers
    yield from (joint.key for joint in own.offered)
    for rule in ISSUED:
        yield from (joint.key for joint in own.sought.get(rule, [])[: max(1, own.last_results)])
    for joint in own.sought.get("history", [])[:1]:
        yield from joint.offers
