"""Rewards and feedback by id, also outside a session and long after its end.

They are written with the ids that are given, and with what this process knows of them; a store joins them with their
target when either arrives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, SupportsFloat, TypeAlias

import msgspec

from callspan.agent.arguments import Time, as_text, moment, reward_value
from callspan.agent.call_ids import target_id, target_of_span
from callspan.agent.context import Carried, carried, current_metadata
from callspan.agent.episode import open_level, open_scopes, span_of_session, span_of_step
from callspan.agent.misuse import UsageError, installed_or_warn, or_unrecorded
from callspan.agent.runtime import CALL_SPANS
from callspan.agent.scope import current_scope
from callspan.fail_open import fail_open
from callspan.process import processors
from callspan.record.call import Place
from callspan.record.events import RewardRecord
from callspan.record.ids import new_id
from callspan.spans.session import SpanRef

Level: TypeAlias = Literal["event", "session", "call"]
_NO_CALL: Final = "feedback is for a call: give what it returned, its id, or the provider's id of its response"
_ADVICE: Final = "a reward outside a session needs the session_id, timestep_id or call_id it is for"
_SAID: Final = {"thumbs_up": 1.0, "thumbs_down": 0.0, "true": 1.0, "false": 0.0}
"""Values of labels that say yes or no, in lower case; other labels have none."""
_NO_METADATA: Final[Mapping[str, object]] = {}


@or_unrecorded
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
    nothing is recorded. `carrier`, from `Session.carrier()`, names the session and, in a process that never saw it, its
    trace. `at` is when it was given; None: now.

    Raises:
        UsageError: It has no target, `value` is no finite number, or `at` no time; only inside
            `callspan.testing.capture()`, see `callspan.Session`.

    Example:
        >>> with callspan.session("gridworld") as session:
        ...     pass
        >>> reward_id = callspan.reward(1.0, session_id=session.id, source="judge")
    """
    sent, call = carried(carrier), target_id(call_id)
    if call is None and call_id is not None:
        raise UsageError(_NO_CALL)
    session, step, event = as_text(session_id) or sent.session_id, as_text(timestep_id), as_text(event_id)
    here, where = None, _span_of_call(call) or span_of_step(step)
    if where is not None:
        place = msgspec.structs.replace(where.place, session_id=session or where.place.session_id)
    elif session or step or call or event:
        place = Place(session_id=session, timestep_id=step)
    elif (here := current_scope()) is not None:
        place = here._place
    else:
        raise UsageError(_ADVICE)
    of_session = session is not None and step is None and event is None
    record = reward_record(
        place,
        Judgement(value, objective, label, source, annotation, at),
        "call" if call is not None else "session" if of_session else "event",
        event_id=event,
        call_id=call,
        metadata=current_metadata(),
    )
    # Counted while its target is open, from any thread, and an event of its span.
    scope = here or next(iter(open_scopes(place.session_id, place.timestep_id)), None)
    if scope is not None:
        scope._count_reward(record)
    if scope is not None and scope._place.timestep_id == place.timestep_id:
        scope._emit(record, level=open_level(place.session_id, place.timestep_id))
    else:
        _emit_late(record, where, sent)
    return record.reward_id


@or_unrecorded
def feedback(  # noqa: PLR0913 - its target and its fields
    call: object = None,
    value: SupportsFloat | None = None,
    *,
    label: str | bool | None = None,
    objective: str = "feedback",
    source: str = "human",
    annotation: str | None = None,
    trace_id: str | int | None = None,
    span_id: str | int | None = None,
    carrier: Mapping[str, str] | None = None,
    at: Time | None = None,
) -> str:
    """Record feedback on a call's response: a number, a label, a comment; return the reward's id.

    The labels `thumbs_up`, `thumbs_down`, True and False have the values 1 and 0 unless a value is given.
    `call` is what the SDK returned (a response, a raw response, a stream), its id or the provider's request id, or a
    call id of callspan; or `trace_id` and `span_id` name the call's span. An id that nothing here knows is kept.
    `carrier` and `at` as for `callspan.reward`.

    Raises:
        UsageError: It is for no call, `value` is no finite number, or `at` no time; only inside
            `callspan.testing.capture()`, see `callspan.Session`.

    Example:
        >>> with callspan.testing.capture() as seen:
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> reward_id = callspan.feedback(seen.records[0].call_id, label="thumbs_up", annotation="polite")
    """
    sent, call_id = carried(carrier), target_id(call)
    if call is None and trace_id is not None and span_id is not None:
        call_id = target_of_span(trace_id, span_id)
    if not call_id:
        raise UsageError(_NO_CALL)
    where = _span_of_call(call_id)
    record = reward_record(
        Place(session_id=sent.session_id) if where is None else where.place,
        Judgement(value, objective, label, source, annotation, at),
        "call",
        call_id=call_id,
        metadata=current_metadata(),
    )
    _emit_late(record, where, sent)
    return record.reward_id


class Judgement(NamedTuple):
    """What a reward says, as the application gives it; None: not given."""

    value: object
    objective: str = "reward"
    label: str | bool | None = None
    source: str | None = None
    annotation: str | None = None
    at: Time | None = None
    """When it was given; None: now."""


def reward_record(
    place: Place,
    given: Judgement,
    scope: Level,
    *,
    event_id: str | None = None,
    call_id: str | None = None,
    metadata: Mapping[str, object] = _NO_METADATA,
) -> RewardRecord:
    """Return a new reward's record. Raises UsageError for an invalid number or time."""
    amount, label, time_ns = reward_value(given.value), as_text(given.label), moment(given.at)
    if amount is None and label is not None:
        amount = _SAID.get(label.lower().replace(" ", "_").replace("-", "_"))
    return RewardRecord(
        reward_id=new_id(),
        session_id=place.session_id,
        timestep_id=place.timestep_id,
        timestep=place.timestep,
        event_id=as_text(event_id),
        call_id=as_text(call_id),
        objective=as_text(given.objective) or "reward",
        value=amount,
        label=label,
        source=as_text(given.source),
        annotation=as_text(given.annotation),
        scope=scope,
        time_ns=time_ns,
        metadata=dict(metadata),
    )


def _emit_late(record: RewardRecord, where: SpanRef | None, sent: Carried) -> None:
    """Record a reward that is not given in the scope of its target, and export it as a child of the target's span."""
    runtime = installed_or_warn()
    if runtime is not None:
        with fail_open("record a reward"):
            where = where or sent.span or span_of_session(record.session_id)
            shown = runtime.process(record, open_level(record.session_id, record.timestep_id))
            processors.write(runtime.spans.evaluated(shown, where), runtime.write)


def _span_of_call(call_id: str | None) -> SpanRef | None:
    return None if call_id is None else CALL_SPANS.get(call_id)
