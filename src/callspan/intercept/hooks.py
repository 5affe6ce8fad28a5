"""Hooks: functions that replace functions of the SDKs, the HTTP library and OpenTelemetry, and their shared state.

A hook accepts any arguments and calls the original exactly once with the same. Callspan's code around the call is
guarded: its exceptions are reported and cost telemetry, never the call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache, update_wrapper
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import msgspec
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from callspan.agent.context import content_of, current_context
from callspan.agent.requirement import lacks_session
from callspan.intercept import other_instrumentations
from callspan.intercept.responses import CURRENT_CALL, OBSERVERS, ResponseObserver, is_below_whole_call
from callspan.observe.deferred_ends import DeferredEnds
from callspan.observe.factory import CallFactory
from callspan.runtime.background import is_isolated
from callspan.runtime.fail_open import fail_open
from callspan.runtime.nothing import nothing
from callspan.settings import Content, strictest

if TYPE_CHECKING:
    from callspan.intercept.open_call import OpenCall
    from callspan.receive.agents import AgentReceiver
    from callspan.sdk_profiles import SdkProfile


Function: TypeAlias = Callable[..., Any]
Returned: TypeAlias = Callable[[Any, Any], object]
Reads: TypeAlias = Mapping[str, int]
"""Parameters that a hook reads, with their usual positions, counting the instance."""

NOTHING_READ: Final[Reads] = {}
_ABSENT: Final[Any] = object()
_DATA: Final = fail_open("read a response")
_LOOK: Final = fail_open("look for other instrumentations")
VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
"""Kinds of parameters that accept any arguments."""

_HOOK: Final = "callspan_hook"
"""Keyword-only parameter of the new code; its default is the hook."""


class HookSteps(msgspec.Struct, frozen=True, kw_only=True):
    """The steps around a hooked function. If a step raises, that is reported and the call continues."""

    step: fail_open
    before: Callable[[tuple[Any, ...], Any, dict[str, Any]], object]
    """Takes the positional arguments, starting with the instance; the first parameter that the hook reads, else the
    instance; the keyword arguments. Returns the argument of the other steps, or None if there is nothing to observe."""
    on_return: Returned | None = None
    """Takes the result; returns a replacement for the caller or None. Without this step only `before` runs."""
    on_error: Callable[[Any, BaseException], object] | None = None
    """Takes the exception that is raised to the caller."""
    enter: Callable[[Any], object] | None = None
    """Sets up what `on_return`, `on_error` and `on_failure` undo. `on_error` receives an interrupt in it."""
    on_failure: Callable[[Any, BaseException | None], object] | None = None
    """Undoes `enter`, and ends what is observed, where `on_return` or `on_error` has failed.

    Takes the exception that is raised to the caller, or None.
    """

    def around(self, original: Function, reads: Reads = NOTHING_READ, *, is_async: bool = False) -> Function:
        """Return a function that does the same as `original`, with the steps around it.

        `is_async` is also True for functions that return awaitables but are not coroutine functions, as wrappers may
        be.
        """
        name = next(iter(reads), "")
        at = position(name, reads, original)
        on_return = self.on_return
        if on_return is None:
            hooked = _before(original, self, name, at)
        elif is_async or inspect.iscoroutinefunction(original):
            hooked = _around_async(original, self, on_return, name, at)
        else:
            hooked = _around(original, self, on_return, name, at)
        return update_wrapper(hooked, original)


def silenced(original: Function, step: fail_open, is_replaced: Callable[[tuple[Any, ...]], bool]) -> Function:
    """Return a function that does the same as `original`, but nothing if `is_replaced` is true for the arguments."""

    def hooked(*args: Any, **kwargs: Any) -> Any:
        try:
            if is_replaced(args):
                return None
        except Exception as error:
            step.report(error)
        return original(*args, **kwargs)

    return update_wrapper(hooked, original)


def observe_data(original: Function, reads: Reads = NOTHING_READ, *, is_async: bool = False) -> Function:
    """Return a function that first passes `data` to the observer of `response`, then does the same as `original`.

    The observer is the one in `OBSERVERS`, else the current call if its `response` is it. For functions that are
    called for every chunk of a stream, at minimal cost.
    """
    if {*parameters(original)} == {"self", "data", "cast_to", "response"}:
        return update_wrapper(_data_hook(original), original)
    # For functions with other parameters, whose callers still pass these by name.
    show = _data_hook(lambda *_, **__: None)

    def begin(args: tuple[Any, ...], data: object, kwargs: dict[str, Any]) -> None:
        show(args[0], data=data, cast_to=None, response=kwargs["response"])

    return HookSteps(step=_DATA, before=begin).around(original, reads, is_async=is_async)


def _data_hook(original: Function) -> Function:
    """Return the hook for the parameters of current SDKs, which costs half of the general one."""
    observer_of, current_call = OBSERVERS.get, CURRENT_CALL.get

    def hooked(self: Any, /, *, data: Any, cast_to: Any, response: Any) -> Any:
        try:
            observer: ResponseObserver | OpenCall | None = observer_of(id(response))
            if observer is None and (call := current_call()) is not None and call.response is response:
                observer = call
            if observer is not None:
                # Read first: CPython 3.11 looks up a callable that is called from a slot like a method.
                show = observer.on_data
                show(data)
        except Exception as error:
            _DATA.report(error)
        return original(self, data=data, cast_to=cast_to, response=response)

    return hooked


def position(name: str, reads: Reads, original: Function) -> int:
    """Return the position of a parameter that a hook reads, counting the instance; without a name, 0."""
    if not reads:
        return 0
    names, _ = parameter_names(original)
    return names.index(name) if name in names else reads.get(name, 0)


def parameter_names(original: Function) -> tuple[tuple[str, ...], bool]:
    """Return the names of the parameters of a function, empty if unknown, and whether it accepts any others.

    A plain function has them in its code. To make its signature takes fifty times as long, for each of a hundred hooks.
    """
    if type(original) is FunctionType and not vars(original).keys() & {"__wrapped__", "__signature__"}:
        code = original.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return names, bool(code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS))
    bound = parameters(original)
    names = tuple(name for name, parameter in bound.items() if parameter.kind not in VARIADIC)
    return names, len(names) < len(bound)


def parameters(original: Function) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function by name; empty if unknown."""
    try:
        return inspect.signature(original).parameters
    except (TypeError, ValueError):
        return {}


