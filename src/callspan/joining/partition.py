"""Partition: keeps calls in runs as one after another becomes known, in any order, by the rules.

A call that becomes known may change what earlier ones continue, so those that seek what it offers are joined anew. Runs
of two joined calls become one: the smaller one moves to the other. What belongs together is said by the run of each
call, not by the calls that it continues: a call that is deleted does not part its run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from callspan.joining.joints import Joint, Joints
from callspan.joining.known import MOST, NOBODY, Known, Member
from callspan.joining.rules import OF_RUN, awaited, before, is_allowed, may_matter
from callspan.record.call import JoinedBy
from callspan.record.labels import Ownership

_PREFIX: Final = "run-"
_MAX_TRIES: Final = 5
"""How often a call is joined anew because of another one, before it is left apart."""
_FEW: Final = 64
"""Calls of a run that are read together: all are joined anew when it is cut, and the older of two such runs stays."""
_MAX_PARTED: Final = 500
"""Calls that are parted together from the call before them; more stay."""
_MAX_AT_ONCE: Final = 32
"""Calls that are joined anew in one transaction."""


def run_id(call_id: str) -> str:
    """Return the id of the run that begins with the delivery of this call. It does not contain the call's id."""
    return _PREFIX + blake2b(call_id.encode(), digest_size=12).hexdigest()


class Run(msgspec.Struct, eq=False):
    """What is stored of a run besides its calls."""

    calls: int = 0
    stated: Ownership = NOBODY
    """What any of its calls stated."""


