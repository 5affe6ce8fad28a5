"""Hooks: the functions that replace those of the SDKs, the HTTP library and OpenTelemetry; and the state they share.

Such a function accepts any arguments and calls the original with exactly these, once. The code of callspan around the
call is guarded: its exceptions are reported and cost telemetry, never the call.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import update_wrapper
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from callspan.agent.context import content_of
from callspan.agent.requirement import lacks_session
from callspan.background import is_apart
from callspan.fail_open import fail_open, reported
from callspan.intercept import other_instrumentations
from callspan.observe.deferred_ends import DeferredEnds
from callspan.observe.ports import CallFactory
from callspan.settings import Content, strictest

Function: TypeAlias = Callable[..., Any]
Reader: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], Any]
"""Reads one argument from those of a call; raises NotGivenError if it was not given."""

_ABSENT: Final[Any] = object()
_LOOK: Final = fail_open("look for other instrumentations")
_DATA: Final = frozenset({"data", "cast_to", "response"})
"""Parameters of `_process_response_data`."""
VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
"""Kinds of parameters that take any arguments."""


class NotGivenError(LookupError):
    """An argument that a hook reads was not given. `patch_status` reports changed signatures."""


class Follower(Protocol):
    """Receives the parsed JSON of a response. Does not raise."""

    data: Callable[[object], None]


class Followers(NamedTuple):
    """Who receives the parsed JSON of a response."""

    by_id: Mapping[int, Follower]
    """By `id()` of the response."""
    running: Mapping[int, object]
    """Not empty while there may be a current one."""
    current: ContextVar[Any]
    """The follower of this context, which has as `read` the response that it follows if that has no other; or None."""


class HookSteps(msgspec.Struct, frozen=True, kw_only=True):
    """The steps around a hooked function. If a step raises, that is reported and the call continues."""

    step: fail_open
    begin: Callable[[tuple[Any, ...], dict[str, Any]], object]
    """Takes the arguments, the instance first; returns the argument of the other steps, None: nothing to observe."""
    returned: Callable[[Any, Any], object] | None = None
    """Takes the result; returns its replacement for the caller, or None for the result itself."""
    raised: Callable[[Any, BaseException], object] | None = None
    """Takes the exception, which is raised to the caller."""
    enter: Callable[[Any], object] | None = None
    """Does what `returned` and `raised` undo. Raises only interrupts, which `raised` receives."""
    pause: Callable[[Any], object] | None = None
    """Called if the result must still be awaited; `enter` follows in the context in which it is awaited."""


def guarded(original: Function, steps: HookSteps, *, is_async: bool = False) -> Function:
    """Return a function that does the same as `original`, with the steps around it.

    `is_async` is also True for functions that return awaitables but are not coroutine functions, as wrappers may be.
    """
    if steps.returned is None and steps.raised is None:
        hooked = _before(original, steps)
    elif is_async or inspect.iscoroutinefunction(original):
        hooked = _around_async(original, steps)
    else:
        hooked = _around(original, steps)
    return update_wrapper(hooked, original)


def silenced(original: Function, step: fail_open, is_replaced: Callable[[tuple[Any, ...]], bool]) -> Function:
    """Return a function that does the same as `original`; where `is_replaced`, given the arguments, nothing."""

    def hooked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the original's own
        try:
            if is_replaced(args):
                return None
        except Exception:
            if not _swallowed(step):
                raise
        return original(*args, **kwargs)

    return update_wrapper(hooked, original)


def guarded_data(original: Function, step: fail_open, followed: Followers) -> Function:
    """Return a function that first passes `data` to the follower of `response`, then does the same as `original`.

    For functions called for every chunk of a stream, at minimal cost.
    """
    if inspect.isfunction(original) and not hasattr(original, "__wrapped__"):
        given = [*parameters(original).values()][1:]
        are_usual = all(each.kind is each.KEYWORD_ONLY and each.default is each.empty for each in given)
        if are_usual and {each.name for each in given} == _DATA:
            return update_wrapper(_data_hook(original, step, followed), original)
    data_of, response_of = reader(original, "data", 1), reader(original, "response", 3)
    # The same for a function that is given these in another way.
    show = _data_hook(lambda *_, **__: None, step, followed)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        show(args[0], data=data_of(args, kwargs), cast_to=None, response=response_of(args, kwargs))

    return guarded(original, HookSteps(step=step, begin=begin))


def _data_hook(original: Function, step: fail_open, followed: Followers) -> Function:
    """Return the hook of a function with the keyword-only parameters of today's SDKs, which costs half of the other."""
    follower_of, running, current_one = followed.by_id.get, followed.running, followed.current.get

    def hooked(self: Any, /, *, data: Any, cast_to: Any, response: Any) -> Any:  # noqa: ANN401 - the original's own
        try:
            follower = follower_of(id(response))
            if follower is None and running and (current := current_one()) is not None and current.read is response:
                follower = current
            if follower is not None:
                # Read first: CPython 3.11 looks up a callable that is called from a slot like a method.
                show = follower.data
                show(data)
        except Exception:
            if not _swallowed(step):
                raise
        return original(self, data=data, cast_to=cast_to, response=response)

    return hooked


