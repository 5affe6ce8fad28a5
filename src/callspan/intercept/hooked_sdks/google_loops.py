"""Loops of google-genai: automatic function calling is an agent. In it the SDK runs the application's functions.

A loop is the agent of all its requests and runs of functions: of `models`, and of `chats`, which have their own loop.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from callspan.agent.arguments import as_text
from callspan.agent.loops import Loop, LoopTool
from callspan.agent.tree import current_scope
from callspan.intercept.generated_sdks.tool_loops import within
from callspan.intercept.hooks import HOOK_CONTEXT, HookSteps
from callspan.runtime.fail_open import fail_open, value_of

_START: Final = fail_open("start the agent of automatic function calling")
_RUN: Final = fail_open("record the run of a function")
_INVOCATION_ERROR: Final = "FunctionInvocationError"
_SESSION: Final = "ClientSession"
"""The class of an MCP session. The SDK calls its tools too."""


class _FunctionLoop(Loop):
    """One run of automatic function calling."""


def _loop(_args: object, owner: Any, kwargs: dict[str, Any]) -> Loop | None:
    """Return the agent of a request that may run functions; None for others, and within such an agent."""
    config = kwargs.get("config") or getattr(owner, "_config", None)
    if config is None or not _runs_functions(config) or HOOK_CONTEXT.factory() is None:
        return None
    agent = current_scope()
    if isinstance(agent, _FunctionLoop) and agent.state == "running":
        return None
    model = kwargs.get("model") or getattr(owner, "_model", None)
    return _FunctionLoop(object(), value_of(partial(as_text, model)))


def _runs_functions(config: Any) -> bool:
    tools = _field(config, "tools")
    if not isinstance(tools, list | tuple) or _field(_field(config, "automatic_function_calling"), "disable") is True:
        return False
    return any(callable(tool) or _is_session(tool) for tool in tools)


def _is_session(tool: object) -> bool:
    return any(base.__name__ == _SESSION for base in type(tool).__mro__)


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def _ended(loop: Loop, _: object) -> None:
    loop.end()


def _running(args: tuple[Any, ...], arguments: Any, kwargs: dict[str, Any]) -> LoopTool | None:
    """Return the run of a function that an answer requests; None outside of a loop."""
    agent = current_scope()
    if not isinstance(agent, _FunctionLoop) or agent.state != "running" or HOOK_CONTEXT.factory() is None:
        return None
    function = kwargs.get("function_to_invoke", args[-1] if args else None)
    name = getattr(function, "__name__", None)
    tool = LoopTool(agent, None, name, arguments)
    tool.describe(partial(getattr, function, "__doc__", None))
    return tool


def _raised(tool: LoopTool, error: BaseException) -> None:
    """End the run with the exception of the function, which the SDK's own one is raised for."""
    cause = error.__context__ if type(error).__name__ == _INVOCATION_ERROR else None
    tool.end(error if cause is None else cause)


def _returned(tool: LoopTool, result: object) -> None:
    tool.result = result
    tool.end()


LOOP: Final = HookSteps(
    step=_START, before=_loop, enter=Loop.start, on_return=_ended, on_error=Loop.end, on_failure=Loop.end
)
"""Makes an agent of a call that runs functions until the model answers."""
STREAM: Final = HookSteps(step=_START, before=_loop, on_return=within)
"""Makes an agent of such a stream, from its first step to its end."""
TOOL: Final = HookSteps(step=_RUN, before=_running, enter=LoopTool.start, on_return=_returned, on_error=_raised)
"""Observes the run of a function."""
