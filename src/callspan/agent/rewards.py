"""Rewards and feedback by id, also outside a session and long after its end.

Their records have the given ids, and the other ids of the target that this process knows. Stores join a reward with
its target in any order of arrival.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, SupportsFloat

import msgspec

from callspan.agent.arguments import Time, as_text, moment, reward_value
from callspan.agent.call_ids import target_of_span
from callspan.agent.context import current_context, metadata_of, read_carrier
from callspan.agent.misuse import UnknownCallError, UsageError, current_runtime_or_warn, none_on_misuse
from callspan.agent.references import record_id, reference
from callspan.agent.registry import REGISTRY, open_level, open_scopes, span_of_session, span_of_step
from callspan.agent.tree import Node, current_scope
from callspan.record.call import Place
from callspan.record.events import RewardRecord
from callspan.record.events import Scope as TargetKind
from callspan.record.ids import new_id
from callspan.runtime.fail_open import fail_open
from callspan.spans.session import SpanRef

_NO_CALL: Final = "feedback needs a call: pass its result, its id, or the provider's id of its response"
_NO_TARGET: Final = "a reward outside a session needs a target: session_id, timestep_id, event_id or call_id"
_LABEL_VALUES: Final = {"thumbs_up": 1.0, "thumbs_down": 0.0, "true": 1.0, "false": 0.0}
"""The values of yes/no labels, in lower case."""


@none_on_misuse
def reward(  # noqa: PLR0913 - its target and its fields
    value: SupportsFloat | None,
    *,
    session_id: object = None,
    timestep_id: object = None,
    event_id: object = None,
    call_id: object = None,
    objective: str = "reward",
    label: str | bool | None = None,
    source: str | None = None,
    annotation: str | None = None,
    carrier: Mapping[str, str] | None = None,
    at: Time | None = None,
) -> str:
    """Give a reward to a session, timestep, event or call, by default to the current timestep; return the reward's id.

    None if nothing was recorded. `call_id` may be anything that `callspan.feedback` accepts as a call, the other ids
    also the session, timestep or record itself. Rewards are append-only. `carrier`, from `Session.carrier()`, names the
    session, and its trace for processes that do not know it. `at` is the time, now by default.

    Raises:
        UsageError: There is no target, `value` is not a finite number, or `at` is not a valid time; only inside
            `callspan.testing.capture()`, see `callspan.Session`.

    Example:
        >>> with callspan.session("gridworld") as session:
        ...     pass
        >>> reward_id = callspan.reward(1.0, session_id=session.id, source="judge")
    """
    remote, call = read_carrier(carrier), _call_id(call_id)
    session, step = record_id(session_id) or remote.place.session_id, record_id(timestep_id)
    event = record_id(event_id)
    span = REGISTRY.call_spans.get(call or "") or span_of_step(step)
    has_target = any((session, step, event, call))
    current = None if has_target else current_scope()
    if not has_target and current is None:
        raise UsageError(_NO_TARGET)
    place = _place(session, step, span, current)
    kind: TargetKind = "event"
    if call is not None:
        kind = "call"
    elif session is not None and step is None and event is None:
        kind = "session"
    arguments = RewardArguments(value, objective, label, source, annotation, at)
    record = reward_record(place, arguments, kind, event_id=event, call_id=call)
    # While its target is open, the reward counts in its totals and is an event of its span.
    scope = current or next(iter(open_scopes(place.session_id, place.timestep_id)), None)
    if scope is not None and scope.place.timestep_id == place.timestep_id:
        scope.emit(record, level=open_level(place.session_id, place.timestep_id))
    else:
        _emit_late(record, span, remote, scope)
    return record.reward_id


def _place(session_id: str | None, timestep_id: str | None, span: SpanRef | None, current: Node | None) -> Place:
    """Return the place of a target: from the current scope or its known span, else from the given ids."""
    if current is not None:
        return current.place
    if span is not None:
        return msgspec.structs.replace(span.place, session_id=session_id or span.place.session_id)
    return Place(session_id=session_id, timestep_id=timestep_id)


def _call_id(of: object) -> str | None:
    """Return the id of the call that `of` names; None for None. Raises UsageError."""
    try:
        call_reference = reference(of)
    except UnknownCallError as error:
        raise UnknownCallError(f"feedback needs a call: {error}") from None
    if of is not None and call_reference.call_id is None:
        raise UnknownCallError(f"{_NO_CALL}; the call that requested this tool call is unknown")
    return call_reference.call_id


@none_on_misuse
def feedback(  # noqa: PLR0913 - its target and its fields
    call: object = None,
    value: SupportsFloat | None = None,
    *,
    label: str | bool | None = None,
    objective: str = "feedback",
    source: str = "human",
    annotation: str | None = None,
    session_id: object = None,
    trace_id: str | int | None = None,
    span_id: str | int | None = None,
    carrier: Mapping[str, str] | None = None,
    at: Time | None = None,
) -> str | None:
    """Record feedback on a call's response, or on a session: a number, a label, a comment; return the reward's id.

    None if nothing was recorded: `call` names no call, which is logged each time. True and False are stored as the
    labels `true` and `false`. `thumbs_up` and `true` have the value 1, `thumbs_down` and `false` the value 0, unless a
    value is given.
    `call` is the SDK's result (a response, raw response, stream or body), its tool call, a record, the provider's id of
    the response or request, or a call id of callspan; alternatively, `trace_id` and `span_id` name the call's span.
    `session_id` is as for `callspan.reward`, and rates the session as a whole, as the page does.
    Unknown ids are accepted. Objects of LiteLLM and ollama name no call: pass `callspan.last_call_id()`.
    `carrier` and `at` are as for `callspan.reward`.

    Raises:
        UsageError: There is no call, `value` is not a finite number, or `at` is not a valid time; only inside
            `callspan.testing.capture()`, see `callspan.Session`.

    Example:
        >>> with callspan.testing.capture() as seen:
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> reward_id = callspan.feedback(seen.records[0].call_id, label="thumbs_up", annotation="polite")
    """
    arguments = RewardArguments(value, objective, label, source, annotation, at)
    if call is None and session_id is not None:
        return reward(session_id=session_id, carrier=carrier, **arguments._asdict())
    remote, call_id = read_carrier(carrier), _call_id(call)
    if call is None and trace_id is not None and span_id is not None:
        call_id = target_of_span(trace_id, span_id)
    if not call_id:
        raise UnknownCallError(_NO_CALL)
    span = REGISTRY.call_spans.get(call_id)
    record = reward_record((span or remote).place, arguments, "call", call_id=call_id)
    _emit_late(record, span, remote)
    return record.reward_id


class RewardArguments(NamedTuple):
    """The arguments for a reward, without its target."""

    value: object
    objective: str = "reward"
    label: str | bool | None = None
    source: str | None = None
    annotation: str | None = None
    at: Time | None = None


def reward_record(
    place: Place,
    arguments: RewardArguments,
    scope: TargetKind,
    *,
    event_id: str | None = None,
    call_id: str | None = None,
    metadata: Mapping[str, object] | None = None,
) -> RewardRecord:
    """Return the record of a new reward, by default with the metadata of the running code.

    Raises UsageError for an invalid number or time.
    """
    amount, label, time_ns = reward_value(arguments.value), _label(arguments.label), moment(arguments.at)
    if amount is None and label is not None:
        amount = _LABEL_VALUES.get(label.lower().replace(" ", "_").replace("-", "_"))
    return RewardRecord(
        reward_id=new_id(),
        session_id=place.session_id,
        timestep_id=place.timestep_id,
        timestep=place.timestep,
        event_id=event_id,
        call_id=call_id,
        objective=as_text(arguments.objective) or "reward",
        value=amount,
        label=label,
        source=as_text(arguments.source),
        annotation=as_text(arguments.annotation),
        scope=scope,
        time_ns=time_ns,
        metadata=dict(metadata_of(current_context()) if metadata is None else metadata),
    )


def _label(value: object) -> str | None:
    """Return a label as text, a truth value by its word in JSON, as in metadata."""
    return as_text(str(value).lower() if isinstance(value, bool) else value)


def _emit_late(record: RewardRecord, target: SpanRef | None, remote: SpanRef, scope: Node | None = None) -> None:
    """Record a reward outside the scope of its target, and export it as a child of the target's span.

    `target` is the target's span, if this process knows it. Otherwise the parent is the span in `remote`, from a
    carrier, or else the session's span. The reward counts in the totals of `scope`.
    """
    runtime = current_runtime_or_warn()
    if runtime is not None:
        with fail_open("record a reward"):
            target = target or (remote if remote.trace_id is not None else span_of_session(record.session_id))
            processed = runtime.process(record, open_level(record.session_id, record.timestep_id))
            runtime.write(runtime.spans.export_reward(processed, target))
            if scope is not None:
                scope.count_reward(processed.record)
