"""Rewards and feedback by id, also outside a session and long after its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, SupportsFloat, TypeAlias

import msgspec

from callspan.agent.arguments import Time, as_text, flagged, installed_or_warn, moment, reward_value
from callspan.agent.context import Carried, carried, current_metadata
from callspan.agent.runtime import SPAN_REFS, Runtime, SpanRef, found, known_level
from callspan.agent.scope import Scope, current_scope
from callspan.fail_open import fail_open
from callspan.process import processors
from callspan.record.call import Place
from callspan.record.events import RewardRecord
from callspan.record.ids import new_id
from callspan.settings import strictest

Level: TypeAlias = Literal["event", "session", "call"]
_ADVICE: Final = "a reward outside a session needs the session_id, timestep_id or call_id it is for"
_NO_METADATA: Final[Mapping[str, object]] = {}


def reward(  # noqa: PLR0913 - its target and its fields
    value: SupportsFloat | None,
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

    Raises:
        MisuseError: With the setting `strict`: it has neither a session nor an id, the value is not a finite number,
            or `at` is not a valid time.

    Example:
        >>> with callspan.session("gridworld") as session:
        ...     pass
        >>> reward_id = callspan.reward(1.0, session_id=session.id, source="judge")
    """
    sent = carried(carrier)
    runtime = installed_or_warn()
    target = _target(runtime, as_text(session_id) or sent.session_id, as_text(timestep_id), as_text(call_id))
    flags = [] if target.named or target.here is not None else [flagged("outside_session", _ADVICE, runtime)]
    record = reward_record(
        target.place,
        value,
        flags,
        runtime,
        scope=target.level,
        call_id=call_id,
        objective=objective,
        label=label,
        source=source,
        annotation=annotation,
        metadata=current_metadata(),
        at=at,
    )
    _hand_over(record, target, sent)
    return record.reward_id


def feedback(
    call_id: str,
    value: SupportsFloat | None = None,
    *,
    label: str | None = None,
    objective: str = "feedback",
    source: str = "human",
    annotation: str | None = None,
    carrier: Mapping[str, str] | None = None,
    at: Time | None = None,
) -> str:
    """Record feedback on a call's response: a number, a label, a comment; return the reward's id.

    `carrier` and `at` as for `callspan.reward`.

    Raises:
        MisuseError: With the setting `strict`: `call_id` is empty, the value is not a finite number, or `at` is not a
            valid time.

    Example:
        >>> with callspan.testing.capture() as seen:
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> reward_id = callspan.feedback(seen.records[0].call_id, label="thumbs_up", annotation="polite")
    """
    sent = carried(carrier)
    runtime = installed_or_warn()
    call_id = as_text(call_id) or ""
    flags = [] if call_id else [flagged("feedback_without_call", "feedback is for a call; give its id", runtime)]
    where = found(runtime, call=call_id)
    place = where.place if where is not None else Place(session_id=sent.session_id)
    record = reward_record(
        place,
        value,
        flags,
        runtime,
        scope="call",
        call_id=call_id,
        objective=objective,
        label=label,
        source=source,
        annotation=annotation,
        metadata=current_metadata(),
        at=at,
    )
    _show_late(record, where, sent)
    return record.reward_id


def reward_record(  # noqa: PLR0913 - the fields of a reward
    place: Place,
    value: object,
    flags: list[str],
    runtime: Runtime | None,
    *,
    scope: Level,
    event_id: str | None = None,
    call_id: str | None = None,
    objective: str = "reward",
    label: str | None = None,
    source: str | None = None,
    annotation: str | None = None,
    metadata: Mapping[str, object] = _NO_METADATA,
    at: Time | None = None,
) -> RewardRecord:
    """Return a new reward's record. Invalid numbers and times add to `flags`."""
    amount, time_ns = reward_value(value, flags, runtime), moment(at, flags, runtime)
    return RewardRecord(
        reward_id=new_id(),
        session_id=place.session_id,
        timestep_id=place.timestep_id,
        timestep=place.timestep,
        event_id=as_text(event_id),
        call_id=as_text(call_id),
        objective=as_text(objective) or "reward",
        value=amount,
        label=as_text(label),
        source=as_text(source),
        annotation=as_text(annotation),
        scope=scope,
        time_ns=time_ns,
        metadata={**metadata, "callspan.flags": flags} if flags else dict(metadata),
    )


class _Target(NamedTuple):
    """The target of a reward."""

    named: bool
    place: Place
    level: Level
    here: Scope | None
    """The current scope, if the reward is for its session."""
    where: SpanRef | None
    """The span of the given timestep or call, if known."""


def _target(runtime: Runtime | None, session_id: str | None, timestep_id: str | None, call_id: str | None) -> _Target:
    named = not (session_id is None and timestep_id is None and call_id is None)
    where = found(runtime, call=call_id, timestep=timestep_id)
    scope = current_scope()
    if where is not None:
        session_id = session_id or where.place.session_id
    # An unknown step may belong to any session: the current place does not apply.
    is_elsewhere = timestep_id is not None and call_id is None and session_id is None
    here = scope if scope is not None and not is_elsewhere and session_id in {None, scope._place.session_id} else None
    if where is not None:
        place = msgspec.structs.replace(where.place, session_id=session_id)
    elif here is not None and session_id is None and timestep_id is None:
        place = here._place
    else:
        place = Place(session_id=session_id or (here._place.session_id if here else None), timestep_id=timestep_id)
    level: Level = "event"
    if call_id is not None:
        level = "call"
    elif session_id is not None and timestep_id is None:
        level = "session"
    return _Target(named, place, level, here, where)


def _hand_over(record: RewardRecord, target: _Target, sent: Carried) -> None:
    here, where = target.here, target.where
    if here is not None and (where is None or where.place.timestep_id == here._place.timestep_id):
        here._count_reward(record)
        here._emit(record, level=strictest(sent.content_level, None if where is None else where.level))
        return
    # Counted while the target scope is still in use, from any thread.
    counting = _scope_by_id(timestep=record.timestep_id, session=record.session_id)
    if counting is not None:
        counting._count_reward(record)
    _show_late(record, where, sent)


def _show_late(record: RewardRecord, where: SpanRef | None, sent: Carried) -> None:
    """Record a reward whose target span has ended, and export it as a child span."""
    runtime = installed_or_warn()
    if runtime is not None:
        with fail_open("record a reward"):
            where = where or sent.span or found(runtime, session=record.session_id)
            known = [
                sent.content_level,
                None if where is None else where.level,
                known_level("session", record.session_id),
            ]
            level = strictest(*known) if any(known) else None
            shown = runtime.process(record, level)
            runtime.spans.evaluated(shown, where)
            processors.write(shown, runtime.write)


def _scope_by_id(**ids: str | None) -> Scope | None:
    """Return the first of these sessions and timesteps that is still in use in this process; else None."""
    for kind, identity in ids.items():
        where = None if identity is None else SPAN_REFS[kind].get(identity)
        scope = None if where is None or where.scope is None else where.scope()
        if isinstance(scope, Scope):
            return scope
    return None
