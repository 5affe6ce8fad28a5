"""Environment step: the environment's reaction to an action, recorded afterwards or timed by its own span."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, SupportsFloat

import msgspec
from opentelemetry.context import Context

from callspan.agent.arguments import SupportsBool, Time, as_bool, as_dict, as_int, as_text, moment, reward_value
from callspan.agent.context import metadata_of
from callspan.agent.misuse import UsageError, refuse
from callspan.agent.runtime import Runtime
from callspan.agent.scope import Scope, is_within, scope_of
from callspan.errors import application_error
from callspan.process.processed import Processed
from callspan.record.events import EventRecord, Record

if TYPE_CHECKING:
    from callspan.agent.event_recorder import EventRecorder


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
    system: object = None
    """Which component acts."""
    metadata: Mapping[str, object] | None = None
    sequence: object = None
    """The application's own number of it."""


def environment_event(target: EventRecorder, result: StepResult) -> EventRecord:
    """Return the event of one environment step, without adding it to the totals. Raises UsageError."""
    value = reward_value(result.reward)
    states = {"before": result.before, "after": result.observation, "info": result.info}
    return target._event_record(
        "environment",
        moment(result.at),
        sequence=target._sequence(),
        external_sequence=as_int(result.sequence),
        system=as_text(result.system),
        data={key: state for key, state in states.items() if state is not None} or None,
        reward=value,
        terminated=as_bool(result.terminated),
        truncated=as_bool(result.truncated),
        metadata={**target._around(), **as_dict(result.metadata)},
    )


def count_event(target: EventRecorder, record: EventRecord) -> None:
    """Add the reward and the end of the episode in an environment's event to the totals."""
    target._saw_end(record.terminated, record.truncated)
    target._count_reward(record)


class EnvironmentStep(Scope):
    """An environment step with a duration: a span `environment`, and the same row as `environment(...)` writes.

    Calls made inside (a simulated user, a judge) are its children.
    """

    _is_aside = True

    __slots__ = ("_event", "_owner", "_result", "_where")

    def __init__(self, owner: EventRecorder, given: StepResult) -> None:
        super().__init__()
        self._owner = owner
        self._result = given
        self._above = self._where = owner
        self._event: EventRecord | None = None

    def set_result(
        self,
        observation: object = None,
        reward: SupportsFloat | None = None,
        terminated: SupportsBool | None = None,
        truncated: SupportsBool | None = None,
        info: object = None,
    ) -> None:
        """Set the result of the step, see `Timestep.environment`; the last one counts. Misuse sets nothing."""
        try:
            reward_value(reward)
        except UsageError as error:
            refuse(error)
            return
        self._result = self._result._replace(
            observation=observation, reward=reward, terminated=terminated, truncated=truncated, info=info
        )

    def _admit(self, at: Time | None) -> int:
        if not self._started:
            self._owner._check_open()
        return super()._admit(at)

    def _open(self, current: Context) -> Context:
        owner = self._owner._innermost()
        self._above = self._where = owner
        self._runtime = owner._runtime
        self._place = owner._place
        return current if is_within(scope_of(current), owner) else owner._inner or current

    def _announce(self, runtime: Runtime, base: Context) -> None:
        first = self._event_record("environment", self._start_ns, metadata=dict(metadata_of(base)))
        self._begin_span(runtime.without_callbacks(first, self._level), base)

    def _close(self, error: BaseException | None) -> Processed[Record] | None:
        if self._event is None:
            self._event = environment_event(self._where, self._result)
            # Counted even if nothing records: totals do not depend on instrumentation.
            count_event(self._where, self._event)
        if self._runtime is None:
            return None
        record = msgspec.structs.replace(
            self._event,
            time_ns=self._start_ns,
            duration_ns=self._elapsed_ns(),
            error=application_error(error),
            **self._span_ids(),
        )
        return self._runtime.process(record, self._level, "event")

    def _observe_end(self, final: Processed[Record]) -> None:
        self._where._observe(final)
