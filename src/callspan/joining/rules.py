"""Rules: which call does a call outside of sessions continue, and how is that known?

A wrong join is worse than none: where more than one call may be continued, none is. A call and the one that it
continues make a run. Whose calls are is stated, and never inferred: runs of different users, tenants or services are
never one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from callspan.joining.joints import RULES, Joint, Joints, agrees, instructions_of, is_cut
from callspan.joining.known import MOST, Known, KnownCalls, Member
from callspan.record.call import CallRecord, JoinedBy

AT_FIRST: Final = 2
"""Joints of each rule that are asked for at first, the nearest; farther ones are rarely needed."""
CLOCKS_NS: Final = 5_000_000_000
"""How much two clocks may differ, and one may step back."""
MAX_MENTIONS: Final = 4
"""Words by which a call is found that continues no other one yet."""
ISSUED: Final[tuple[JoinedBy, ...]] = ("seal", "kept", "tool")
"""Rules by what an answer issued."""
_MAX_AWAITED: Final = 16
"""Histories, the nearest, by which a call is found that continues no other one yet."""
OF_RUN: Final = frozenset[JoinedBy]({"tool", "mention"})
"""Rules by which a call may continue another one than what issued the id."""
_BY_TEXT: Final = frozenset[JoinedBy]({"history", "mention"})
"""Rules that do not prove a join, so that time has to allow it."""


def before(call: Member, known: Known) -> tuple[Member, JoinedBy] | None:
    """Return the call that a call continues, and the rule by which it does; None if it is none or uncertain."""
    own = known.joints(call)
    for rule in RULES:
        sought = own.sought.get(rule, ())
        calls: Sequence[Member] = _named(call, known) if rule == "mention" else _nearest(call, sought, rule, known)
        if rule == "kept":
            calls = _outside(call, calls, known)
        is_one = len(calls) == 1 or (calls and rule == "kept") or (rule == "mention" and _are_together(calls))
        if not is_one or not is_allowed(call, calls[0], known):
            continue
        if rule == "history":
            if _is_of_another(call, own, calls[0], known):
                return None
            if _is_doubtful(call, own, calls[0], known):
                continue
        if rule == "tool":
            calls = _latest(call, own, calls[0], known)
        earlier = [one for one in calls if one.start_ns <= call.start_ns]
        return max(earlier or calls, key=lambda one: (one.start_ns, one.call_id)), rule
    return None


def is_allowed(call: Member, other: Member, known: Known) -> bool:
    """Return whether the runs of two calls may be one: nobody else is stated in one of them."""
    return call.group == other.group or not known.stated(call).contradicts(known.stated(other))


def _are_together(calls: Sequence[Member]) -> bool:
    return len({one.group for one in calls}) == 1


def runs_of(calls: Iterable[CallRecord]) -> Mapping[str, str]:
    """Return the run of each call that is in one, by the call's id: the id of one of its calls."""
    known = KnownCalls(calls)
    for member in sorted(known.members.values(), key=lambda member: (member.start_ns, member.call_id)):
        if (found := before(member, known)) is not None:
            known.unite(member, found[0])
    return {name: member.run for name, member in known.members.items() if member.run is not None}


def _outside(call: Member, calls: Sequence[Member], known: Known) -> Sequence[Member]:
    """Return which of the calls that name the same thing at the provider a call may join, outside of its own run."""
    others = [one for one in calls if one.group != call.group and is_allowed(call, one, known)]
    if any(not is_allowed(others[0], one, known) for one in others[1:]):
        return ()
    return others or [one for one in calls if one.call_id == call.previous]


def _nearest(call: Member, joints: Sequence[Joint], rule: JoinedBy, known: Known) -> list[Member]:
    """Return the calls with the nearest joint that any call offers."""
    for number, joint in enumerate(joints):
        if number == AT_FIRST:
            known.expect(joints[number:])
        if joint.offers and known.with_offers(joint.offers) is None:
            return []
        offering = known.offering(joint)
        if rule == "tool" and len(offering) != 1:
            continue
        if calls := _agreeing(call, joint, rule, offering):
            return [] if len(offering) > MOST and rule != "kept" else calls
    return []


def _agreeing(call: Member, joint: Joint, rule: JoinedBy, offering: Sequence[tuple[Member, int]]) -> list[Member]:
    """Return those of the calls with a joint that a call may continue."""
    return [
        one for one, proof in offering
        if one is not call and agrees(joint, Joint(joint.key, proof)) and may_follow(call, one, rule)
    ]  # fmt: skip


