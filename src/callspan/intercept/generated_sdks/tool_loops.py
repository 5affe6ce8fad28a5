"""Tool loops: hooks the SDKs' tool runners, so that each loop is an agent and each tool run is timed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from callspan import private_names as names
from callspan.agent.arguments import as_text
from callspan.agent.decorators import around_async_generator, around_generator
from callspan.agent.loops import Loop, LoopTool, running_loop
from callspan.agent.sdk_objects import tool_call_field
from callspan.agent.tree import current_scope
from callspan.intercept.foreign_objects import named_like
from callspan.intercept.hooks import HOOK_CONTEXT, Function, HookSteps, Reads, parameters, position, silenced
from callspan.runtime.fail_open import fail_open, value_of

if TYPE_CHECKING:
    from typing_extensions import Self

_START: Final = fail_open("start the agent of a tool loop")
_DIAGNOSTICS: Final = "on_diagnostic"
_TOOL_USE: Final = "tool_use"
_PARAMS_AT: Final = 2
"""Position of the call parameters in the arguments of openai's runners."""
_RUN: Final = fail_open("record the run of a tool")


def observe_loop(original: Function, *_: object, **__: object) -> Function:
    """Return a replacement of a runner's generator. Everything that runs in it belongs to the loop's agent."""
    return HookSteps(step=_START, before=_loop, on_return=within).around(original)


def observe_run(original: Function, *_: object, **__: object) -> Function:
    """Return a replacement of a runner's method that runs the whole loop and reports its actions."""

    def begin(args: tuple[Any, ...], runner: object, kwargs: dict[str, Any]) -> Loop | None:
        loop = _loop(args, runner, kwargs)
        if loop is not None and _DIAGNOSTICS in parameters(original):
            kwargs[_DIAGNOSTICS] = partial(_diagnosed, loop, kwargs.get(_DIAGNOSTICS))
        return loop

    steps = HookSteps(
        step=_START, before=begin, enter=Loop.start, on_return=lambda loop, _: loop.end(), on_error=Loop.end
    )
    return steps.around(original)


def _loop(args: tuple[Any, ...], _: object, kwargs: dict[str, Any]) -> Loop | None:
    return None if HOOK_CONTEXT.factory() is None else Loop(args[0], value_of(partial(_model, args, kwargs)))


def _model(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the model of a runner; None if its parameters do not name it."""
    params = kwargs.get("params", args[_PARAMS_AT] if len(args) > _PARAMS_AT else None)
    return as_text((getattr(args[0], names.RUNNER_PARAMS) if params is None else params)["model"])


def _diagnosed(loop: Loop, observer: Callable[[Any], Any] | None, diagnostic: Any) -> Any:
    """Record a diagnostic and pass it on to the application's observer."""
    with _RUN:
        loop.on_diagnostic(diagnostic)
    return None if observer is None else observer(diagnostic)


def within(loop: Loop, advances: Any) -> Any:
    """Return an iterator over the same items. Everything that runs in it belongs to the agent."""
    wrap = around_async_generator if inspect.isasyncgen(advances) else around_generator
    return named_like(wrap(lambda: advances, lambda: loop)(), advances)


def observe_loop_span(original: Function, *_: object, **__: object) -> Function:
    """Return a replacement of the function that starts the SDK's span of a loop, which the loop's agent replaces."""
    return silenced(original, _START, lambda args: running_loop(args[0]) is not None)


def observe_tool(original: Function, reads: Reads, **_: object) -> Function:
    """Return a replacement of the function that returns the anthropic SDK's block around a tool."""
    begin = partial(_tool_run, position(_TOOL_USE, reads, original))
    return HookSteps(step=_RUN, before=begin, on_return=_block).around(original, reads)


def _tool_run(at: int, args: tuple[Any, ...], tool: object, kwargs: dict[str, Any]) -> tuple[Loop, Any, Any] | None:
    loop = running_loop(args[0])
    if loop is None or HOOK_CONTEXT.factory() is None:
        return None
    return loop, tool, kwargs[_TOOL_USE] if _TOOL_USE in kwargs else args[at]


def _block(state: tuple[Loop, Any, Any], _: object) -> _ToolBlock:
    return _ToolBlock(partial(_ran, *state))


def _ran(loop: Loop, tool: Any, block: Any) -> LoopTool:
    toolset = getattr(block, "toolset_name", None)
    run = LoopTool(loop, str(block.id), block.name, block.input, toolset=toolset)
    run.start()
    run.describe(partial(getattr, tool, "description", None))
    return run


def _requested(_args: object, item: Any, _kwargs: object) -> LoopTool | None:
    """Return the tool that an item of an answer requests; None outside of a running loop."""
    agent = current_scope()
    if HOOK_CONTEXT.factory() is None or not isinstance(agent, Loop) or agent.state != "running":
        return None
    name = getattr(item, "name", None) or item.type.removesuffix("_call")
    return LoopTool(agent, item.call_id, name, tool_call_field(item, "arguments"))


def _output(tool: LoopTool, result: Any) -> None:
    output, is_done = result if isinstance(result, tuple) else (result, True)
    tool.result, tool.failed = output["output"], not is_done
    tool.end()


class _ToolBlock:
    """The block around a tool, instead of the SDK's, which creates a span.

    Like the SDK's `ToolRun` it accepts the result of the run; methods of a later SDK have no effect.
    """

    result: Any = None

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


TOOL: Final = HookSteps(
    step=_RUN, before=_requested, enter=LoopTool.start, on_return=_output, on_error=LoopTool.end
)  # fmt: skip
"""Observes the run of a tool in a runner of openai: a function, an action in a browser, those at a computer."""
