"""OpenAI Agents: turns the runs, agents, tools, handoffs and guardrails of the `agents` package into scopes.

The package notifies its trace processors of every trace and span, in the thread and context of their start and end.
callspan hooks the callers of the processors, because an application's `set_trace_processors` would remove a processor
of its own. Spans of model calls are ignored, because the calls are recorded anyway.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from callspan.agent.api import session
from callspan.agent.kinds import read_input
from callspan.agent.operations import Agent, EventArguments, Guardrail, Handoff, Operation, Tool, without_none
from callspan.agent.tree import Node, current_scope
from callspan.intercept.hooks import HOOK_CONTEXT, HookSteps
from callspan.runtime.fail_open import fail_open

_STEP: Final = fail_open("follow a run of openai-agents")
_NOT_SCOPES: Final = frozenset({
    "custom", "generation", "mcp_tools", "response", "speech", "speech_group", "task", "transcription", "turn",
})  # fmt: skip
"""Types of spans that become no scope: model calls and groups of spans."""


class RunTool(Tool):
    """One run of a tool. Its arguments, and thus the model's tool call, are known only at its end."""

    is_named_late = True

    def ran(self, arguments: object, result: object, server: str | None) -> None:
        """Set arguments, result and the name of the MCP server; None if the run hides them."""
        if arguments is not None:
            self.input_value = arguments
            read_input(self)
        if result is not None:
            self.result = result
        if server is not None:
            self.info |= {"server": server, "tool_type": "extension"}


class RunHandoff(Handoff):
    """A handoff within a run. Its target agent is known only at its end."""

    is_named_late = True


def _agent(data: Any) -> Operation:
    metadata = {"tools": data.tools, "handoffs": data.handoffs, "output_type": data.output_type}
    return Agent(data.name, event_arguments=EventArguments(metadata=without_none(metadata)))


def _tool(data: Any) -> Operation:
    return RunTool(data.name)


def _handoff(data: Any) -> Operation:
    return RunHandoff(event_arguments=EventArguments(system=data.from_agent))


def _guardrail(data: Any) -> Operation:
    return Guardrail(data.name)


_SCOPES: Final[Mapping[str, Callable[[Any], Operation]]] = {
    "agent": _agent, "function": _tool, "handoff": _handoff, "guardrail": _guardrail,
}  # fmt: skip
"""Creates the scope of a span, by the type of its data."""


class _OpenScope(NamedTuple):
    """The scope of a trace or span that has not ended."""

    scope: Node
    handled: int
    """`id()` of the exception that the application was handling at the start."""


_OPEN: Final[WeakKeyDictionary[Any, _OpenScope]] = WeakKeyDictionary()


def is_run_open() -> bool:
    """Return whether a scope of a run has not ended."""
    return bool(_OPEN)


def _trace_start(_args: object, trace: Any, _kwargs: object) -> None:
    """Start the scope of a trace: outside of any session, a session for the run or its group."""
    if HOOK_CONTEXT.factory() is not None and current_scope() is None:
        group_id, metadata = getattr(trace, "group_id", None), getattr(trace, "metadata", None)
        _start(trace, session(trace.name, session_id=group_id or trace.trace_id, metadata=metadata))


def _span_start(_args: object, span: Any, _kwargs: object) -> None:
    kind = span.span_data.type
    if HOOK_CONTEXT.factory() is None or kind in _NOT_SCOPES:
        return
    if (make := _SCOPES.get(kind)) is None:
        HOOK_CONTEXT.unrecorded(f"span of openai-agents: {kind}")
    else:
        _start(span, make(span.span_data))


def _end(_args: object, trace_or_span: Any, _kwargs: object) -> None:
    open_scope = _OPEN.pop(trace_or_span, None)
    if open_scope is not None:
        if isinstance(open_scope.scope, Operation):
            _note_result(open_scope.scope, trace_or_span.span_data, trace_or_span.error)
        error = sys.exc_info()[1]  # it propagates through the block that ends
        open_scope.scope.end(None if id(error) == open_scope.handled else error)


TRACE_START: Final = HookSteps(step=_STEP, before=_trace_start)
"""Before the function that announces a new trace, or that starts one again after an approval, unannounced."""
SPAN_START: Final = HookSteps(step=_STEP, before=_span_start)
"""Before the function that announces a new span."""
END: Final = HookSteps(step=_STEP, before=_end)
"""Before the function that announces the end of a trace or span."""


def _start(of: Any, scope: Node) -> None:
    scope.is_automatic = True
    scope.start()
    _OPEN[of] = _OpenScope(scope, id(sys.exc_info()[1]))


def _note_result(scope: Operation, data: Any, error: Mapping[str, Any] | None) -> None:
    if isinstance(scope, RunTool):
        scope.ran(data.input, data.output, (data.mcp_data or {}).get("server"))
    elif isinstance(scope, Guardrail):
        scope.triggered = data.triggered
    elif isinstance(scope, RunHandoff):
        scope.name = data.to_agent
    if error is not None:
        reason = (error.get("data") or {}).get("error")
        scope.error = f"{error['message']}: {reason}" if isinstance(reason, str) else error["message"]