def _named(call: Member, known: Known) -> list[Member]:
    """Return the calls that issued any of the ids in the texts of a call under the same instructions.

    Later ones too if there is an earlier one: a text that names ids of two runs tells of neither. A text under other
    instructions tells of a conversation, and does not continue it.
    """
    joints = known.mentions(call)
    known.expect(joints)
    issued = [(joint, offering) for joint in joints if len(offering := known.offering(joint)) == 1]
    calls = [one for joint, offering in issued for one in _agreeing(call, joint, "tool", offering)]
    if not any(may_follow(call, one, "mention") for one in calls):
        return []
    said = instructions_of(known.record(call.call_id))
    return calls if all(instructions_of(known.record(one.call_id)) == said for one in calls) else []


def _is_of_another(call: Member, own: Joints, earlier: Member, known: Known) -> bool:
    """Return whether the results behind an equal answer name tool calls of other answers, and none of this one."""
    if not own.last_results or earlier not in _nearest(call, own.sought["history"][:1], "history", known):
        return False
    issuing = {
        one.call_id
        for joint in own.sought["tool"][: own.last_results]
        for one, proof in known.offering(joint)
        if agrees(joint, Joint(joint.key, proof))
    }
    return bool(issuing) and earlier.call_id not in issuing


def _is_doubtful(call: Member, own: Joints, earlier: Member, known: Known) -> bool:
    """Return whether a request may as well be another run's: one that was cut, or that says the same.

    Age confirms and never chooses: what is said twice may have been said three times, and the call that a request
    continues need not be in this store.
    """
    groups = earlier.group, call.group
    sought = own.sought["history"]
    joint = next(joint for joint in sought if any(one is earlier for one, _ in known.offering(joint)))
    alike = known.with_offers(joint.offers)
    if alike is None:
        return True
    for one in alike:
        is_stranger = one.group not in groups and may_follow(call, one, "history")
        if is_stranger and is_cut(known.record(call.call_id), known.record(one.call_id)):
            return True
    return any(
        one.group not in groups and agrees(joint, Joint(joint.key, proof)) and _may_be_of_one(call, one)
        for one, proof in known.offering(joint)
    )


def _latest(call: Member, own: Joints, proven: Member, known: Known) -> list[Member]:
    """Return the call that a call continues, given one of its run: an old id proves no more than that."""
    if own.last_results and any(one is proven for one, _ in known.offering(own.sought["tool"][0])):
        return [proven]
    calls = _nearest(call, own.sought.get("history", ()), "history", known)
    return calls if len(calls) == 1 and calls[0].group == proven.group else [proven]


def _may_be_of_one(call: Member, other: Member) -> bool:
    return call is not other and not call.stated.contradicts(other.stated)


def may_matter(call: Member, seeking: Member) -> bool:
    """Return whether a call may change how another one, which seeks what it offers, is joined by its history."""
    return _may_be_of_one(seeking, call) if seeking.rule == "history" else may_follow(seeking, call, "history")


def may_follow(call: Member, earlier: Member, rule: JoinedBy) -> bool:
    """Return whether a call may continue another one, by what is known besides the joint."""
    end_ns = earlier.start_ns if earlier.end_ns is None else earlier.end_ns
    return _may_be_of_one(call, earlier) and (rule not in _BY_TEXT or end_ns <= call.start_ns + CLOCKS_NS)


def awaited(call: Member, known: Known) -> Iterator[Joint]:
    """Yield the joints and offers by which a call is to be found if the call before it comes later, or another one.

    The id of a tool call is stronger than a history, whichever of both calls comes first, and so is an old result's.
    """
    own = known.joints(call)
    if call.rule == "mention" or call.previous is None:
        # By all of them if it is joined by one, since another may be of another run.
        yield from known.mentions(call)[: None if call.rule == "mention" else MAX_MENTIONS]
    offered = {joint.key for joint in own.offered}
    nearest = [joint for rule in ISSUED for joint in own.sought.get(rule, ())[:1] if joint.key not in offered]
    if call.rule in ISSUED and any(
        one.call_id == call.previous for joint in nearest for one, _ in known.offering(joint)
    ):
        return
    yield from (*nearest, *own.sought.get("tool", ())[1 : own.last_results])
    histories = own.sought.get("history", ())
    if call.rule == "history":
        histories = [
            joint for number, joint in enumerate(histories)
            if not number or any(one.call_id == call.previous for one, _ in known.offering(joint))
        ]  # fmt: skip
    for joint in histories[: _MAX_AWAITED if call.previous is None or call.rule == "history" else 1]:
        yield from (Joint(offer) for offer in joint.offers)
