"""Runs: joins the calls that were made outside of sessions to runs, which are sessions that nobody opened.

A call is joined as it is delivered, in the transaction that writes it: the table `joints` has what stored calls offer
and seek (`callspan.stores.joints`), whichever of two calls comes first. A wrong join is worse than none: where more
than one call may be continued, none is, and a join is undone when a later delivery shows another candidate.

Most calls outside of sessions are single ones. Of these only an offer is stored, in the column `offer` of `calls`. Once
a request has this offer, the histories of the call are read from its bodies and stored as joints, and its offer becomes
negative: -1 - offer. A key in `joints` of -1 - offer is of a call that seeks it.

A call and the one that it continues make a run. Its id is made of the call that was delivered first. The columns
`session_id`, `inferred`, `previous_call_id` and `joined_by` of its calls are all that is stored of it; of two runs that
prove to be one the older id stays, and the table `run_ids` finds it by the other.
"""

# ruff: noqa: S608 - only our own table and column names are put into SQL; values are parameters

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from callspan.record.call import CallRecord, JoinedBy
from callspan.record.labels import label_of
from callspan.stores.joints import (
    RULES,
    SHARED,
    TENANT_KEYS,
    Joint,
    JointReader,
    Joints,
    agrees,
    is_cut,
    joints_of,
    mentions_of,
    tenant_of,
)
from callspan.stores.tables.call_rows import exact_call
from callspan.stores.tables.contents import StoredCall
from callspan.stores.tables.database import SqlDatabase, in_batches
from callspan.stores.tables.facts import OFFER, OWNER
from callspan.stores.tables.payloads import PreparedCall, owner_of, without_run
from callspan.stores.tables.rows import Cell
from callspan.stores.tables.score_tables import refresh, scored

_PREFIX: Final = "run-"
_LOCKS: Final = 1024
"""Locks for all keys of joints: an answer may have more of these than a server has room for locks."""
_MAX_CANDIDATES: Final = 32
"""Calls with one joint; of more nothing is known."""
_AT_FIRST: Final = 2
"""Joints of each rule that are looked up at first, the nearest; farther ones are rarely needed."""
_CLOCKS_NS: Final = 5_000_000_000
"""How much the clocks of two machines may differ."""
_MAX_MENTIONS: Final = 4
"""Words by which a call is found that continues no other one yet."""
_MAX_TRIES: Final = 5
"""How often a call is joined anew because of a new one, before it is left apart."""
_BY_TEXT: Final = frozenset[JoinedBy]({"history", "mention"})
"""Rules that do not prove a join, so that time has to allow it."""
_OF_MANY: Final = frozenset[JoinedBy]({"kept", "mention"})
"""Rules by which a call may continue several calls of one run."""
_ISSUED: Final[tuple[JoinedBy, ...]] = ("seal", "kept", "tool")
"""Rules by what an answer issued."""
_OF_RUN: Final = frozenset[JoinedBy]({"tool", "mention"})
"""Rules by which a call may continue another one than what issued the id."""
_MAX_RECONSIDERED: Final = 64
"""Calls of a run that are joined anew when it is cut."""
_COLUMNS: Final = (
    "call_id, session_id, inferred, owner, previous_call_id, joined_by, user_id, metadata, start_ns, end_ns, process,"
    " offer"
)
_MOVED: Final = ("events", "messages", "rewards")
"""Tables with records of calls."""


def run_id(call_id: str) -> str:
    """Return the id of the run that begins with the delivery of this call. It does not contain the call's id."""
    return _PREFIX + blake2b(call_id.encode(), digest_size=12).hexdigest()


def anonymous(owner: str) -> str:
    """Return another name for the owner of contents, which does not contain the id of the call."""
    return f"r:{blake2b(owner.encode(), digest_size=12).hexdigest()}"