class Partition(Known, ABC):
    """Keeps calls in runs. A subclass knows the calls, and notes what changes."""

    def __init__(self) -> None:
        """Nothing is known at first."""
        self.runs: dict[str, Run] = {}
        """Of the known members."""
        self.postponed = list[str]()
        """Calls to be joined anew by the next transaction."""
        self._doubtful = list[str]()
        self._tries = Counter[str]()
        self._left = _MAX_AT_ONCE

    # --- what a subclass knows

    @abstractmethod
    def member(self, call_id: str) -> Member | None:
        """Return a call."""

    @abstractmethod
    def members_of(self, run: str) -> Collection[Member]:
        """Return all calls of a run."""

    @abstractmethod
    def followers(self, call_id: str) -> Sequence[str]:
        """Return the calls that continue a call."""

    @abstractmethod
    def seeking(self, key: int, most: int | None = None) -> Sequence[str]:
        """Return the calls that await a joint with this key."""

    @abstractmethod
    def is_free(self, run: str, first: Member) -> bool:
        """Return whether no run has, or had, the id that a call gives it."""

    @abstractmethod
    def is_earlier(self, call: Member, other: Member) -> bool:
        """Return whether a call was delivered before another one."""

    # --- what a subclass notes

    @abstractmethod
    def offer(self, member: Member, own: Joints) -> None:
        """Let a call be found by what it offers."""

    @abstractmethod
    def await_(self, member: Member, joints: Iterable[Joint]) -> None:
        """Let a call be found by what it awaits."""

    @abstractmethod
    def touch(self, member: Member) -> None:
        """Note that a call is about to change."""

    @abstractmethod
    def share(self, member: Member, earlier: Member) -> None:
        """Note that a new call repeats the contents of an earlier one."""

    @abstractmethod
    def rename(self, run: str, current: str | None) -> None:
        """Note that a run is part of another one by now, or is none."""

    # --- what happens

    def enter(self, member: Member) -> None:
        """Join a call to the calls before and behind it."""
        if member.previous is None:
            self._attach(member, before(member, self))
        own = self.joints(member)
        doubtful = dict.fromkeys(self._made_doubtful(member, own))
        self.offer(member, own)
        self.await_(member, awaited(member, self))
        self._tries.clear()
        self._doubtful += doubtful
        self._settle()

    def resume(self, call_ids: Sequence[str]) -> None:
        """Join calls anew that an earlier transaction postponed."""
        self._left = len(call_ids) * _MAX_TRIES
        self._doubtful += call_ids[::-1]
        self._settle()

    def state(self, member: Member, stated: Ownership) -> None:
        """Note what a later version of a call states; it leaves a run of which somebody else is stated."""
        if stated == member.stated:
            return
        run = None if member.run is None else self.runs[member.run]
        if run is not None and run.stated.contradicts(stated):
            self.leave(member)
        elif run is not None:
            run.stated = run.stated.filled(stated)
        member.stated = stated

    def leave(self, member: Member) -> None:
        """Take a call out of its run. The calls that continue it stay there."""
        run = member.run
        for call_id in self.followers(member.call_id):
            self._part(self.member(call_id))
        self._part(member)
        if run is not None:
            self._move(member, None)
            self._without_single(run)

    def stated(self, member: Member) -> Ownership:
        """Return what all calls of a call's run state."""
        return member.stated if member.run is None else self.runs[member.run].stated

    def _made_doubtful(self, member: Member, own: Joints) -> Iterator[str]:
        """Yield the calls whose joins a new call may change: those that seek what it offers, alone or as another."""
        for joint in own.offered:
            others = [one for one, _ in self.offering(joint) if one is not member]
            # What two calls issued already joins nothing.
            if len(others) <= 1:
                yield from self.seeking(joint.key)
                for one in others:
                    yield from self.followers(one.call_id)
        for offer in own.offers:
            seeking = self.seeking(offer, MOST + 1)
            for seeker in filter(None, map(self.member, seeking)):
                if seeker.previous != member.call_id and may_matter(member, seeker):
                    yield seeker.call_id
            others = (
                [one for one in self.with_offers([offer]) or () if one is not member] if len(seeking) > MOST else []
            )
            if len(others) == 1:
                yield from self.followers(others[0].call_id)

    def _settle(self) -> None:
        """Join calls anew until no join is in doubt; what is too much for this transaction is postponed."""
        while self._doubtful:
            call_id = self._doubtful.pop()
            if self._left == 0:
                self.postponed.append(call_id)
            elif (member := self.member(call_id)) is not None:
                self._left -= 1
                self._tries[call_id] += 1
                if self._tries[call_id] <= _MAX_TRIES:
                    self._reconsider(member)
                elif self._tries[call_id] == _MAX_TRIES + 1:
                    self._cut(member)

    def _reconsider(self, member: Member) -> None:
        """Join a call anew."""
        found = before(member, self)
        if (None if found is None else found[0].call_id) != member.previous:
            if not self._cut(member):
                return
            self._attach(member, found)
            self.await_(member, awaited(member, self))

    def _attach(self, member: Member, found: tuple[Member, JoinedBy] | None) -> None:
        """Join a call, with all of its run, to the run of an earlier call."""
        if found is None:
            return
        earlier, rule = found
        if member.run is not None and member.run == earlier.run:
            if self._is_behind(earlier, member):
                return
        elif not is_allowed(member, earlier, self):
            return
        else:
            self.share(member, earlier)
            self._unite(member, earlier)
        self.touch(member)
        member.previous, member.rule = earlier.call_id, rule

    def _is_behind(self, call: Member, other: Member) -> bool:
        """Return whether a call continues another one, directly or not, as far as is looked."""
        above: Member | None = call
        for _ in range(_MAX_PARTED):
            if above is None or above.previous is None:
                return above is other
            if above is other:
                return True
            above = self.member(above.previous)
        return True

    def _unite(self, member: Member, other: Member) -> None:
        """Make one run of two: that of few calls moves to the other; of two such runs, the later one does."""
        if member.run is None or other.run is None:
            run = member.run or other.run or self._new_run(other if self.is_earlier(other, member) else member)
            for call in (member, other):
                self._move(call, run)
            return
        kept, moved = other.run, member.run
        sizes = self.runs[kept].calls, self.runs[moved].calls
        is_late = sizes[1] > sizes[0]
        if max(sizes) <= _FEW:
            begun = [min((call.start_ns, call.call_id) for call in self.members_of(run)) for run in (kept, moved)]
            is_late = begun[1] < begun[0]
        if is_late:
            kept, moved = moved, kept
        for call in [*self.members_of(moved)]:
            self._move(call, kept)
        self.runs[kept].stated = self.runs[kept].stated.filled(self.runs[moved].stated)
        self.rename(moved, kept)

    def _new_run(self, first: Member) -> str:
        """Return the id of a new run."""
        run = run_id(first.call_id)
        while not self.is_free(run, first):
            run = run_id(run)
        self.runs[run] = Run()
        return run

    def _cut(self, member: Member) -> bool:
        """Part a call, with all that continue it, from the call before it; return whether they are not too many."""
        if member.previous is None or member.run is None:
            return True
        run, parted, waiting = member.run, {member.call_id: member}, [member]
        while waiting:
            for call_id in self.followers(waiting.pop().call_id):
                if call_id not in parted and (call := self.member(call_id)) is not None and call.run == run:
                    parted[call_id] = call
                    waiting.append(call)
            if len(parted) > _MAX_PARTED:
                return False
        self._part(member)
        # An id may have proved no more than that a call is of this run.
        members = self.members_of(run) if self.runs[run].calls <= _FEW else parted.values()
        self._doubtful += [call.call_id for call in members if call.rule in OF_RUN]
        first = min(parted.values(), key=lambda call: (call.start_ns, call.call_id))
        new_run = self._new_run(first) if len(parted) > 1 else None
        for call in parted.values():
            self._move(call, new_run)
        self._without_single(run)
        return True

    def _part(self, member: Member | None) -> None:
        if member is not None:
            self.touch(member)
            member.previous = member.rule = None

    def _without_single(self, run: str) -> None:
        """Let a call be loose that is alone in its run."""
        if self.runs[run].calls == 1:
            for call in [*self.members_of(run)]:
                self._part(call)
                self._move(call, None)
        if self.runs[run].calls == 0:
            self.rename(run, None)

    def _move(self, call: Member, run: str | None) -> None:
        """Set the run of a call."""
        if call.run == run:
            return
        self.touch(call)
        if call.run is not None:
            self.runs[call.run].calls -= 1
        call.run = run
        if run is not None:
            self.runs[run].calls += 1
            self.runs[run].stated = self.runs[run].stated.filled(call.stated)