def bound_like(original: Function, hooked: Function, *, is_async: bool = True) -> Function:
    """Return a function with the parameters of `original` that calls `hooked`, or that itself if they vary.

    It binds its arguments as the original does, and raises the same TypeError before any step of a hook runs. A
    coroutine function does so when it is called, not when it is awaited.
    """
    bound = list(parameters(original).values())
    if not bound or any(parameter.kind in VARIADIC for parameter in bound):
        return hooked
    declared = inspect.Signature([_without_values(parameter) for parameter in bound])
    passed = ", ".join(
        f"{parameter.name}={parameter.name}" if parameter.kind is parameter.KEYWORD_ONLY else parameter.name
        for parameter in bound
    )
    names: dict[str, Any] = {_HOOK: hooked}
    prefix, returned = ("async ", "await ") if is_async else ("", "")
    # Python has no other way to make a function with given parameters.
    exec(_compiled(f"{prefix}def bound{declared}: return {returned}{_HOOK}({passed})"), names)  # noqa: S102 - names of parameters
    function: Any = update_wrapper(names["bound"], hooked)
    optional = {parameter.name: parameter for parameter in bound if parameter.default is not parameter.empty}
    function.__kwdefaults__ = {
        name: parameter.default for name, parameter in optional.items() if parameter.kind is parameter.KEYWORD_ONLY
    }
    function.__defaults__ = tuple(
        parameter.default for parameter in optional.values() if parameter.kind is not parameter.KEYWORD_ONLY
    )
    return cast("Function", function)


@lru_cache(64)
def _compiled(source: str) -> CodeType:
    return compile(source, __file__, "exec")


def _without_values(parameter: inspect.Parameter) -> inspect.Parameter:
    default = parameter.empty if parameter.default is parameter.empty else None
    return parameter.replace(annotation=parameter.empty, default=default)


