"""Rewards and feedback by id, also outside a session and long after its end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, Literal, NamedTuple, SupportsFloat, TypeAlias

import msgspec

from callspan.agent.arguments import Time, as_text, flagged, installed_or_warn, moment, reward_value
from callspan.agent.call_ids import target_id, target_of_span
from callspan.agent.context import Carried, carried, current_content, current_metadata
from callspan.agent.runtime import SPAN_REFS, Runtime, SpanRef, UnansweredError, found, known_level
from callspan.agent.scope import Scope, current_scope
from callspan.background import LOOK_UPS
from callspan.fail_open import fail_open, ours
from callspan.process import processors
from callspan.record.call import Place
from callspan.record.events import RewardRecord
from callspan.record.ids import new_id
from callspan.settings import strictest

Level: TypeAlias = Literal["event", "session", "call"]
_NO_CALL: Final = "feedback is for a call: give what it returned, its id, or the provider's id of its response"
_ADVICE: Final = "a reward outside a session needs the session_id, timestep_id or call_id it is for"
_NO_METADATA: Final[Mapping[str, object]] = {}


def reward(  # noqa: PLR0913 - its target and its fields
    value: SupportsFloat | None,
    *,
    session_id: str | None = None,
    timestep_id: str | None = None,
    event_id: str | None = None,
    call_id: object = None,
    objective: str = "reward",
    label: str | None = None,
    source: str | None = None,
    annotation: str | None = None,
    carrier: Mapping[str, str] | None = None,
    at: Time | None = None,
) -> str:
    """Give a reward for a session, timestep, event or call, else for the current step; return the reward's id.

    `call_id` is all that `callspan.feedback` takes. Rewards are only ever added. Without an id and outside a session
    it is kept and flagged. A value that is no number is kept as None. `carrier`, from `Session.carrier()`, names the
    session and, in a process that never saw it, its trace. `at` is when it was given; None: now.

    Raises:
        UsageError: With the setting `strict`: it has neither a session nor an id, the call's can be no id, the value
            is not a finite number, or `at` is not a valid time.

    Example:
        >>> with callspan.session("gridworld") as session:
        ...     pass
        >>> reward_id = callspan.reward(1.0, session_id=session.id, source="judge")
    """
    sent = carried(carrier)
    runtime = installed_or_warn()
    call = target_id(call_id)
    ids = _Ids(as_text(session_id) or sent.session_id, as_text(timestep_id), call, as_text(event_id))
    target = _target(ids, current_scope(), found(call=call, timestep=ids.timestep_id))
    flags = [] if target.named or target.here is not None else [flagged("outside_session", _ADVICE, runtime)]
    if call is None and call_id is not None:
        # It is for some call, not for the step around it.
        target = _Target(True, Place(session_id=ids.session_id), "call", None, None)
        flags.append(flagged("no_call", _NO_CALL, runtime))
    record = reward_record(
        target.place,
        Judgement(value, objective, label, source, annotation, at),
        flags,
        runtime,
        target.level,
        event_id=ids.event_id,
        call_id=call,
        metadata=current_metadata(),
    )
    if runtime is not None and _asks(runtime, ids, target):
        _look_up(runtime, record, ids, sent)
    else:
        _hand_over(record, target, sent)
    return record.reward_id


def feedback(  # noqa: PLR0913 - its target and its fields
    call: object = None,
    value: SupportsFloat | None = None,
    *,
    label: str | None = None,
    objective: str = "feedback",
    source: str = "human",
    annotation: str | None = None,
    trace_id: str | int | None = None,
    span_id: str | int | None = None,
    carrier: Mapping[str, str] | None = None,
    at: Time | None = None,
) -> str:
    """Record feedback on a call's response: a number, a label, a comment; return the reward's id.

    `call` is what the SDK returned (a response, a raw response, a stream), its id or the provider's request id, or a
    call id of callspan; or `trace_id` and `span_id` name the call's span. An id that nothing here knows is kept.
    `carrier` and `at` as for `callspan.reward`.

    Raises:
        UsageError: With the setting `strict`: it names no call (nothing, blanks, more than 200 characters), the value
            is not a finite number, or `at` is not a valid time.

    Example:
        >>> with callspan.testing.capture() as seen:
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> reward_id = callspan.feedback(seen.records[0].call_id, label="thumbs_up", annotation="polite")
    """
    sent = carried(carrier)
    runtime = installed_or_warn()
    call_id = target_id(call)
    if call is None and trace_id is not None and span_id is not None:
        call_id = target_of_span(trace_id, span_id)
    flags = [] if call_id else [flagged("feedback_without_call", _NO_CALL, runtime)]
    where = found(call=call_id)
    place = where.place if where is not None else Place(session_id=sent.session_id)
    record = reward_record(
        place,
        Judgement(value, objective, label, source, annotation, at),
        flags,
        runtime,
        "call",
        call_id=call_id,
        metadata=current_metadata(),
    )
    if where is None and call_id and runtime is not None and runtime.find is not None:
        _look_up(runtime, record, _Ids(sent.session_id, None, call_id, None), sent, is_feedback=True)
    else:
        _show_late(record, where, sent)
    return record.reward_id


class Judgement(NamedTuple):
    """What a reward says, as the application gives it; None: not given."""

    value: object
    objective: str = "reward"
    label: str | None = None
    source: str | None = None
    annotation: str | None = None
    at: Time | None = None
    """When it was given; None: now."""


def reward_record(
    place: Place,
    given: Judgement,
    flags: list[str],
    runtime: Runtime | None,
    scope: Level,
    *,
    event_id: str | None = None,
    call_id: str | None = None,
    metadata: Mapping[str, object] = _NO_METADATA,
) -> RewardRecord:
    """Return a new reward's record. Invalid numbers and times add to `flags`."""
    amount, time_ns = reward_value(given.value, flags, runtime), moment(given.at, flags, runtime)
    return RewardRecord(
        reward_id=new_id(),
        session_id=place.session_id,
        timestep_id=place.timestep_id,
        timestep=place.timestep,
        event_id=as_text(event_id),
        call_id=as_text(call_id),
        objective=as_text(given.objective) or "reward",
        value=amount,
        label=as_text(given.label),
        source=as_text(given.source),
        annotation=as_text(given.annotation),
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


class _Ids(NamedTuple):
    """What a reward is given to."""

    session_id: str | None
    timestep_id: str | None
    call_id: str | None
    event_id: str | None


def _target(ids: _Ids, scope: Scope | None, where: SpanRef | None) -> _Target:
    """Return the target of a reward; `scope` is the current one, `where` what is known of the timestep or call."""
    session_id, timestep_id, call_id, event_id = ids
    named = any(one is not None for one in ids)
    if where is not None:
        session_id = session_id or where.place.session_id
    # An unknown step may belong to any session: the current place does not apply.
    is_elsewhere = (timestep_id or event_id) is not None and call_id is None and session_id is None
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
    elif session_id is not None and timestep_id is None and event_id is None:
        level = "session"
    return _Target(named, place, level, here, where)


def _asks(runtime: Runtime, ids: _Ids, target: _Target) -> bool:
    """Return whether a store may know the target, and this process does not."""
    if runtime.find is None or target.where is not None:
        return False
    is_unknown = ids.call_id is not None or ids.timestep_id is not None
    return is_unknown or (ids.session_id is not None and target.here is None and found(session=ids.session_id) is None)


def _look_up(
    runtime: Runtime, record: RewardRecord, ids: _Ids, sent: Carried, *, is_feedback: bool = False
) -> None:  # fmt: skip
    """Write a reward without its content and with the ids that were given; a thread queries a store for more."""
    sent = sent._replace(content_level=strictest(sent.content_level, current_content()))
    with fail_open("record a reward"):
        first = msgspec.structs.replace(record, session_id=ids.session_id, timestep_id=ids.timestep_id, timestep=None)
        processors.write(runtime.withheld.process(first), runtime.write)
    scope = None if is_feedback else current_scope()
    LOOK_UPS.put(partial(_finish, runtime, record, ids, sent, scope, is_feedback=is_feedback))


def _finish(
    runtime: Runtime, record: RewardRecord, ids: _Ids, sent: Carried, scope: Scope | None, *, is_feedback: bool
) -> None:
    """Write what the stores know of a reward's target, and its content; show it."""
    with fail_open("record a reward"):
        try:
            where = found(runtime, call=ids.call_id, timestep=ids.timestep_id)
            session = where or sent.span or found(runtime, session=ids.session_id)
        except ours(UnansweredError):
            runtime.spans.evaluated(runtime.withheld.process(record), sent.span)
            return
        target = _target(ids, scope, where)
        place = target.place
        known_as = None if where is None else where.call_id
        whole = msgspec.structs.replace(
            record, stage="completed", session_id=place.session_id, timestep_id=place.timestep_id,
            timestep=place.timestep, call_id=known_as or record.call_id,
        )  # fmt: skip
        if is_feedback:
            _show_late(whole, session, sent)
        else:
            _hand_over(whole, target, sent, session)


def _hand_over(record: RewardRecord, target: _Target, sent: Carried, session: SpanRef | None = None) -> None:
    """Record a reward in its scope, if that is here, else late; `session` is what a store knows of its session."""
    here, where = target.here, target.where
    if here is not None and (where is None or where.place.timestep_id == here._place.timestep_id):
        here._count_reward(record)
        here._emit(record, level=strictest(sent.content_level, None if where is None else where.level))
        return
    # Counted while the target scope is still in use, from any thread.
    counting = _scope_by_id(timestep=record.timestep_id, session=record.session_id)
    if counting is not None:
        counting._count_reward(record)
    _show_late(record, where or session, sent)


def _show_late(record: RewardRecord, where: SpanRef | None, sent: Carried) -> None:
    """Record a reward whose target span has ended, and export it as a child span."""
    runtime = installed_or_warn()
    if runtime is not None:
        with fail_open("record a reward"):
            where = where or sent.span or found(session=record.session_id)
            known = [
                sent.content_level,
                None if where is None else where.level,
                known_level("session", record.session_id),
            ]
            level = strictest(*known) if any(known) else None
            shown = runtime.process(record, level)
            processors.write(runtime.spans.evaluated(shown, where), runtime.write)


def _scope_by_id(**ids: str | None) -> Scope | None:
    """Return the first of these sessions and timesteps that is still in use in this process; else None."""
    for kind, identity in ids.items():
        where = None if identity is None else SPAN_REFS[kind].get(identity)
        scope = None if where is None or where.scope is None else where.scope()
        if isinstance(scope, Scope):
            return scope
    return None
