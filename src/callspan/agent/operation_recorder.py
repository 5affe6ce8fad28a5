"""Operation recorder: environment steps, tools, agents, guardrails and handoffs of a session or timestep."""

from __future__ import annotations

from typing import SupportsFloat

from callspan.agent.environment_step import EnvironmentStep, StepResult, count_event, environment_event
from callspan.agent.event_recorder import EventRecorder
from callspan.agent.operations import Agent, Guardrail, Handoff, Tool
from callspan.agent.values import SupportsBool, Time


class OperationRecorder(EventRecorder):
    """A scope with events and operations: what sessions and timesteps offer alike."""

    __slots__ = ()

    def environment(
        self,
        observation: object = None,
        reward: SupportsFloat | None = None,
        terminated: SupportsBool | None = None,
        truncated: SupportsBool | None = None,
        before: object = None,
        info: object = None,
        *,
        at: Time | None = None,
    ) -> str:
        """Record one step of the environment; return the event's id.

        `observation` is the state after it, `before` the state before, `info` what else there is to say; None: not
        given. The reward counts in the totals of step and session. NumPy values are welcome. `at` is when
        it happened; None: now.
        """
        target, flags = self.target()
        record = environment_event(
            target, StepResult(observation, reward, terminated, truncated, before, info, at), flags
        )
        count_event(target, record)
        target.emit(record, "event")
        return record.event_id

    def environment_step(self, before: object = None) -> EnvironmentStep:
        """Return one step of the environment that takes time, to be used with `with`: a span of its own.

        `before` is the state before it. Give the rest by `set_result(observation, reward, terminated, truncated)`.
        """
        return EnvironmentStep(self, before)

    def tool(self, name: str | None = None, call: object = None, arguments: object = None) -> Tool:
        """Return the run of a tool, to be used with `with`, see `callspan.tool`."""
        return Tool(name, call, arguments, owner=self)

    def invoke_agent(
        self,
        name: str | None = None,
        *,
        input: object = None,  # noqa: A002 - the public word
        description: str | None = None,
    ) -> Agent:
        """Return the run of an agent among several, to be used with `with`, see `callspan.invoke_agent`."""
        return Agent(name, input, self, description)

    def guardrail(self, name: str | None = None, *, input: object = None) -> Guardrail:  # noqa: A002
        """Return a check, to be used with `with`, see `callspan.guardrail`."""
        return Guardrail(name, input, self)

    def handoff(
        self,
        to: str,
        sender: str | None = None,
        *,
        call: object = None,
        reason: object = None,
        at: Time | None = None,
    ) -> str:
        """Record that one agent passes the work on to another, see `callspan.handoff`; return the event's id."""
        return Handoff.made(to, sender, call, reason, self, at)
