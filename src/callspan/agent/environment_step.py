"""Environment step: what the environment does with an action, recorded afterwards or timed by its own span."""

from __future__ import annotations

from typing import NamedTuple, SupportsFloat

import msgspec
from opentelemetry.context import Context

from callspan.agent.context import metadata_of
from callspan.agent.event_recorder import EventRecorder
from callspan.agent.lifecycle import is_within
from callspan.agent.runtime import Runtime
from callspan.agent.scope import Scope, scope_of
from callspan.agent.values import SupportsBool, Time, as_bool, moment, reward_value
from callspan.errors import application_error
from callspan.record.events import EventRecord, Record
from callspan.record.ids import new_id


class StepResult(NamedTuple):
    """The result of one step of an environment; None: not given."""

    observation: object = None
    reward: object = None
    terminated: object = None
    truncated: object = None
    before: object = None
    info: object = None
    at: Time | None = None
    """When it happened; None: now."""


def environment_event(target: EventRecorder, result: StepResult, flags: list[str]) -> EventRecord:
    """Return the event of one step of the environment, not counted yet."""
    value = reward_value(result.reward, flags, target.runtime)
    states = {"before": result.before, "after": result.observation, "info": result.info}
    return EventRecord(
        event_id=new_id(),
        session_id=target.place.session_id,
        timestep_id=target.place.timestep_id,
        timestep=target.place.timestep,
        event_type="environment",
        time_ns=moment(result.at, flags, target.runtime),
        sequence=target.sequence(),
        data={key: state for key, state in states.items() if state is not None} or None,
        reward=value,
        terminated=as_bool(result.terminated),
        truncated=as_bool(result.truncated),
        flags=flags,
        metadata=target.around(),
    )


def count_event(target: EventRecorder, record: EventRecord) -> None:
    """Count the reward and the end of an episode that an environment's event tells."""
    target.saw_end(record.terminated, record.truncated)
    target.add_reward(record.reward)


class EnvironmentStep(Scope):
    """One step of an environment that takes time: a span `environment`, and the same row as without it.

    Calls made inside (a simulated user, a judge) are its children.
    """

    is_aside = True

    __slots__ = ("_event", "_flags", "_owner", "_result", "_where")

    def __init__(self, owner: EventRecorder, before: object = None) -> None:
        super().__init__()
        self._owner = owner
        self._result = StepResult(before=before)
        self._where = owner
        self._event: EventRecord | None = None
        self._flags: list[str] = []

    @property
    def above(self) -> Scope | None:
        """The timestep or session it is a part of."""
        return self._where

    def set_result(
        self,
        observation: object = None,
        reward: SupportsFloat | None = None,
        terminated: SupportsBool | None = None,
        truncated: SupportsBool | None = None,
        info: object = None,
    ) -> None:
        """Set the result of the step, see `Timestep.environment`; the last one counts."""
        self._result = StepResult(observation, reward, terminated, truncated, self._result.before, info)

    def flag(self, flag: str) -> None:
        """Flag its row."""
        self._flags.append(flag)

    def _renew(self) -> None:
        super()._renew()
        self._result, self._flags = StepResult(before=self._result.before), []
        self._event = None

    def _open(self, current: Context) -> Context:
        owner, flags = self._owner.target()
        self._where = owner
        self._flags += flags
        self.runtime = owner.runtime
        self.place = owner.place
        return current if is_within(scope_of(current), owner) else owner.inner or current

    def _announce(self, runtime: Runtime, base: Context) -> None:
        place = self.place
        first = EventRecord(
            event_id=new_id(),
            session_id=place.session_id,
            timestep_id=place.timestep_id,
            timestep=place.timestep,
            event_type="environment",
            time_ns=self.start_ns,
            metadata=dict(metadata_of(base)),
        )
        self.begin_span(runtime.without_callbacks(first), base)

    def _close(self, error: BaseException | None) -> Record | None:
        if self._event is None:
            self._event = environment_event(self._where, self._result, self._flags)
            # Counted also where nothing records: totals are kept whatever is installed.
            count_event(self._where, self._event)
        if self.runtime is None:
            return None
        record = msgspec.structs.replace(
            self._event, time_ns=self.start_ns, duration_ns=self.elapsed_ns(), error=application_error(error)
        )
        return self.runtime.process(record, "event")

    def _observe_end(self, final: Record) -> None:
        self._where.observe(final)
