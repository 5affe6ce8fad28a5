"""Rewards and feedback by id: also from outside a session, and long after it has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from callspan.agent import hooks
from callspan.agent.context import current_metadata, current_scope
from callspan.agent.misuse import misuse
from callspan.agent.runtime import installed
from callspan.agent.scope import treated
from callspan.agent.values import number, text
from callspan.fail_open import fail_open
from callspan.record.events import RewardRecord
from callspan.record.ids import new_id

if TYPE_CHECKING:
    from callspan.agent.scope import Scope
    from callspan.agent.sessions import Session


def reward(
    value: object,
    *,
    session_id: str | None = None,
    timestep_id: str | None = None,
    call_id: str | None = None,
    objective: str = "reward",
    label: str | None = None,
    source: str | None = None,
    annotation: str | None = None,
) -> str:
    """Give a reward for a session, timestep or call by its id, else for the current step; return the reward's id.

    Rewards are only ever added. Without an id and outside a session it is kept and flagged. A value that is
    no number is kept as None.
    """
    session_id = text(session_id)
    named = session_id is not None or timestep_id is not None or call_id is not None
    scope = current_scope()
    around = scope if scope is not None and session_id in {None, _session_of(scope)} else None
    # A step named by id may be anybody's: nothing of the current place may be told of it.
    inherit = around if not named or session_id is not None or call_id is not None else None
    flags = [] if named or around is not None else [misuse("outside_session", _ADVICE, installed())]
    place = inherit.place if inherit is not None else None
    step_known = place is not None and session_id is None and timestep_id is None
    record = RewardRecord(
        reward_id=new_id(),
        session_id=session_id or (place.session_id if place is not None else None),
        timestep_id=place.timestep_id if place is not None and step_known else text(timestep_id),
        timestep=place.timestep if place is not None and step_known else None,
        call_id=text(call_id),
        objective=text(objective) or "reward",
        value=None if value is None else number(value),
        label=text(label),
        scope=_level(session_id, timestep_id, call_id),
        source=text(source),
        annotation=text(annotation),
        time_ns=time.time_ns(),
        metadata={**current_metadata(), "callspan.flags": flags} if flags else current_metadata(),
    )
    _hand_over(record, inherit)
    return record.reward_id


def feedback(
    call_id: str,
    value: object = None,
    *,
    label: str | None = None,
    objective: str = "feedback",
    source: str = "human",
    annotation: str | None = None,
) -> str:
    """Keep what somebody thought of a call's answer: a number, a label, words; return the reward's id."""
    record = RewardRecord(
        reward_id=new_id(),
        call_id=text(call_id),
        objective=text(objective) or "reward",
        value=None if value is None else number(value),
        label=text(label),
        scope="call",
        source=text(source),
        annotation=text(annotation),
        time_ns=time.time_ns(),
        metadata=current_metadata(),
    )
    _hand_over(record, None)
    return record.reward_id


def write_reward(session: Session, value: object) -> float | None:
    """Write the reward of a whole session; return its value, None where it is no number."""
    record = RewardRecord(
        reward_id=new_id(),
        session_id=session.id,
        objective="reward",
        value=number(value),
        scope="session",
        time_ns=time.time_ns(),
    )
    session.emit(record)
    return record.value


_ADVICE = "a reward outside a session needs the session_id, timestep_id or call_id it is for"


def _session_of(scope: Scope) -> str | None:
    return scope.session.id if scope.session is not None else None


def _level(session_id: str | None, timestep_id: str | None, call_id: str | None) -> Literal["event", "session", "call"]:
    if call_id is not None:
        return "call"
    return "session" if session_id is not None and timestep_id is None else "event"


def _hand_over(record: RewardRecord, scope: Scope | None) -> None:
    above = scope
    while above is not None:
        above.tally.add_reward(record.value)
        above = above.above
    if scope is not None:
        scope.emit(record)
        return
    runtime = installed()
    if runtime is not None:
        with fail_open("record a reward"):
            shown = treated(record, runtime)
            runtime.write(shown)
            hooks.fire("after_record", shown)
