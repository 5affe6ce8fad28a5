"""Event recorder: records events, messages, rewards, environment steps and operations of a session or timestep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, SupportsFloat

import msgspec
from opentelemetry.context import Context

from callspan.agent.arguments import SupportsBool, Time, as_dict, as_int, as_text, moment
from callspan.agent.context import current_context, metadata_of
from callspan.agent.kinds import SESSION, totals_of
from callspan.agent.misuse import UsageError, ignore_misuse
from callspan.agent.operations import EnvironmentStep, EventArguments, Operations, environment_fields
from callspan.agent.references import record_id, record_ids, reference_or_none
from callspan.agent.rewards import RewardArguments, reward_record
from callspan.agent.tree import Node, current_timestep
from callspan.errors import application_error
from callspan.record.call import Redaction
from callspan.record.events import EventRecord, MessageRecord
from callspan.record.events import Scope as TargetKind
from callspan.record.ids import new_id
from callspan.runtime.fail_open import fail_open

_UPDATING: Final = fail_open("record an update of a session or timestep")


class EventRecorder(Node, Operations):
    """The methods that sessions and timesteps share.

    Each event is a record and a span event, written immediately; an operation also has its own span.
    """

    def __init__(self, owner: Node | None = None) -> None:
        super().__init__(owner)
        self.status: str | None = None

    def _update(self, status: str | None, metadata: Mapping[str, object] | None) -> None:
        """Set status and metadata, and write the record, with totals if it has ended."""
        self.status = self.status if status is None else as_text(status)
        self.info.update(as_dict(metadata))
        if self.runtime is not None:
            with _UPDATING:
                totals = totals_of(self) if self.state == "ended" else None
                record = msgspec.structs.replace(self.kind.record(self), totals=totals)
                self.write(self.runtime, self.runtime.process(record, self.level))

    @ignore_misuse
    def message(  # noqa: PLR0913 - the fields of a message
        self,
        content: object,
        kind: str = "observation",
        sender: str = "env",
        receiver: str = "agent",
        call: object = None,
        causal_influence: Iterable[object] = (),
        metadata: Mapping[str, object] | None = None,
        *,
        sequence: int | None = None,
        at: Time | None = None,
    ) -> str:
        """Record information passed from one system to another; return the message's id.

        `content` is text or any JSON value; `call` is the related call: the SDK's response, its tool call, a record or
        an id; `causal_influence` are records that led to it, or their ids; None values of `metadata` are omitted;
        `sequence` is your own number of the message; `at` is its time, now by default.
        """
        target, message_type, call_reference = self._target(), as_text(kind), reference_or_none(call)
        if not message_type:
            raise UsageError("a message needs a kind, such as 'observation'")
        causes, has_more = record_ids(causal_influence)
        record = MessageRecord(
            message_id=new_id(),
            session_id=target.place.session_id,
            timestep_id=target.place.timestep_id,
            timestep=target.place.timestep,
            call_id=call_reference.call_id or call_reference.tool_call_id,
            message_type=message_type,
            sender=as_text(sender),
            receiver=as_text(receiver),
            time_ns=moment(at),
            sequence=target.next_sequence(),
            external_sequence=as_int(sequence),
            content=content,
            causal_influence=causes,
            redactions=[Redaction(what="causal_influence", why="size")] if has_more else [],
            metadata={**target.current_metadata(), **as_dict(metadata)},
        )
        target.emit(record, "message")
        return record.message_id

    def observation(
        self,
        observation: object,
        *,
        metadata: Mapping[str, object] | None = None,
        sequence: int | None = None,
        at: Time | None = None,
    ) -> str:
        """Record an observation of the agent; return the message's id. For the arguments see `message`."""
        return self.message(observation, metadata=metadata, sequence=sequence, at=at)

    def action(
        self,
        action: object,
        *,
        system: str | None = None,
        call: object = None,
        metadata: Mapping[str, object] | None = None,
        sequence: int | None = None,
        at: Time | None = None,
    ) -> str:
        """Record an action of the agent, any JSON value; return the event's id. For other arguments see `event`."""
        return self.event("action", action, system=system, call=call, metadata=metadata, sequence=sequence, at=at)

    @ignore_misuse
    def event(  # noqa: PLR0913 - the fields of an event
        self,
        type: str,  # noqa: A002 - the word of the public interface
        data: object = None,
        name: str | None = None,
        *,
        system: str | None = None,
        call: object = None,
        error: BaseException | str | None = None,
        metadata: Mapping[str, object] | None = None,
        sequence: int | None = None,
        at: Time | None = None,
    ) -> str:
        """Record an event inside one component (`system`); return the event's id.

        `type` is your own (callspan itself uses `action`, `environment` and `tool`); `call` is the related call, as for
        `message`; `sequence` is your own number of the event, in addition to callspan's; `at` is its time, now by
        default.
        """
        target, event_type = self._target(), as_text(type)
        if not event_type:
            raise UsageError("an event needs a type, such as 'reset'")
        event_arguments = EventArguments(metadata, system, sequence)
        call_reference, failed = reference_or_none(call), application_error(error)
        fields = {"call_id": call_reference.call_id, "tool_call_id": call_reference.tool_call_id, "name": as_text(name)}
        record = target.labelled_event(event_type, moment(at), event_arguments, data=data, error=failed, **fields)
        target.emit(record, "event")
        return record.event_id

    def reward(
        self,
        value: SupportsFloat | None,
        objective: str = "reward",
        source: str | None = None,
        annotation: str | None = None,
        *,
        label: str | None = None,
        event: object = None,
        at: Time | None = None,
    ) -> str:
        """Give a reward for one objective; return its id. Rewards are append-only.

        `event` is the rewarded event, or its id, `at` the time, now by default. In a timestep the reward counts in the
        totals of timestep and session; in a session outside a timestep it is the reward of the whole session, as in
        `outcome`. Objectives other than `reward` have separate scores.
        """
        arguments = RewardArguments(value, objective, label, source, annotation, at)
        return self._innermost().give_reward(arguments, event)

    @ignore_misuse
    def give_reward(self, arguments: RewardArguments, event: object = None) -> str:
        """Record a reward for this timestep or session, or an event in it; return its id."""
        self.check_open(late=True)
        scope: TargetKind = "session" if event is None and self.place.timestep_id is None else "event"
        record = reward_record(
            self.place, arguments, scope, event_id=record_id(event), metadata=self.current_metadata()
        )
        self.emit(record)
        return record.reward_id

    @ignore_misuse
    def environment(  # noqa: PLR0913 - the fields of an environment step
        self,
        observation: object = None,
        reward: SupportsFloat | None = None,
        terminated: SupportsBool | None = None,
        truncated: SupportsBool | None = None,
        info: object = None,
        before: object = None,
        *,
        system: str | None = None,
        metadata: Mapping[str, object] | None = None,
        sequence: int | None = None,
        at: Time | None = None,
    ) -> str:
        """Record one step of the environment, as Gymnasium's `step` returns it; return the event's id.

        `observation` is the state after the step, `before` the state before it, `info` any further data. The reward
        counts in the totals of timestep and session. NumPy values are accepted. `system` is the component that acts,
        `sequence` your own number of the step, `at` its time, now by default.
        """
        target = self._target()
        fields = environment_fields(
            before=before, observation=observation, reward=reward, terminated=terminated, truncated=truncated, info=info
        )
        record = target.labelled_event("environment", moment(at), EventArguments(metadata, system, sequence), **fields)
        if target.step is not None:
            target.step.note_episode_end(fields)
        target.emit(record, "event")
        return record.event_id

    def environment_step(
        self,
        before: object = None,
        *,
        system: str | None = None,
        metadata: Mapping[str, object] | None = None,
        sequence: int | None = None,
    ) -> EnvironmentStep:
        """Return an environment step with a duration and its own span, to be used with `with`.

        `before` is the state before the step; for other arguments see `environment`. Set the result with
        `set_result(observation, reward, terminated, truncated)`.
        """
        return EnvironmentStep(None, before, self, EventArguments(metadata, system, sequence))

    def labelled_event(
        self, event_type: str, time_ns: int, event_arguments: EventArguments, **fields: Any
    ) -> EventRecord:
        """Return an event with the metadata of the running code and these arguments."""
        return self.event_record(
            event_type,
            time_ns,
            sequence=self.next_sequence(),
            external_sequence=as_int(event_arguments.sequence),
            system=as_text(event_arguments.system),
            metadata={**self.current_metadata(), **as_dict(event_arguments.metadata)},
            **fields,
        )

    def current_metadata(self) -> dict[str, object]:
        """Return the metadata of the running code, else of this scope's start."""
        return dict(metadata_of(current_context()) or metadata_of(self.base or Context()))

    def _target(self) -> EventRecorder:
        """Return the scope for a new record. Raises UsageError."""
        self.check_open()
        return self._innermost()

    def _innermost(self) -> EventRecorder:
        """Return this scope; for a session its current timestep, if any."""
        step = current_timestep() if self.kind is SESSION else None
        return self if step is None or step.session is not self or step.state == "ended" else step
