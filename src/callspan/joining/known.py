"""Known calls: what the rules may ask about the calls outside of sessions. Tests and pages ask those of a list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, Protocol

import msgspec

from callspan.joining.joints import Joint, Joints, joints_of, mentions_of
from callspan.record.call import CallRecord, JoinedBy
from callspan.record.labels import Ownership, tenant_of

MOST: Final = 32
"""Calls alike in instructions, last message and beginning of the answer; where more may be meant, none is."""


NOBODY: Final = Ownership()


def hashed(user: object, tenant: str | None, service: str | None) -> Ownership:
    """Return whose a call is, as far as it states, in hashes."""
    if user is tenant is service is None:
        return NOBODY
    return Ownership(*(None if value is None else _hashed(f"{value}") for value in (user, tenant, service)))


def _hashed(text: str) -> str:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


class Member(msgspec.Struct, kw_only=True, eq=False):
    """A call outside of sessions, as far as its place in a run depends on it."""

    call_id: str
    stated: Ownership
    start_ns: int
    end_ns: int | None
    run: str | None = None
    previous: str | None = None
    rule: JoinedBy | None = None

    @property
    def group(self) -> str:
        """What all calls of its run have in common."""
        return self.run or self.call_id


def stated_by(call: CallRecord) -> Ownership:
    """Return whose a call is stated to be, in hashes."""
    return hashed(call.user_id, tenant_of(call.metadata), call.service)


def facts_of(call: CallRecord) -> dict[str, Any]:
    """Return the fields of a `Member` that a record states."""
    duration = call.timing.duration_ns
    end_ns = None if duration is None else call.timing.start_ns + duration
    return {"call_id": call.call_id, "stated": stated_by(call), "start_ns": call.timing.start_ns, "end_ns": end_ns}


class Known(Protocol):
    """What the rules may ask."""

    def record(self, call_id: str) -> CallRecord:
        """Return the record of a call."""

    def joints(self, member: Member) -> Joints:
        """Return the joints of a call."""

    def mentions(self, member: Member) -> Sequence[Joint]:
        """Return the joints of the words in the texts of a call."""

    def offering(self, joint: Joint) -> Sequence[tuple[Member, int]]:
        """Return the calls with a joint, at most `MOST` and one more, with their proofs."""

    def with_offers(self, offers: Iterable[int]) -> Sequence[Member] | None:
        """Return the calls with any of these offers, with their histories known; None if one has more than `MOST`."""

    def stated(self, member: Member) -> Ownership:
        """Return what all calls of a call's run state."""

    def expect(self, joints: Sequence[Joint]) -> None:
        """Prepare for questions about these joints."""


class KnownCalls:
    """`Known` of a list of calls, and their runs."""

    def __init__(self, calls: Iterable[CallRecord]) -> None:
        """No call is in a run at first."""
        self._records = {call.call_id: call for call in calls}
        self.members = {name: Member(**facts_of(call)) for name, call in self._records.items()}
        self._joints = {name: joints_of(call) for name, call in self._records.items()}
        self._groups = {name: [member] for name, member in self.members.items()}
        self._offering = defaultdict[int, list[tuple[Member, int]]](list)
        self._with_offer = defaultdict[int, list[Member]](list)
        for name, own in self._joints.items():
            for joint in {joint[:2]: joint for joint in (*own.offered, *(own.histories or ()))}.values():
                self._offering[joint.key].append((self.members[name], joint.proof))
            for offer in own.offers:
                self._with_offer[offer].append(self.members[name])

    def record(self, call_id: str) -> CallRecord:
        """Return the record of a call."""
        return self._records[call_id]

    def joints(self, member: Member) -> Joints:
        """Return the joints of a call."""
        return self._joints[member.call_id]

    def mentions(self, member: Member) -> Sequence[Joint]:
        """Return the joints of the words in the texts of a call."""
        return mentions_of(self._records[member.call_id])

    def offering(self, joint: Joint) -> Sequence[tuple[Member, int]]:
        """Return the calls with a joint, with their proofs."""
        return self._offering.get(joint.key, ())

    def with_offers(self, offers: Iterable[int]) -> Sequence[Member] | None:
        """Return the calls with any of these offers; None if one has more than `MOST`."""
        alike = [self._with_offer.get(offer, []) for offer in offers]
        return None if any(len(calls) > MOST for calls in alike) else [call for calls in alike for call in calls]

    def stated(self, member: Member) -> Ownership:
        """Return what all calls of a call's run state."""
        stated = NOBODY
        for call in self._groups[member.group]:
            stated = stated.filled(call.stated)
        return stated

    def expect(self, joints: Sequence[Joint]) -> None:
        """Do nothing: everything is at hand."""

    def unite(self, member: Member, other: Member) -> None:
        """Make one run of those of two calls, named by the first call of one of them."""
        if member.group != other.group:
            moved = self._groups.pop(member.group)
            self._groups[other.group] += moved
            for call in (*moved, other):
                call.run = other.group
