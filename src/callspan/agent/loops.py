"""Tool loops of the SDKs: the run of a loop is an agent, and each of its tools a tool of that agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

from opentelemetry.context import Context, get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from callspan import private_names as names
from callspan.agent.arguments import as_text
from callspan.agent.context import metadata_of
from callspan.agent.decorators import Block
from callspan.agent.operations import TOOL_ERROR, Agent, Tool, known
from callspan.agent.runtime import installed
from callspan.agent.scope import Scope, Using, scope_of
from callspan.fail_open import value_of
from callspan.process.processed import Processed
from callspan.record.call import ErrorInfo
from callspan.record.events import Record
from callspan.semconv.table import output_type, output_type_of_text

LOOPS: Final[WeakValueDictionary[int, Loop]] = WeakValueDictionary()
"""The loop of each runner that runs, by the runner's `id()`."""
_TOOL_USE: Final = "tool_use"
"""The finish reason of a turn that another one follows."""
_STOPPED: Final = frozenset({"refused", "step_limit"})
_RAISED: Final = {"max_steps": "step_limit", "cancelled": "cancelled"}
"""What the error of a runner says where it is no failure."""
_NS_PER_MS: Final = 1_000_000


class Loop(Block):
    """One run of a tool loop of an SDK: an agent of its own, or that of the block directly around it."""

    def __init__(self, runner: object, model: str | None) -> None:
        """`model` is its name, unless a block or metadata around it has another."""
        self._runner = runner
        self.agent: Agent = LoopAgent(model)
        self._holder: Agent | None = None
        """The block directly around it, also if that holds other loops."""
        self._is_borrowed = self.is_running = False
        self._is_final: bool | None = None
        """Whether its last turn was the final one; None: the finish reason of its last call says it."""
        self._stopped: str | None = None
        """Why it stops, as far as its diagnostics say."""

    def start(self, *, current: bool = True) -> None:
        """Start the agent, unless the block around becomes it."""
        context = get_current()
        around = scope_of(context)
        if isinstance(around, Agent) and around.state == "running":
            self._holder = around
        if self._holder is not None and not self._holder._has_loop:
            self._holder.name = self._holder.name or self.agent.name
            self.agent, self._is_borrowed, self._holder._has_loop = self._holder, True, True
        else:
            self.agent.name = as_text(metadata_of(context).get("agent")) or self.agent.name
            self.agent.start(current=current)
        self.is_running = True
        if running_loop(self._runner) is None:  # else it is refused: the runner is busy
            LOOPS[id(self._runner)] = self

    def end(self, error: BaseException | None = None) -> None:
        """End the agent, unless it is the block around."""
        self._note_outcome(error)
        if not self._is_borrowed:
            self.agent.end(error)

    def returned(self) -> None:
        """End, as a runner that has run the whole loop returns."""
        self._is_final = True
        self.end()

    def diagnosed(self, diagnostic: Mapping[str, Any]) -> None:
        """Take a diagnostic of a runner of openai: a refusal, the step limit, a candidate that a decision selected."""
        stage, reason, name = diagnostic["stage"], diagnostic["reason"], diagnostic["call_id"]
        if stage == "request":
            self._stopped = None
        elif stage == "action" and diagnostic["api"] == "decisions" and name is not None:
            last = self.agent._answers[-1] if self.agent._answers else None
            tool = LoopTool(self.agent, f"{None if last is None else last.call_id}:{name}", name)
            tool.failed = reason != "completed"
            duration_ns = int(diagnostic["duration_ms"] * _NS_PER_MS)
            tool.start(current=False, at=time.time_ns() - duration_ns)
            tool._lasted_ns = duration_ns
            tool.end()
        elif reason in _STOPPED:
            self._stopped = reason

    def _prepare(self) -> None:
        self.start(current=False)

    def _advance(self) -> Using:
        return self.agent.using()

    def _exhausted(self, error: BaseException | None) -> None:
        # Runners raise at the end of an event loop, which closes what they close too.
        if not isinstance(error, GeneratorExit) and not isinstance(getattr(error, "__context__", None), GeneratorExit):
            self.end(error)
            return
        # The garbage collector may close it, where no span may be ended.
        self._note_outcome(None, is_closed=True)
        if not self._is_borrowed and self.agent.state == "running":
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
            self.agent._of_loop |= {"provider": last.provider, "model": last.model, "output_type": kind}
        outcome = self._outcome(error, is_closed=is_closed or getattr(self._runner, names.RUNNER_CLOSED, None) is True)
        for agent in {self.agent, self._holder}:
            if agent is not None:
                agent._of_loop["outcome"] = outcome

    def _outcome(self, error: BaseException | None, *, is_closed: bool) -> str | None:
        """Return how it ended; None where its last calls were not seen, as after `uninstrument()`."""
        if self._stopped is not None:
            return self._stopped
        if error is not None:
            return self._raised(error) if isinstance(error, Exception) else "cancelled"
        last = self.agent._answers[-1] if self.agent._answers else None
        is_observed = last is not None and installed() is self.agent._runtime
        is_final = self._is_final
        if last is not None and is_final is None:
            is_final = last.is_whole and last.finish_reason != _TOOL_USE
        if is_final and last is not None:
            return "success"
        return "cancelled" if is_closed else "step_limit" if is_observed else None

    def _raised(self, error: Exception) -> str:
        """Return what an exception says of the end: a runner has words of its own where it is no failure."""
        is_own = type(self._runner).__module__ in {kind.__module__ for kind in type(error).__mro__}
        text = (value_of(partial(str, error)) or "") if is_own else ""
        return next((outcome for word, outcome in _RAISED.items() if word in text), "error")


class AutomaticScope(Scope):
    """What callspan begins by itself: without a span where OpenTelemetry's instrumentation is suppressed."""

    def _begin_span(self, processed: Processed[Record], parent: Context, **links: Any) -> None:  # noqa: ANN401
        if is_instrumentation_enabled():
            super()._begin_span(processed, parent, **links)


class LoopAgent(AutomaticScope, Agent):
    """The agent of a loop."""


class LoopTool(AutomaticScope, Tool):
    """One run of a tool of a loop."""

    def __init__(
        self, agent: Agent, tool_call_id: str, name: str | None, given: object = None, **facts: object
    ) -> None:
        """`facts` is what its metadata have beside those around it; None: not known."""
        super().__init__(name, tool_call_id, given, agent)
        self._of_sdk = facts
        self.failed = False
        """Whether the SDK tells the model that it failed."""

    def describe(self, description: Callable[[], object]) -> None:
        """Note what the tool does, where content is kept."""
        if self._content_level == "full":
            self._of_sdk["description"] = value_of(description)

    def _failure(self, error: BaseException | None) -> ErrorInfo | None:
        return super()._failure(error) or (TOOL_ERROR if self.failed else None)

    def _facts(self) -> Mapping[str, object]:
        answers = self._owner._answers if self._owner is not None else ()
        return known({**self._of_sdk, "provider": answers[-1].provider if answers else None})


def running_loop(runner: object) -> Loop | None:
    """Return the loop that a runner runs; None: none, or none that is recorded."""
    loop = LOOPS.get(id(runner))
    return loop if loop is not None and loop.is_running else None