def _before(original: Function, steps: HookSteps, name: str, at: int) -> Function:
    before, step = steps.before, steps.step

    def hooked(*args: Any, **kwargs: Any) -> Any:
        try:
            before(args, (args[at] if len(args) > at else kwargs[name]) if name else args and args[0], kwargs)
        except Exception as error:
            step.report(error)
        return original(*args, **kwargs)

    return hooked


def _around(original: Function, steps: HookSteps, on_return: Returned, name: str, at: int) -> Function:
    before, enter, step = steps.before, steps.enter or bool, steps.step

    def hooked(*args: Any, **kwargs: Any) -> Any:
        try:
            state = before(args, (args[at] if len(args) > at else kwargs[name]) if name else args and args[0], kwargs)
        except Exception as error:
            step.report(error)
            state = None
        if state is None:
            return original(*args, **kwargs)
        result = _ABSENT
        try:
            try:
                enter(state)
            except Exception as error:
                step.report(error)
            result = original(*args, **kwargs)
            replacement = on_return(state, result)
            return result if replacement is None else replacement  # an interrupt may come here too
        except BaseException as error:
            try:
                is_own = _is_own_failure(steps, state, result, error)
            except BaseException as failure:
                _run_on_failure(steps, state, error)
                if not step.swallow(failure):  # an interrupt
                    raise
                is_own = result is not _ABSENT and step.swallow(error)
            if is_own:
                return result
            raise

    return hooked


def _around_async(original: Function, steps: HookSteps, on_return: Returned, name: str, at: int) -> Function:
    before, enter, step = steps.before, steps.enter or bool, steps.step

    async def hooked(*args: Any, **kwargs: Any) -> Any:
        try:
            state = before(args, (args[at] if len(args) > at else kwargs[name]) if name else args and args[0], kwargs)
        except Exception as error:
            step.report(error)
            state = None
        if state is None:
            return await original(*args, **kwargs)
        result = _ABSENT
        try:
            try:
                enter(state)
            except Exception as error:
                step.report(error)
            result = await original(*args, **kwargs)
            replacement = on_return(state, result)
            return result if replacement is None else replacement  # an interrupt may come here too
        except BaseException as error:
            try:
                is_own = _is_own_failure(steps, state, result, error)
            except BaseException as failure:
                _run_on_failure(steps, state, error)
                if not step.swallow(failure):  # an interrupt
                    raise
                is_own = result is not _ABSENT and step.swallow(error)
            if is_own:
                return result
            raise

    return hooked


def _is_own_failure(steps: HookSteps, state: object, result: object, error: BaseException) -> bool:
    """Run the step that an exception requires; return False if the caller gets it, True if the caller gets `result`."""
    if result is not _ABSENT and steps.step.swallow(error):
        _run_on_failure(steps, state, None)
        return True
    _run_on_error(steps, state, error)
    return False


def _run_on_error(steps: HookSteps, state: object, error: BaseException) -> None:
    if steps.on_error is not None:
        try:
            steps.on_error(state, error)
        except Exception as failure:
            steps.step.report(failure)
            _run_on_failure(steps, state, error)


def _run_on_failure(steps: HookSteps, state: object, error: BaseException | None) -> None:
    if steps.on_failure is not None:
        with steps.step:
            steps.on_failure(state, error)