class _Member(msgspec.Struct, kw_only=True):
    """A call outside of sessions, as far as its place in a run depends on it."""

    call_id: str
    run: str | None = None
    owner: str | None = None
    previous: str | None = None
    rule: JoinedBy | None = None
    user: str | None
    tenant: str | None
    start_ns: int
    end_ns: int | None
    process: str | None
    offer: int | None = None
    """The first of its offers; -1 - offer if its histories are joints."""
    is_stored: bool = False
    """Whether its row is in the store and not written by this batch."""

    @property
    def group(self) -> str:
        """What all calls of its run have in common."""
        return self.run or self.call_id


class Runs:
    """Joins the calls of one batch, in the transaction that writes it."""

    def __init__(self, database: SqlDatabase, reader: JointReader | None = None) -> None:
        """`reader`: reads the joints of new calls; None: they are not joined."""
        self._database, self._reader = database, reader
        self._members: dict[str, _Member] = {}
        self._joints: dict[int, tuple[tuple[str, int], ...]] = {}
        """Of the joints that were looked up: the calls that have them, with the proof."""
        self._added: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
        """Joints of the calls of the batch."""
        self._offers: dict[int, list[str]] = {}
        """Of the offers that were looked up, as stored: the calls that have them."""
        self._batch: Collection[str] = ()
        self._of_batch: defaultdict[int, list[str]] | None = None
        """By their offers, all calls of the batch, once a call asks for them."""
        self._calls: Mapping[str, CallRecord] = {}
        self._own: dict[str, Joints] = {}
        self._mentioned: dict[str, Sequence[Joint]] = {}
        self._entered = set[str]()
        self._doubtful: list[str] = []
        """Calls to be joined anew."""
        self._tries = Counter[str]()
        self._changed: dict[str, str | None] = {}
        """Stored calls whose rows are to be changed, with their former runs."""
        self._former_ids: dict[str, str | None] = {}

    def join(
        self, calls: Mapping[str, CallRecord], prepared: Mapping[str, PreparedCall], stored: Mapping[str, StoredCall]
    ) -> list[PreparedCall]:
        """Join these calls, which are about to be written in this order; return them as they are to be written.

        `stored` has their former rows.
        """
        self._calls, self._batch = calls, calls.keys()
        if self._reader is not None:
            read = self._reader.joints
            self._own = {
                call_id: read(call, prepared[call_id])
                for call_id, call in calls.items() if call.place.session_id is None
            }  # fmt: skip
        known = {call_id for call_id, row in stored.items() if row.session_id is None or row.inferred}
        known.intersection_update(calls)
        if not known and not self._own:
            return [*prepared.values()]
        self._database.lock(f"joint:{key % _LOCKS}" for own in self._own.values() for key in _keys(own))
        self._prefetch()
        self._load(known)
        for call_id in known:
            if calls[call_id].place.session_id is not None:
                self._leave(call_id)
        has_joints = any(self._joints.values())
        for call_id, own in [*self._own.items()]:
            is_sought = (has_joints or bool(self._added)) and self._is_sought(own)
            if is_sought or own.offered or own.histories or own.sought:
                self._enter(calls[call_id])
                continue
            self._entered.add(call_id)
            if own.mentioned:
                self._remember(call_id, own.mentioned[:_MAX_MENTIONS])
            if call_id in known:
                self._members[call_id].offer = own.offers[0] if own.offers else None
        return [self._placed(call_id, call) for call_id, call in prepared.items()]

    def _placed(self, call_id: str, call: PreparedCall) -> PreparedCall:
        """Return a call of the batch with the cells that depend on its run."""
        member = self._members.get(call_id)
        if member is None:
            if (own := self._own.get(call_id)) is not None and own.offers:
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
            members = {member.call_id: member for member in self._load_run(run)}
            for member in members.values():
                if member.previous is not None and member.previous not in members:
                    self._touch(member)
                    member.previous = member.rule = None
            self._without_single(run)
        self.save()

    def save(self) -> None:
        """Write the joints of the batch, and what changed in calls that are not part of it."""
        if not (self._members or self._added):
            return
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
        self._save_ids()
        self._move_records()

    def _save_ids(self) -> None:
        for former_id, current_id in self._former_ids.items():
            self._database.run("DELETE FROM run_ids WHERE id = :id", {"id": former_id})
            if current_id is not None:
                values = {"id": former_id, "session_id": current_id}
                self._database.run("UPDATE run_ids SET session_id = :session_id WHERE session_id = :id", values)
                self._database.run("INSERT INTO run_ids (id, session_id) VALUES (:id, :session_id)", values)

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
        keys, histories = set[int](), list[Joint]()
        for own in self._own.values():
            for offer in own.offers:
                keys.add(-1 - offer)
            for joint in own.offered:
                keys |= {joint.key, -1 - joint.key}
            if own.sought:
                ids = [joint.key for rule in _ISSUED for joint in own.sought.get(rule, [])[:_AT_FIRST]]
                keys.update(ids)
                if not ids:
                    histories += own.sought.get("history", [])[:_AT_FIRST]
            elif own.mentioned:
                keys.update(joint.key for joint in own.mentioned)
        self._look_up(keys.union(joint.key for joint in histories))
        self._look_up_offers({offer for joint in histories for offer in joint.offers})
        calls = [call_id for key, calls in self._joints.items() if key >= 0 for call_id, _ in calls]
        self._load({*calls, *(call_id for offering in self._offers.values() for call_id in offering)})

    def _look_up_offers(self, offers: Collection[int]) -> None:
        missing = [offer for offer in offers if offer not in self._offers]
        if not missing:
            return
        self._offers.update((offer, []) for offer in missing)
        values = {"keys": msgspec.json.encode(missing).decode(), "most": _MAX_CANDIDATES + 1}
        for offer, call_id in self._database.tuples(self._database.dialect.offers, values):
            if call_id not in self._batch:
                self._offers[offer].append(call_id)

    def _look_up(self, keys: Collection[int]) -> None:
        missing = [key for key in keys if key not in self._joints]
        if not missing:
            return
        self._joints.update(dict.fromkeys(missing, ()))
        dialect, encode = self._database.dialect, msgspec.json.encode
        # Most keys of single calls have no joint, which is told at less expense.
        present = [key for (key,) in self._database.tuples(dialect.keys, {"keys": encode(missing).decode()})]
        if not present:
            return
        values, joints = {"keys": encode(present).decode(), "most": _MAX_CANDIDATES + 1}, self._joints
        for key, call_id, proof in self._database.tuples(dialect.joints, values):
            if call_id not in self._batch:
                joints[key] = (*joints[key], (call_id, proof))

    def _newly_offering(self, offer: int) -> list[str]:
        """Return the calls of the batch so far that have an offer."""
        if self._of_batch is None:
            self._of_batch = defaultdict(list)
            for call_id, own in self._own.items():
                for own_offer in own.offers if call_id in self._batch else ():
                    self._of_batch[own_offer].append(call_id)
        return [call_id for call_id in self._of_batch.get(offer, ()) if call_id in self._entered]

    def _with(self, key: int) -> Sequence[tuple[str, int]]:
        """Return the calls with a joint, with the proof."""
        if key not in self._joints:
            self._look_up([key])
        added = self._added.get(key)
        return self._joints[key] if added is None else (*self._joints[key], *added)

    def _load(self, call_ids: Collection[str]) -> None:
        """Read calls, and hold their runs until the transaction ends."""
        missing = sorted({*call_ids}.difference(self._members))
        for condition, parameters in in_batches(missing, "call_id"):
            sql = f"SELECT session_id FROM calls WHERE {condition} AND inferred"
            self._database.lock(f"run:{row[0]}" for row in self._database.tuples(sql, parameters))
            self._add_members(condition, parameters)

    def _load_run(self, run: str) -> list[_Member]:
        """Return all calls of a run."""
        self._add_members("session_id = :run", {"run": run})
        return [member for member in self._members.values() if member.run == run]

    def _add_members(self, condition: str, parameters: Mapping[str, object]) -> None:
        for row in self._database.tuples(f"SELECT {_COLUMNS} FROM calls WHERE {condition}", parameters):
            call_id, session_id, inferred, owner, previous, rule, user, metadata, start_ns, end_ns, process, offer = row
            if call_id not in self._members:
                self._members[call_id] = _Member(
                    call_id=call_id, run=session_id if inferred else None, owner=owner, previous=previous, rule=rule,
                    user=user, tenant=_tenant_in(metadata), start_ns=start_ns, end_ns=end_ns, process=process,
                    offer=offer, is_stored=True,
                )  # fmt: skip

    def _member(self, call_id: str) -> _Member | None:
        if call_id in self._entered and call_id not in self._members:
            self._new_member(self._calls[call_id])
        self._load([call_id])
        return self._members.get(call_id)

    def _new_member(self, call: CallRecord) -> _Member:
        duration, offers = call.timing.duration_ns, self._own[call.call_id].offers
        member = self._members[call.call_id] = _Member(
            call_id=call.call_id, user=call.user_id, tenant=tenant_of(call), start_ns=call.timing.start_ns,
            end_ns=None if duration is None else call.timing.start_ns + duration, process=call.process,
            offer=offers[0] if offers else None,
        )  # fmt: skip
        return member

    def _call(self, call_id: str) -> CallRecord:
        """Return the record of a call."""
        return self._calls.get(call_id) or without_run(exact_call(self._database, call_id))

    # --- joins

    def _is_sought(self, own: Joints) -> bool:
        """Return whether a call of which only offers are known may be continued, or names what is stored."""
        for offer in own.offers:
            if self._joints[-1 - offer] or -1 - offer in self._added:
                return True
        return bool(own.mentioned) and any(self._with(joint.key) for joint in own.mentioned or ())

    def _enter(self, call: CallRecord) -> None:
        """Join a call of the batch to the calls before and behind it."""
        own = self._own[call.call_id]
        member = self._members.get(call.call_id) or self._new_member(call)
        member.offer = own.offers[0] if own.offers else None
        if member.previous is None:
            self._attach(member, self._before(member, own))
        doubtful = self._made_doubtful(member, own)
        for joint in own.offered:
            self._added[joint.key].append((call.call_id, joint.proof))
        self._entered.add(call.call_id)
        if own.histories is not None:
            self._complete(member)
        self._wait(member, own)
        self._doubtful += doubtful
        self._tries.clear()
        while self._doubtful:
            doubtful_id = self._doubtful.pop()
            self._tries[doubtful_id] += 1
            if self._tries[doubtful_id] <= _MAX_TRIES:
                self._reconsider(doubtful_id)
            elif self._tries[doubtful_id] == _MAX_TRIES + 1:
                self._cut(self._members[doubtful_id])

    def _complete(self, member: _Member) -> None:
        """Let a call be found by its histories."""
        own = self._own.get(member.call_id)
        if own is None or own.histories is None:
            own = self._own[member.call_id] = joints_of(self._call(member.call_id))
        for joint in own.histories or ():
            self._added[joint.key].append((member.call_id, joint.proof))
        if member.offer is not None and member.offer >= 0:
            self._touch(member)
            member.offer = -1 - member.offer

    def _complete_all(self, offers: Sequence[int]) -> bool:
        """Let all calls with these offers be found by their histories; return False if they are too many."""
        self._look_up_offers(offers)
        for offer in offers:
            if len(self._offers[offer]) > _MAX_CANDIDATES:
                return False
            for call_id in (*self._offers[offer], *self._newly_offering(offer)):
                member = self._member(call_id)
                if member is not None and member.offer is not None and member.offer >= 0:
                    self._complete(member)
        return True

    def _wait(self, member: _Member, own: Joints) -> None:
        """Let a call be found by what it seeks, in case that the call before it comes later."""
        if member.rule == "mention" or member.previous is None:
            self._remember_mentions(member)
        nearest = [joint for rule in _ISSUED for joint in own.sought.get(rule, [])[:1] if joint.proof != SHARED]
        if member.rule in _ISSUED and any(
            call_id == member.previous for joint in nearest for call_id, _ in self._with(joint.key)
        ):
            return
        # Also an old result: the id of a tool call is stronger than a history, whichever of both calls comes first.
        for joint in (*nearest, *own.sought.get("tool", [])[1 : own.last_results]):
            self._added[-1 - joint.key].append((member.call_id, joint.proof))
        for joint in self._beginnings(member, own):
            for offer in joint.offers:
                self._added[-1 - offer].append((member.call_id, 0))

    def _beginnings(self, member: _Member, own: Joints) -> Sequence[Joint]:
        """Return the nearest history that a call seeks, and the one by which it is joined."""
        histories = own.sought.get("history", [])
        if member.rule != "history":
            return histories[:1]
        return [
            joint for number, joint in enumerate(histories)
            if not number or any(call_id == member.previous for call_id, _ in self._with(joint.key))
        ]  # fmt: skip

    def _remember_mentions(self, member: _Member) -> None:
        """Let a call be found by the ids that its texts mention: the calls that issued them may come later.

        By all of them if it is joined by one, since another may be of another run.
        """
        joints = self._mentions(member)
        self._remember(member.call_id, joints if member.rule == "mention" else joints[:_MAX_MENTIONS])

    def _remember(self, call_id: str, joints: Iterable[Joint]) -> None:
        for joint in joints:
            self._added[-1 - joint.key].append((call_id, joint.proof))

    def _before(self, member: _Member, own: Joints) -> tuple[_Member, JoinedBy] | None:
        """Return the call that a call continues, and how that is known; None if it is none or uncertain."""
        for rule in RULES:
            calls: Sequence[_Member] = (
                self._named(member) if rule == "mention" else self._nearest(member, own.sought.get(rule, []), rule)
            )
            if rule == "kept":
                calls = self._united(member, calls)
            is_one = len(calls) == 1 or (rule in _OF_MANY and len({call.group for call in calls}) == 1)
            if is_one and self._allowed(member, calls[0]):
                if rule == "history" and self._is_of_another(member, own, calls[0]):
                    return None
                if rule == "history" and (
                    self._is_cut(member, own, calls[0]) or self._has_later_twin(member, own, calls[0])
                ):
                    continue
                if rule == "tool":
                    calls = self._latest(member, own, calls[0])
                earlier = [call for call in calls if call.start_ns <= member.start_ns]
                return max(earlier or calls, key=lambda call: (call.start_ns, call.call_id)), rule
        return None

    def _united(self, member: _Member, calls: Sequence[_Member]) -> Sequence[_Member]:
        """Make one run of calls that name the same thing at the provider; return those outside of a call's own run."""
        others = [call for call in calls if call.group != member.group]
        for call in others[1:]:
            if call.group != others[0].group and self._allowed(call, others[0]):
                self._unite(call, others[0])
        return others or [call for call in calls if call.call_id == member.previous] or calls

    def _is_cut(self, member: _Member, own: Joints, earlier: _Member) -> bool:
        """Return whether a request may as well be another run's, of which the beginning was cut off."""
        histories = own.sought["history"]
        joint = next(one for one in histories if any(ident == earlier.call_id for ident, _ in self._with(one.key)))
        self._look_up_offers([-1 - offer for offer in joint.offers])
        for offer in joint.offers:
            offering = self._offers.get(offer, []) + self._offers[-1 - offer]
            if len(offering) > _MAX_CANDIDATES:
                return True
            for call_id in (*offering, *self._newly_offering(offer)):
                call = self._member(call_id)
                if call is None or call.group in (earlier.group, member.group):
                    continue
                if _may_follow(member, call, "history") and is_cut(self._call(member.call_id), self._call(call_id)):
                    return True
        return False

    def _has_later_twin(self, member: _Member, own: Joints, earlier: _Member) -> bool:
        """Return whether a call that began too late to be continued offers the same history as an earlier one.

        Age confirms and never chooses: what is said twice may have been said three times, and the call that a request
        continues need not be in this store.
        """
        for joint in own.sought["history"]:
            offering = self._with(joint.key)
            if all(call_id != earlier.call_id for call_id, _ in offering):
                continue
            for call_id, proof in offering:
                call = self._member(call_id)
                if call is None or call.group in (earlier.group, member.group) or call is member:
                    continue
                if agrees(joint, Joint(joint.key, proof)) and _may_be_of_one(member, call):
                    return True
        return False

    def _latest(self, member: _Member, own: Joints, proven: _Member) -> list[_Member]:
        """Return the call that a call continues, given one of its run: an old id proves no more than that."""
        if own.last_results and any(ident == proven.call_id for ident, _ in self._with(own.sought["tool"][0].key)):
            return [proven]
        calls = self._nearest(member, own.sought.get("history", []), "history")
        return calls if len(calls) == 1 and calls[0].group == proven.group else [proven]

    def _is_of_another(self, member: _Member, own: Joints, earlier: _Member) -> bool:
        """Return whether the results behind an equal answer name tool calls of other answers, and none of this one."""
        if not own.last_results or earlier not in self._nearest(member, own.sought["history"][:1], "history"):
            return False
        results = own.sought["tool"][: own.last_results]
        issuing = {
            call_id
            for joint in results
            for call_id, proof in self._with(joint.key)
            if agrees(joint, Joint(joint.key, proof))
        }
        return bool(issuing) and earlier.call_id not in issuing

    def _nearest(self, member: _Member, joints: Sequence[Joint], rule: JoinedBy) -> list[_Member]:
        """Return the calls with the nearest joint that any call offers."""
        for number, joint in enumerate(joints):
            if number == _AT_FIRST:
                self._look_up([farther.key for farther in joints[number:]])
                self._look_up_offers({offer for farther in joints[number:] for offer in farther.offers})
            if not self._complete_all(joint.offers):
                return []
            offering = self._with(joint.key)
            if rule == "tool" and len(offering) != 1:
                continue
            if calls := [*self._agreeing(member, joint, rule)]:
                return [] if len(offering) > _MAX_CANDIDATES else calls
        return []

    def _named(self, member: _Member) -> list[_Member]:
        """Return the calls that issued any of the ids in the texts of a call.

        Later ones too if there is an earlier one: a text that names ids of two runs tells of neither.
        """
        joints = self._mentions(member)
        self._look_up([joint.key for joint in joints])
        issued = [joint for joint in joints if len(self._with(joint.key)) == 1]
        calls = [call for joint in issued for call in self._agreeing(member, joint, "tool")]
        return calls if any(_may_follow(member, call, "mention") for call in calls) else []

    def _mentions(self, member: _Member) -> Sequence[Joint]:
        """Return the joints of the words in the texts of a call."""
        own = self._own.get(member.call_id)
        joints = self._mentioned.get(member.call_id) if own is None or own.mentioned is None else own.mentioned
        if joints is None:
            joints = self._mentioned[member.call_id] = mentions_of(self._call(member.call_id))
        return joints

    def _agreeing(self, member: _Member, joint: Joint, rule: JoinedBy) -> Iterator[_Member]:
        """Yield the calls that offer a joint and may be continued by a call."""
        for call_id, proof in self._with(joint.key):
            call = self._member(call_id)
            if call is not None and agrees(joint, Joint(joint.key, proof)) and _may_follow(member, call, rule):
                yield call

    def _made_doubtful(self, member: _Member, own: Joints) -> list[str]:
        """Return the calls whose joins a new call may change: those that seek what it offers, alone or as another."""
        doubtful = dict[str, None]()
        for joint in own.offered:
            is_id = joint.key in own.offered_ids
            others = [call_id for call_id, _ in self._with(joint.key) if call_id != member.call_id]
            if is_id and len(others) > 1:
                continue
            for call_id, proof in self._with(-1 - joint.key):
                call = self._member(call_id)
                if call is None or call is member or call.previous == member.call_id:
                    continue
                if is_id or (joint.proof == proof and _may_matter(member, call)):
                    doubtful[call_id] = None
            for call_id in others if is_id else ():
                doubtful.update(dict.fromkeys(self._following(call_id)))
        doubtful.update(dict.fromkeys(self._seeking(member, own.offers)))
        return [*doubtful]

    def _seeking(self, member: _Member, offers: Sequence[int]) -> Iterator[str]:
        """Yield the calls whose requests have one of these offers of a call."""
        for offer in offers:
            for call_id, _ in self._with(-1 - offer):
                call = self._member(call_id)
                if call is not None and call.previous != member.call_id and _may_matter(member, call):
                    yield call_id

    def _following(self, call_id: str) -> Iterator[str]:
        """Yield the calls that continue a call which issued the same id as another one."""
        call = self._member(call_id)
        if call is None or call.run is None:
            return
        self._add_members("session_id = :run AND previous_call_id = :call", {"run": call.run, "call": call_id})
        for other in [*self._members.values()]:
            if other.previous == call_id:
                yield other.call_id

    def _reconsider(self, call_id: str) -> None:
        """Join a call anew."""
        member = self._members[call_id]
        own = self._own.get(call_id)
        if own is None:
            own = self._own[call_id] = joints_of(self._call(call_id))
        if call_id in self._batch and call_id not in self._entered:
            return  # it is still to be joined
        before = self._before(member, own)
        if (None if before is None else before[0].call_id) != member.previous:
            self._cut(member)
            self._attach(member, before)
            self._wait(member, own)

    def _leave(self, call_id: str) -> None:
        """Take a call out of its run, because a later version of it names a session."""
        member = self._members.get(call_id)
        if member is None or (member.run is None and member.owner is None):
            return
        run, members = member.run, [] if member.run is None else self._load_run(member.run)
        for other in members:
            if other.previous == call_id:
                self._touch(other)
                other.previous = other.rule = None
        self._touch(member)
        member.run = member.owner = member.previous = member.rule = member.offer = None
        if run is not None:
            self._without_single(run)

    def _allowed(self, member: _Member, other: _Member) -> bool:
        """Return whether the runs of two calls may be one: they have one known user and one tenant at most."""
        if member.group == other.group:
            return True
        if (
            member.run is None
            and (member.user is None or member.user == other.user)
            and (member.tenant is None or member.tenant == other.tenant)
        ):
            return True
        members = [call for one in (member, other) for call in ([one] if one.run is None else self._load_run(one.run))]
        users, tenants = {call.user for call in members} - {None}, {call.tenant for call in members} - {None}
        return len(users) <= 1 and len(tenants) <= 1

    def _attach(self, member: _Member, before: tuple[_Member, JoinedBy] | None) -> None:
        """Join a call, with all of its run, to the run of an earlier call."""
        if before is None:
            return
        earlier, rule = before
        if member.run is not None and member.run == earlier.run:
            if self._is_behind(earlier, member):
                return
        else:
            if member.run is None and member.call_id in self._batch:
                member.owner = earlier.owner or owner_of(earlier.call_id, None)
            self._unite(member, earlier)
        self._touch(member)
        member.previous, member.rule = earlier.call_id, rule

    def _first(self, call: _Member, other: _Member) -> _Member:
        """Return the one of two loose calls that was delivered first; the one that continues the other may be."""
        if call.is_stored or call.call_id not in self._batch:
            return call
        order = [*self._batch]
        is_later = other.is_stored or order.index(other.call_id) < order.index(call.call_id)
        return other if is_later else call

    def _is_behind(self, call: _Member, other: _Member) -> bool:
        """Return whether a call continues another one, directly or not."""
        passed = set[str]()
        above: _Member | None = call
        while above is not None and above.call_id not in passed:
            if above is other:
                return True
            passed.add(above.call_id)
            above = None if above.previous is None else self._member(above.previous)
        return False

    def _unite(self, member: _Member, other: _Member) -> None:
        """Make one run of two; the older id stays."""
        runs = [member.run, other.run]
        if None in runs:
            run = member.run or other.run
            if run is None:
                run = run_id(self._first(other, member).call_id)
                self._former_ids[run] = None
            for call in (member, other):
                self._move(call, run)
            return
        members = [self._load_run(run) for run in runs if run is not None]
        begins = [min((call.start_ns, call.call_id) for call in calls) for calls in members]
        kept = 0 if begins[0] <= begins[1] else 1
        run, moved = runs[kept], runs[1 - kept]
        for call in members[1 - kept]:
            self._move(call, run)
        if moved is not None:
            self._former_ids[moved] = run
            for former_id, current_id in self._former_ids.items():
                if current_id == moved:
                    self._former_ids[former_id] = run

    def _cut(self, member: _Member) -> None:
        """Part a call, with all that continue it, from the call before it."""
        if member.previous is None or member.run is None:
            return
        run = member.run
        members = self._load_run(run)
        followers = defaultdict[str | None, list[_Member]](list)
        for call in members:
            followers[call.previous].append(call)
        parted, waiting = {member.call_id: member}, [member]
        while waiting:
            for call in followers[waiting.pop().call_id]:
                if call.call_id not in parted:
                    parted[call.call_id] = call
                    waiting.append(call)
        self._touch(member)
        member.previous = member.rule = None
        # An id may have proved no more than that a call is of this run.
        by_id = [call.call_id for call in members if call.rule in _OF_RUN]
        self._doubtful += by_id[-_MAX_RECONSIDERED:]
        remaining = [call for call in members if call.call_id not in parted]
        groups = [remaining, [*parted.values()]]
        if any(run_id(call_id) == run for call_id in parted):
            groups.reverse()
        first = min(groups[1], key=lambda call: (call.start_ns, call.call_id), default=None)
        if first is not None:
            new_run = run_id(first.call_id)
            self._former_ids[new_run] = None
            for call in groups[1]:
                self._move(call, new_run)
            self._without_single(new_run)
        self._without_single(run)

    def _without_single(self, run: str) -> None:
        """Let a call be loose that is alone in its run."""
        members = self._load_run(run)
        if len(members) == 1:
            self._move(members[0], None)

    def _touch(self, call: _Member) -> None:
        self._changed.setdefault(call.call_id, call.run)

    def _move(self, call: _Member, run: str | None) -> None:
        """Set the run of a call. Its contents stay with their owner."""
        if call.run != run:
            self._touch(call)
            call.run = run
        if call.owner is None:
            call.owner = owner_of(call.call_id, None)


