"""Tool loops: hooks the runners of the SDKs, so that each run is an agent, and each run of a tool has its time."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from callspan import private_names as names
from callspan.agent.arguments import as_text
from callspan.agent.decorators import around_async_generator, around_generator
from callspan.agent.loops import Loop, LoopTool, running_loop
from callspan.fail_open import fail_open, value_of
from callspan.intercept.hooks import Function, HookContext, HookSteps, guarded, parameters, place_of, silenced

if TYPE_CHECKING:
    from typing_extensions import Self

_START: Final = fail_open("start the agent of a tool loop")
_MCP: Final = "mcp_tool"
"""The SDK's tag of the tools that it makes of those of MCP servers."""
_DIAGNOSTICS: Final = "on_diagnostic"
_PARAMS_AT: Final = 2
"""Where the runners of openai are given the parameters of their calls."""
_RUN: Final = fail_open("record the run of a tool")


def observe_loop(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of a runner's generator: all that runs while it advances belongs to the loop's agent."""
    return guarded(original, HookSteps(step=_START, begin=_beginner(hook_context, original), returned=_within))


def observe_run(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of a runner's method that runs the whole loop."""

    def raised(loop: Loop, error: BaseException) -> None:
        loop.end(error)

    def returned(loop: Loop, result: object) -> None:
        del result
        loop.on_return()

    begin = _beginner(hook_context, original)
    return guarded(original, HookSteps(step=_START, begin=begin, enter=Loop.start, returned=returned, raised=raised))


def _beginner(hook_context: HookContext, original: Function) -> Callable[[tuple[Any, ...], dict[str, Any]], object]:
    """Return a function that begins a loop, and receives the runner's diagnostics, if any."""
    is_diagnosed = _DIAGNOSTICS in parameters(original)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Loop | None:
        if hook_context.factory() is None:
            return None
        loop = Loop(args[0], value_of(partial(_model, args, kwargs)))
        if is_diagnosed:
            kwargs[_DIAGNOSTICS] = partial(_diagnosed, loop, kwargs.get(_DIAGNOSTICS))
        return loop

    return begin


def _model(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the model that a runner asks; None if its parameters do not say it."""
    given = kwargs.get("params", args[_PARAMS_AT] if len(args) > _PARAMS_AT else None)
    return as_text((getattr(args[0], names.RUNNER_PARAMS) if given is None else given)["model"])


def _diagnosed(loop: Loop, observer: Callable[[Any], Any] | None, diagnostic: Any) -> Any:  # noqa: ANN401
    """Take a diagnostic, and pass it on to the observer of the application."""
    with _RUN:
        loop.on_diagnostic(diagnostic)
    return None if observer is None else observer(diagnostic)


def _within(loop: Loop, advances: Any) -> Any:  # noqa: ANN401 - a generator of either colour
    wrap = around_async_generator if inspect.isasyncgen(advances) else around_generator
    made = wrap(lambda: advances, lambda: loop)()
    made.__name__, made.__qualname__ = advances.__name__, advances.__qualname__
    return made


def observe_loop_span(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of the function that starts the SDK's span of a loop, which the loop's agent replaces."""
    del hook_context
    return silenced(original, _START, lambda args: running_loop(args[0]) is not None)


def observe_tool_span(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of the function that returns the block in which the anthropic SDK runs a tool."""
    tool_at, use_at = place_of(original, "tool", 2), place_of(original, "tool_use", 3)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Loop, Any, Any] | None:
        loop = _recorded_loop(hook_context, args[0])
        if loop is None:
            return None
        tool = args[tool_at] if len(args) > tool_at else kwargs["tool"]
        return loop, tool, args[use_at] if len(args) > use_at else kwargs["tool_use"]

    def returned(state: tuple[Loop, Any, Any], native: object) -> _ToolBlock:
        del native
        return _ToolBlock(partial(_ran, *state))

    return guarded(original, HookSteps(step=_RUN, begin=begin, returned=returned))


def _ran(loop: Loop, tool: Any, block: Any) -> LoopTool:  # noqa: ANN401 - a tool and a block of the SDK
    helpers: Any = sys.modules.get(names.HELPER_TAG.where[0])
    tag_of = getattr(helpers, names.HELPER_TAG.name, None)
    facts: dict[str, object] = {"toolset": getattr(block, "toolset_name", None)}
    if tag_of is not None and tag_of(tool) == _MCP:
        facts |= {"tool_type": "extension", "server": value_of(partial(_server, tool))}
    run = LoopTool(loop.agent, str(block.id), block.name, block.input, **facts)
    run.start()
    run.describe(partial(getattr, tool, "description", None))
    return run


def _server(tool: Any) -> str | None:  # noqa: ANN401 - a tool of the SDK
    """Return the name of the MCP server that has a tool, as its client states it in `mcp` 2 and later."""
    held = dict(zip(tool.func.__code__.co_freevars, tool.func.__closure__ or (), strict=False))
    name = getattr(getattr(held[names.MCP_CLIENT].cell_contents, "server_info", None), "name", None)
    return name if isinstance(name, str) else None


def observe_function(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of the function that runs a tool in a runner of openai."""
    at = place_of(original, "item", 2)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> LoopTool | None:
        loop = _recorded_loop(hook_context, args[0])
        if loop is None:
            return None
        item = args[at] if len(args) > at else kwargs["item"]
        return LoopTool(loop.agent, item.call_id, item.name, getattr(item, "arguments", None))

    def returned(tool: LoopTool, result: Any) -> None:  # noqa: ANN401 - a dict of the SDK
        tool.result = result["output"]
        tool.end()

    def raised(tool: LoopTool, error: BaseException) -> None:
        tool.end(error)

    steps = HookSteps(step=_RUN, begin=begin, enter=LoopTool.start, returned=returned, raised=raised)
    return guarded(original, steps)


def _recorded_loop(hook_context: HookContext, runner: object) -> Loop | None:
    """Return the loop that a runner runs; None where nothing may be recorded, as after `uninstrument()`."""
    loop = running_loop(runner)
    return None if loop is None or hook_context.factory() is None else loop


class _ToolBlock:
    """The block in which a tool runs, in place of the SDK's, which has a span of its own.

    It accepts the runner's result of the run, as the SDK's `ToolRun` does; other methods have no effect.
    """

    result: Any = None
    content: Any = None

    def __init__(self, start: Callable[[], LoopTool]) -> None:
        self._start = start
        self._tool: LoopTool | None = None

    def __getattr__(self, name: str) -> Callable[..., None]:
        del name
        return _ignore

    def __enter__(self) -> Self:
        with _RUN:
            self._tool = self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _RUN:
            if self._tool is not None:
                if self.result:
                    self._tool.result, self._tool.failed = self.result.get("content"), bool(self.result.get("is_error"))
                self._tool.end(error)


def _ignore(*args: object, **kwargs: object) -> None:
    del args, kwargs