class HookContext:
    """Connects the hooks with the rest of callspan; safe from any thread."""

    def __init__(self) -> None:
        self.factories: Mapping[Content, CallFactory] = {}
        """The call factory for each content level; empty if not instrumented, so that calls pass straight through."""
        self.content: Content = "full"
        """The current content level, unless a block sets a stricter one."""
        self.propagate = False
        """Whether to send W3C `traceparent` with provider requests."""
        self.stream_usage = False
        """Whether to request the usage of chat streams, see `streams.request_usage`."""
        self.sources: frozenset[str] = frozenset()
        """What calls are recorded from: SDKs by name, and `http`. Websockets are hooked for several of them at once."""
        self.http_calls = False
        """Whether requests of any code to models are calls, see `wire_calls`."""
        self.left_out: tuple[SdkProfile, ...] = ()
        """The SDKs whose calls are not recorded."""
        self.hashes_audio = False
        """Whether audio of websockets is hashed instead of only counted."""
        self.warned_about_other_tracers = False
        """Whether other instrumentations were searched for since the last `instrument()`."""
        self.deferred_ends = DeferredEnds()
        self.prepare: Callable[[], object] = nothing
        """Imports the modules that calls require besides the adapters of their SDK; called when an SDK is patched."""
        self.agents: Callable[[], AgentReceiver] | None = None
        """Returns the receiver for agents that this process starts; None if their telemetry is not to be received."""
        self.unrecorded: Callable[[str], object] = nothing
        """Takes method and path of each request that may cost money but leaves no record."""

    def factory(self) -> CallFactory | None:
        """Return the factory for a call made now; None if it must not be observed.

        If OpenTelemetry's instrumentation is suppressed, calls have a record and the metric of its cost, no span.
        """
        context = current_context()
        if lacks_session(context) or is_isolated() or is_below_whole_call():
            return None
        level = content_of(context)
        factory = self.factories.get(self.content if level is None else strictest(self.content, level))
        return factory if factory is None or is_instrumentation_enabled() else factory.without_telemetry()

    def warn_about_other_tracers(self) -> None:
        """Warn about other instrumentations at the first call, when they are installed."""
        with _LOOK:
            other_instrumentations.warn_once()
        self.warned_about_other_tracers = True


HOOK_CONTEXT: Final = HookContext()
"""The hook context of this process."""


def _forward(*args: Any, callspan_hook: Callable[..., Any], **kwargs: Any) -> Any:
    return callspan_hook(*args, **kwargs)


async def _forward_async(*args: Any, callspan_hook: Callable[..., Any], **kwargs: Any) -> Any:
    return await callspan_hook(*args, **kwargs)


class CodeHook:
    """A hook inside the code of a function, so that every reference to the function runs it.

    A library that wrapped the function earlier, or wraps the method of one client, holds a reference to it, in a
    closure or a bound method. It never looks up the name again, so that a replacement under the name would not be
    called. Therefore the function stays and its code is replaced: it forwards to the hook. The hook's original is a
    copy of the function with the old code.
    """

    def __init__(self, function: FunctionType, make: Callable[[FunctionType], Callable[..., Any]]) -> None:
        """`make` creates the hook of the original."""
        self.function = function
        self.original = _copy(function)
        forward = _forward_async if inspect.iscoroutinefunction(function) else _forward
        self._code = forward.__code__.replace(
            co_freevars=function.__code__.co_freevars, co_name=function.__code__.co_name
        )
        hook = make(self.original)
        vars(function)["__wrapped__"] = self.original  # `inspect.signature` shows it
        # The code is replaced last: the original code ignores the additional default if another thread calls it now.
        function.__kwdefaults__ = {**(function.__kwdefaults__ or {}), _HOOK: hook}
        function.__code__ = self._code

    def remove(self) -> bool:
        """Restore the function; change nothing and return False if other code has replaced the hook's."""
        if self.function.__code__ is not self._code:
            return False
        self.function.__code__ = self.original.__code__
        self.function.__kwdefaults__ = self.original.__kwdefaults__
        vars(self.function).pop("__wrapped__", None)
        return True


def innermost(function: object) -> FunctionType | None:
    """Return the function inside all wrappers with `__wrapped__`; None if it is not a Python function."""
    inner = _unwrapped(function) if callable(function) else None
    return inner if isinstance(inner, FunctionType) else None


def calls_hook(function: Callable[..., object]) -> bool:
    """Return whether a function, or one that it wraps according to `__wrapped__`, has a hook."""
    return _is_hooked(_unwrapped(function))


def _unwrapped(function: Callable[..., object]) -> object:
    try:
        return inspect.unwrap(function, stop=_is_hooked)
    except ValueError:  # a cycle of `__wrapped__`
        return function


def _is_hooked(function: object) -> bool:
    return _HOOK in (getattr(function, "__kwdefaults__", None) or ())


def _copy(function: FunctionType) -> FunctionType:
    copied = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    update_wrapper(copied, function)
    del vars(copied)["__wrapped__"]
    vars(copied).update(vars(function))  # a hook shows its parameters by what it wraps
    return copied