def _may_be_of_one(call: _Member, other: _Member) -> bool:
    """Return whether two calls may be of one run, by their users and tenants."""
    return (
        call.call_id != other.call_id
        and (None in (call.user, other.user) or call.user == other.user)
        and (None in (call.tenant, other.tenant) or call.tenant == other.tenant)
    )


def _may_matter(call: _Member, seeking: _Member) -> bool:
    """Return whether a call may change how another one, which seeks what it offers, is joined by its history."""
    return _may_be_of_one(seeking, call) if seeking.rule == "history" else _may_follow(seeking, call, "history")


def _may_follow(call: _Member, earlier: _Member, rule: JoinedBy) -> bool:
    """Return whether a call may continue another one, by what is known besides the joint."""
    if not _may_be_of_one(call, earlier):
        return False
    if rule not in _BY_TEXT:
        return True
    end_ns = earlier.start_ns if earlier.end_ns is None else earlier.end_ns
    has_same_clock = call.process is not None and call.process == earlier.process
    return end_ns <= call.start_ns + (0 if has_same_clock else _CLOCKS_NS)


def _tenant_in(metadata: Any) -> str | None:
    if metadata is None:
        return None
    names = msgspec.json.decode(metadata) if isinstance(metadata, str | bytes) else metadata
    labels = [label_of(names, key) for key in TENANT_KEYS]
    return None if labels == [None] * len(labels) else msgspec.json.encode(labels).decode()


def _cells(member: _Member) -> dict[str, object]:
    return {
        "call_id": member.call_id, "run": member.run, "owner": member.owner, "previous": member.previous,
        "rule": member.rule, "offer": member.offer,
    }  # fmt: skip


def _keys(own: Joints) -> Iterator[int]:
    """Yield what other deliveries wait for while a call is joined."""
    yield from own.offers
    yield from (joint.key for joint in own.offered)
    for rule in _ISSUED:
        yield from (joint.key for joint in own.sought.get(rule, [])[: max(1, own.last_results)])
    for joint in own.sought.get("history", [])[:1]:
        yield from joint.offers