class Argument(NamedTuple):
    """One parameter of a hooked function. `args[at]`, where there are so many, else `read(args, kwargs)`.

    The SDKs give most by position: those are read without a call of a function.
    """

    at: int
    read: Reader


def argument(original: Function, name: str, position: int) -> Argument:
    """Return the required parameter `name` of calls to `original`, see `reader`."""
    return Argument(_place_of(original, name, position), reader(original, name, position))


def _place_of(original: Function, name: str, position: int) -> int:
    names = [known for known, parameter in parameters(original).items() if parameter.kind not in VARIADIC]
    return names.index(name) if name in names else position


def reader(original: Function, name: str, position: int, default: object = _ABSENT) -> Reader:
    """Return a reader of the parameter `name` of calls to `original`.

    `position`, counting the instance, is its expected position; the signature of `original` takes precedence. Without a
    `default` the argument is required.
    """
    at = _place_of(original, name, position)

    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any argument
        if name in kwargs:
            return kwargs[name]
        if at < len(args):
            return args[at]
        if default is _ABSENT:
            raise NotGivenError(name)
        return default

    return read


def parameters(original: Function) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function by name; empty where they are unknown."""
    try:
        return inspect.signature(original).parameters
    except (TypeError, ValueError):
        return {}


def _before(original: Function, steps: HookSteps) -> Function:
    begin, step = steps.begin, steps.step

    def hooked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the original's own
        try:
            begin(args, kwargs)
        except Exception:
            if not _swallowed(step):
                raise
        return original(*args, **kwargs)

    return hooked


def _around(original: Function, steps: HookSteps) -> Function:
    begin, enter, returned, step = steps.begin, steps.enter or bool, steps.returned or _nothing, steps.step
    plain: type | None = None

    def hooked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the original's own
        nonlocal plain
        try:
            state = begin(args, kwargs)
        except _swallowed(step):
            state = None
        if state is None:
            return original(*args, **kwargs)
        result = _ABSENT
        try:
            enter(state)
            result = original(*args, **kwargs)
            kind = type(result)
            # A hook mostly returns one type. The class is checked without reading attributes: slow for pydantic.
            if kind is not plain:
                if issubclass(kind, Awaitable):
                    return _awaited_later(steps, state, result)
                plain = kind
            replacement = returned(state, result)
            return result if replacement is None else replacement  # noqa: TRY300 - an interrupt may come here too
        except BaseException as error:
            if result is not _ABSENT and isinstance(error, _swallowed(step)):
                return result
            _raised(steps, state, error)
            raise

    return hooked


def _around_async(original: Function, steps: HookSteps) -> Function:
    begin, enter, returned, step = steps.begin, steps.enter or bool, steps.returned or _nothing, steps.step

    async def hooked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the original's own
        try:
            state = begin(args, kwargs)
        except _swallowed(step):
            state = None
        if state is None:
            return await original(*args, **kwargs)
        result = _ABSENT
        try:
            enter(state)
            result = await original(*args, **kwargs)
            replacement = returned(state, result)
            return result if replacement is None else replacement  # noqa: TRY300 - an interrupt may come here too
        except BaseException as error:
            if result is not _ABSENT and isinstance(error, _swallowed(step)):
                return result
            _raised(steps, state, error)
            raise

    return hooked


def _awaited_later(steps: HookSteps, state: object, awaitable: Awaitable[Any]) -> Awaitable[Any]:
    """Observe a function that was called as a plain function and returned an awaitable."""
    if steps.pause is not None:
        with steps.step:
            steps.pause(state)

    async def original() -> Any:  # noqa: ANN401 - the original's own
        return await awaitable

    awaited: Awaitable[Any] = _around_async(original, msgspec.structs.replace(steps, begin=lambda *_: state))()
    return awaited


def _raised(steps: HookSteps, state: object, error: BaseException) -> None:
    if steps.raised is not None:
        with steps.step:
            steps.raised(state, error)


def _nothing(state: object, result: object) -> None:
    """Return no replacement."""


def _swallowed(step: fail_open) -> tuple[type[Exception], ...]:
    """Return what an `except` clause names to swallow exceptions of callspan; a missing argument is not reported."""
    return (NotGivenError,) if isinstance(sys.exc_info()[1], NotGivenError) else reported(step)


def not_prepared() -> None:
    """Placeholder if nothing is instrumented."""


def not_counted(request: str) -> None:
    """Placeholder if nothing is instrumented."""


class HookContext:
    """Connects the hooks with the rest of callspan; one per process, safe from any thread."""

    def __init__(self) -> None:
        self.factories: Mapping[Content, CallFactory] = {}
        """The call factory for each content setting; empty: not instrumented, calls pass straight through."""
        self.content: Content = "full"
        """The current content setting, unless a block sets a stricter one."""
        self.propagate = False
        """Whether to send W3C `traceparent` with provider requests."""
        self.stream_usage = False
        """Whether to request the usage of chat streams, see `streams.request_usage`."""
        self.warned_about_other_tracers = False
        """Whether other instrumentations were searched for since the last `instrument()`."""
        self.missing: set[tuple[str, str]] = set()
        """SDK and name of each function that could not be hooked; see `lacks`."""
        self.deferred_ends = DeferredEnds()
        self.prepare: Callable[[], object] = not_prepared
        """Imports the modules that calls need besides the adapters of their SDK; called when an SDK is patched."""
        self.unrecorded: Callable[[str], object] = not_counted
        """Takes method and path of each request that may cost money and leaves no record."""

    def factory(self) -> CallFactory | None:
        """Return the factory for a call made now; None if it must not be observed.

        Where OpenTelemetry's instrumentation is suppressed, its calls have a record, and neither span nor metrics.
        """
        context = otel_context.get_current()
        if lacks_session(context) or is_apart():
            return None
        requested = content_of(context)
        factory = self.factories.get(self.content if requested is None else strictest(self.content, requested))
        return factory if factory is None or is_instrumentation_enabled() else factory.without_telemetry()

    def lacks(self, sdk: str | None, name: str) -> bool:
        """Return whether a name could not be hooked in the SDK (`openai/1.2.3`), so that the caller uses a fallback."""
        return ((sdk or "").partition("/")[0], name) in self.missing

    def warn_about_other_tracers(self) -> None:
        """Warn of other instrumentations at the first call, when they are in place."""
        with _LOOK:
            other_instrumentations.warn_once(other_instrumentations.found())
        self.warned_about_other_tracers = True
