"""Tool loops of the SDKs: each run of a loop is recorded as an agent, and its tools as tools of that agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from opentelemetry.context import Context

from callspan.agent.kinds import AGENT
from callspan.agent.operations import Agent, EventArguments, Tool, without_none
from callspan.agent.registry import REGISTRY
from callspan.agent.sessions import Identity, Session
from callspan.agent.tree import scope_of
from callspan.runtime.fail_open import value_of

_NS_PER_MS: Final = 1_000_000
_NAME: Final = "tool loop"
"""The name of the session of a loop that runs outside of one."""


def _enter_loop(loop: Loop, outside: Context) -> Context:
    """Register a loop by its runner; outside of a session, open one around it."""
    # The SDK refuses a second run of a busy runner.
    if REGISTRY.loops.setdefault(loop.runner_key, loop).state == "ended":
        REGISTRY.loops[loop.runner_key] = loop
    if scope_of(outside) is None:
        loop.owner = loop.own_session = Session(Identity(name=_NAME))
        loop.own_session.is_automatic = True
        loop.own_session.start(current=False)
    return loop.enter(outside)


def _end_own_session(loop: Loop, error: BaseException | None) -> None:
    if loop.own_session is not None:
        loop.own_session.end(error)


LOOP: Final = msgspec.structs.replace(AGENT, enter=_enter_loop, finished=_end_own_session)
"""An agent that opens a session if it runs outside of one."""


class Loop(Agent):
    """One run of an SDK's tool loop: an agent with the name of its model; outside of a session, also a session."""

    kind = LOOP
    is_automatic = True
    own_session: Session | None = None
    """The session of a run outside of one, which ends with it."""

    def __init__(self, runner: object, model: str | None) -> None:
        super().__init__(model)
        self.runner_key = id(runner)  # a reference would be a cycle, through the context of what runs inside

    def on_diagnostic(self, diagnostic: Mapping[str, Any]) -> None:
        """Record the run of a candidate that a decision selected; openai's runner reports it after the run."""
        candidate = diagnostic["call_id"]
        if diagnostic["stage"] == "action" and candidate is not None:
            last = self.answers[-1] if self.answers else None
            call_id = None if last is None else last.call_id
            tool = LoopTool(self, f"{call_id}:{candidate}", candidate)
            tool.call_id = call_id
            tool.failed = diagnostic["reason"] != "completed"
            duration_ns = int(diagnostic["duration_ms"] * _NS_PER_MS)
            tool.start(current=False, at=time.time_ns() - duration_ns)
            tool.duration_ns = duration_ns
            tool.end()

    def generator_ended(self, error: BaseException | None) -> None:
        """End the agent; on another thread if the garbage collector may have closed the runner."""
        # At the end of an event loop, runners raise an error of their own while they are closed.
        if not isinstance(error, GeneratorExit) and not isinstance(getattr(error, "__context__", None), GeneratorExit):
            self.end(error)
        else:
            self.collected()


class LoopTool(Tool):
    """One run of a tool of a loop."""

    is_automatic = True

    def __init__(
        self,
        agent: Agent,
        tool_call_id: str | None,
        name: str | None,
        arguments: object = None,
        toolset: str | None = None,
    ) -> None:
        provider = agent.answers[-1].provider if agent.answers else None
        event_arguments = EventArguments(metadata={"provider": provider, "toolset": toolset})
        super().__init__(name, arguments, agent, event_arguments, tool_call_id)

    def describe(self, description: Callable[[], object]) -> None:
        """Add the tool's description, if content is kept."""
        if self.content_level == "full":
            self.info.update(without_none({"description": value_of(description)}))


def running_loop(runner: object) -> Loop | None:
    """Return the recorded loop of a running runner, or None."""
    loop = REGISTRY.loops.get(id(runner))
    return loop if loop is not None and loop.state == "running" else None
