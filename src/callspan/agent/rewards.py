"""Rewards and feedback by id: also from outside a session, and long after it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from callspan.agent import callbacks
from callspan.agent.carriers import carried
from callspan.agent.context import current_metadata, current_scope
from callspan.agent.misuse import installed_or_warn, misuse, reward_value
from callspan.agent.runtime import Runtime, Whereabouts
from callspan.agent.scope import treated
from callspan.agent.times import Time, moment
from callspan.agent.values import text
from callspan.agent.whereabouts import found
from callspan.fail_open import fail_open
from callspan.record.call import Place
from callspan.record.events import RewardRecord
from callspan.record.ids import new_id

if TYPE_CHECKING:
    from callspan.agent.scope import Scope
    from callspan.agent.sessions import Session


def reward(  # noqa: PLR0913 - whom it is for, and what is said
    value: object,
    *,
    session_id: str | None = None,
    timestep_id: str | None = None,
    call_id: str | None = None,
    objective: str = "reward",
    label: str | None = None,
    source: str | None = None,
    annotation: str | None = None,
    carrier: Mapping[str, str] | None = None,
    at: Time | None = None,
) -> str:
    """Give a reward for a session, timestep or call by its id, else for the current step; return the reward's id.

    Rewards are only ever added. Without an id and outside a session it is kept and flagged. A value that is
    no number is kept as None. `carrier`, from `Session.carrier()`, names the session and, in a process that
    never saw it, its trace. `at` is when it was given; None: now.
    """
    sent = carried(carrier)
    runtime = installed_or_warn()
    target = _target(runtime, text(session_id) or sent.session_id, text(timestep_id), text(call_id))
    flags = [] if target.named or target.here is not None else [misuse("outside_session", _ADVICE, runtime)]
    amount = reward_value(value, flags, runtime)
    record = RewardRecord(
        reward_id=new_id(),
        session_id=target.place.session_id,
        timestep_id=target.place.timestep_id,
        timestep=target.place.timestep,
        call_id=text(call_id),
        objective=text(objective) or "reward",
        value=amount,
        label=text(label),
        scope=target.level,
        source=text(source),
        annotation=text(annotation),
        time_ns=moment(at, flags, runtime),
        metadata={**current_metadata(), "callspan.flags": flags} if flags else current_metadata(),
    )
    _hand_over(record, target, sent.span)
    return record.reward_id


def feedback(
    call_id: str,
    value: object = None,
    *,
    label: str | None = None,
    objective: str = "feedback",
    source: str = "human",
    annotation: str | None = None,
    carrier: Mapping[str, str] | None = None,
    at: Time | None = None,
) -> str:
    """Keep what somebody thought of a call's answer: a number, a label, words; return the reward's id.

    `carrier` and `at` as for `callspan.reward`.
    """
    sent = carried(carrier)
    runtime = installed_or_warn()
    flags = [] if call_id else [misuse("feedback_without_call", "feedback is for a call; give its id", runtime)]
    where = found(runtime, call=text(call_id))
    place = where.place if where is not None else Place(session_id=sent.session_id)
    amount = reward_value(value, flags, runtime)
    record = RewardRecord(
        reward_id=new_id(),
        session_id=place.session_id,
        timestep_id=place.timestep_id,
        timestep=place.timestep,
        call_id=text(call_id),
        objective=text(objective) or "reward",
        value=amount,
        label=text(label),
        scope="call",
        source=text(source),
        annotation=text(annotation),
        time_ns=moment(at, flags, runtime),
        metadata={**current_metadata(), "callspan.flags": flags} if flags else current_metadata(),
    )
    _show_late(record, where or sent.span)
    return record.reward_id


def write_reward(session: Session, value: object, at: Time | None = None) -> float | None:
    """Write the reward of a whole session; return its value, None where it is no number."""
    flags: list[str] = []
    record = RewardRecord(
        reward_id=new_id(),
        session_id=session.id,
        objective="reward",
        value=reward_value(value, flags, session.runtime),
        scope="session",
        time_ns=moment(at, flags, session.runtime),
        metadata={"callspan.flags": flags} if flags else {},
    )
    session.emit(record)
    return record.value


_ADVICE = "a reward outside a session needs the session_id, timestep_id or call_id it is for"


class _Target(NamedTuple):
    """Whom a reward is for."""

    named: bool
    place: Place
    level: Literal["event", "session", "call"]
    here: Scope | None
    """The running code's scope, where the reward is for something of its session."""
    where: Whereabouts | None
    """The span of the timestep or call that was named, where it is known."""


def _target(runtime: Runtime | None, session_id: str | None, timestep_id: str | None, call_id: str | None) -> _Target:
    named = not (session_id is None and timestep_id is None and call_id is None)
    where = found(runtime, call=call_id, timestep=timestep_id)
    scope = current_scope()
    if where is not None:
        session_id = session_id or where.place.session_id
    # A step named by an unknown id may be anybody's: nothing of the current place may be told of it.
    anybodys = timestep_id is not None and call_id is None and session_id is None
    here = scope if scope is not None and not anybodys and session_id in {None, _session_of(scope)} else None
    if where is not None:
        place = msgspec.structs.replace(where.place, session_id=session_id)
    elif here is not None and session_id is None and timestep_id is None:
        place = here.place
    else:
        place = Place(session_id=session_id or (here.place.session_id if here else None), timestep_id=timestep_id)
    level: Literal["event", "session", "call"] = "event"
    if call_id is not None:
        level = "call"
    elif session_id is not None and timestep_id is None:
        level = "session"
    return _Target(named, place, level, here, where)


def _session_of(scope: Scope) -> str | None:
    return scope.session.id if scope.session is not None else None


def _hand_over(record: RewardRecord, target: _Target, sent: Whereabouts | None) -> None:
    here, where = target.here, target.where
    if here is not None and (where is None or where.place.timestep_id == here.place.timestep_id):
        above: Scope | None = here
        while above is not None:
            above.tally.add_reward(record.value)
            above = above.above
        here.emit(record)
        return
    if here is not None and here.session is not None:
        here.session.tally.add_reward(record.value)
    _show_late(record, where or sent)


def _show_late(record: RewardRecord, where: Whereabouts | None) -> None:
    """Show a reward that no open span takes below the span it is for, and keep it."""
    runtime = installed_or_warn()
    if runtime is not None:
        with fail_open("record a reward"):
            shown = treated(record, runtime)
            runtime.spans.evaluated(shown, where or found(runtime, session=record.session_id))
            callbacks.write_and_tell(shown, runtime.write)
