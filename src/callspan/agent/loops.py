"""Tool loops of the SDKs: each run of a loop is recorded as an agent, and its tools as tools of that agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

from opentelemetry.context import get_current

from callspan import private_names as names
from callspan.agent.arguments import as_text
from callspan.agent.context import metadata_of
from callspan.agent.decorators import Block
from callspan.agent.operations import TOOL_ERROR, Agent, Tool, without_none
from callspan.agent.runtime import installed
from callspan.agent.scope import ActiveScope, scope_of
from callspan.fail_open import value_of
from callspan.record.call import ErrorInfo
from callspan.semconv.table import output_type, output_type_of_text

LOOPS: Final[WeakValueDictionary[int, Loop]] = WeakValueDictionary()
"""The running loops, by the `id()` of their runner."""
_TOOL_USE: Final = "tool_use"
"""The finish reason of a turn that is followed by another one."""
_STOP_REASONS: Final = frozenset({"refused", "step_limit"})
_NON_FAILURES: Final = {"max_steps": "step_limit", "cancelled": "cancelled"}
"""Outcomes by a word in the message of a runner's error that is not a failure."""
_NS_PER_MS: Final = 1_000_000


class Loop(Block):
    """One run of an SDK's tool loop: a new agent, or the agent of the directly enclosing block."""

    def __init__(self, runner: object, model: str | None) -> None:
        """`model` is the agent's name, unless an enclosing block or metadata names it."""
        self._runner = runner
        self.agent = Agent(model)
        self.agent._is_automatic = True
        self._enclosing: Agent | None = None
        """The agent of the directly enclosing block, which may represent another loop."""
        self._uses_enclosing = self.is_running = False
        self._is_final: bool | None = None
        """Whether its last turn was the final one; None if the finish reason of its last call decides."""
        self._stop_reason: str | None = None
        """The reason for its stop, if stated by a diagnostic."""

    def start(self, *, current: bool = True) -> None:
        """Start the agent, unless the enclosing agent represents the loop."""
        context = get_current()
        scope = scope_of(context)
        if isinstance(scope, Agent) and scope.state == "running":
            self._enclosing = scope
        if self._enclosing is not None and not self._enclosing._has_loop:
            self._enclosing.name = self._enclosing.name or self.agent.name
            self.agent, self._uses_enclosing, self._enclosing._has_loop = self._enclosing, True, True
        else:
            self.agent.name = as_text(metadata_of(context).get("agent")) or self.agent.name
            self.agent.start(current=current)
        self.is_running = True
        if running_loop(self._runner) is None:  # otherwise the busy runner will refuse
            LOOPS[id(self._runner)] = self

    def end(self, error: BaseException | None = None) -> None:
        """End the agent, unless the enclosing block owns it."""
        self._note_outcome(error)
        if not self._uses_enclosing:
            self.agent.end(error)

    def on_return(self, _: object) -> None:
        """End the loop of a runner that returned normally."""
        self._is_final = True
        self.end()

    def on_diagnostic(self, diagnostic: Mapping[str, Any]) -> None:
        """Process a diagnostic of openai's runner: a refusal, the step limit, a candidate selected by a decision."""
        stage, reason, name = diagnostic["stage"], diagnostic["reason"], diagnostic["call_id"]
        if stage == "request":
            self._stop_reason = None
        elif stage == "action" and diagnostic["api"] == "decisions" and name is not None:
            last = self.agent._answers[-1] if self.agent._answers else None
            tool = LoopTool(self.agent, f"{None if last is None else last.call_id}:{name}", name)
            tool.failed = reason != "completed"
            duration_ns = int(diagnostic["duration_ms"] * _NS_PER_MS)
            tool.start(current=False, at=time.time_ns() - duration_ns)
            tool._lasted_ns = duration_ns
            tool.end()
        elif reason in _STOP_REASONS:
            self._stop_reason = reason

    def _prepare(self) -> None:
        self.start(current=False)

    def _advance(self) -> ActiveScope:
        return self.agent.using()

    def _exhausted(self, error: BaseException | None) -> None:
        # At the end of an event loop, runners raise while they are closed.
        if not isinstance(error, GeneratorExit) and not isinstance(getattr(error, "__context__", None), GeneratorExit):
            self.end(error)
            return
        # The garbage collector may have closed it, so the span is ended on another thread.
        self._note_outcome(None, is_closed=True)
        if not self._uses_enclosing and self.agent.state == "running":
            self.agent._end_later(None)

    def _yielded(self, item: object) -> None:
        is_final = getattr(item, "final", None)
        self._is_final = is_final if isinstance(is_final, bool) else None

    def _note_outcome(self, error: BaseException | None, *, is_closed: bool = False) -> None:
        self.is_running = False
        answers = self.agent._answers
        if answers:
            last = answers[-1]
            kind = output_type(last.params.get("output_format")) or output_type_of_text(
                last.params.get("output_config")
            )
            self.agent._loop_metadata |= {"provider": last.provider, "model": last.model, "output_type": kind}
        outcome = self._outcome(error, is_closed=is_closed or getattr(self._runner, names.RUNNER_CLOSED, None) is True)
        for agent in {self.agent, self._enclosing}:
            if agent is not None:
                agent._loop_metadata["outcome"] = outcome

    def _outcome(self, error: BaseException | None, *, is_closed: bool) -> str | None:
        """Return the outcome; None if its last calls were not observed, as after `uninstrument()`."""
        if self._stop_reason is not None:
            return self._stop_reason
        if error is not None:
            return self._error_outcome(error) if isinstance(error, Exception) else "cancelled"
        last = self.agent._answers[-1] if self.agent._answers else None
        is_observed = last is not None and installed() is self.agent._runtime
        is_final = self._is_final
        if last is not None and is_final is None:
            is_final = last.is_whole and last.finish_reason != _TOOL_USE
        if is_final and last is not None:
            return "success"
        return "cancelled" if is_closed else "step_limit" if is_observed else None

    def _error_outcome(self, error: Exception) -> str:
        """Return the outcome for an exception, which the runner also raises for ends that are not failures."""
        is_own = type(self._runner).__module__ in {kind.__module__ for kind in type(error).__mro__}
        text = (value_of(partial(str, error)) or "") if is_own else ""
        return next((outcome for word, outcome in _NON_FAILURES.items() if word in text), "error")


class LoopTool(Tool):
    """One run of a tool of a loop."""

    def __init__(
        self, agent: Agent, tool_call_id: str, name: str | None, given: object = None, **sdk_metadata: object
    ) -> None:
        """`sdk_metadata` is added to the metadata of the running code; None values are omitted."""
        super().__init__(name, tool_call_id, given, agent)
        self._is_automatic = True
        self._sdk_metadata = sdk_metadata
        self.failed = False
        """Whether the SDK reports a failure to the model."""

    def describe(self, description: Callable[[], object]) -> None:
        """Add the tool's description, if content is kept."""
        if self._content_level == "full":
            self._sdk_metadata["description"] = value_of(description)

    def _failure(self, error: BaseException | None) -> ErrorInfo | None:
        return super()._failure(error) or (TOOL_ERROR if self.failed else None)

    def _own_metadata(self) -> Mapping[str, object]:
        answers = self._owner._answers if self._owner is not None else ()
        return without_none({**self._sdk_metadata, "provider": answers[-1].provider if answers else None})


def running_loop(runner: object) -> Loop | None:
    """Return the recorded loop of a running runner, or None."""
    loop = LOOPS.get(id(runner))
    return loop if loop is not None and loop.is_running else None
