"""Guarded hooks: creates every function that replaces one of the SDKs, the HTTP library or OpenTelemetry.

Such a function takes any arguments and passes exactly those on, once. What callspan does around it runs
guarded: an exception of callspan is reported and costs telemetry, never the call.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import update_wrapper
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from callspan.background import AtomicFlag
from callspan.fail_open import fail_open

Function: TypeAlias = Callable[..., Any]
Reader: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], Any]
"""Reads one argument out of those a function was called with; raises NotGivenError where it was not given."""

_ABSENT: Final = object()
VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
"""Kinds of parameters that take any arguments."""


class NotGivenError(LookupError):
    """A parameter that a hook reads was not given. `patch_status` says where a signature has changed."""


class Follower(Protocol):
    """What takes the parsed JSON of a response. Does not raise."""

    data: Callable[[object], None]


class Unfollowed(NamedTuple):
    """What is done with the parsed JSON of other responses, if it has `usage`."""

    are_wanted: AtomicFlag
    """Nothing is done while it is not set."""
    note: Callable[[Any, Any], object]
    """Takes the instance and the response."""


class HookSteps(msgspec.Struct, frozen=True, kw_only=True):
    """What is done around a hooked function. Each step may raise: that is reported, and the call continues."""

    step: fail_open
    begin: Callable[[tuple[Any, ...], dict[str, Any]], object]
    """Takes the arguments, the instance first; returns what the other steps are given. None: nothing to observe."""
    returned: Callable[[Any, Any], object] | None = None
    """Takes the result; returns what the caller gets in its place, or None for the result itself."""
    raised: Callable[[Any, BaseException], object] | None = None
    """Takes the exception, which continues to the caller. Called again with what interrupts it, or `returned`."""
    enter: Callable[[Any], object] | None = None
    """Does what `returned` and `raised` undo. Raises nothing but interrupts, which `raised` receives."""
    pause: Callable[[Any], object] | None = None
    """Called where the result is still to be awaited; `enter` follows in the context it is awaited in."""


def guarded(original: Function, steps: HookSteps, *, is_async: bool = False) -> Function:
    """Return a function that does what `original` does, observed.

    `is_async` holds for functions that are awaited but are no coroutine functions, as wrappers of others may be.
    """
    if steps.returned is None and steps.raised is None:
        hooked = _before(original, steps)
    elif is_async or inspect.iscoroutinefunction(original):
        hooked = _around_async(original, steps)
    else:
        hooked = _around(original, steps)
    return update_wrapper(hooked, original)


def guarded_data(
    original: Function, step: fail_open, followed: Mapping[int, Follower], unfollowed: Unfollowed
) -> Function:
    """Return a function that does what `original` does, and shows `data` to the follower of `response` first.

    For what runs with every chunk of a stream, and costs what little can be. `followed` has followers by the identity
    of the response.
    """
    are_wanted, note = unfollowed
    data_of, response_of = reader(original, "data", 1), reader(original, "response", 3)

    def hooked(
        self: Any, /, *rest: Any, data: Any = _ABSENT, cast_to: Any = _ABSENT, response: Any = _ABSENT, **more: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - the original's own  # fmt: skip
        is_fast = cast_to is not _ABSENT and data is not _ABSENT and not rest and not more
        named = more
        try:
            if not is_fast:
                given = (("data", data), ("cast_to", cast_to), ("response", response))
                named = {name: value for name, value in given if value is not _ABSENT} | more
                args = (self, *rest)
                data, response = data_of(args, named), response_of(args, named)
            identity = id(response)
            if identity in followed:
                # Taken out first: what is kept in a slot and called there is looked up like a method, by CPython 3.11.
                show = followed[identity].data
                show(data)
            elif are_wanted and data.__class__ is dict and "usage" in data and data["usage"]:
                note(self, response)
        except Exception as error:
            if not _is_ours(step, error):
                raise
        if is_fast:
            return original(self, data=data, cast_to=cast_to, response=response)
        return original(self, *rest, **named)

    return update_wrapper(hooked, original)


def reader(original: Function, name: str, position: int, default: object = _ABSENT) -> Reader:
    """Return what reads the parameter `name` of calls to `original`.

    `position`, counted with the instance, is where it is expected; the signature of `original` knows better. Without
    a `default` it must be given.
    """
    names = [known for known, parameter in parameters(original).items() if parameter.kind not in VARIADIC]
    at = names.index(name) if name in names else position

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
        except Exception as error:
            if not _is_ours(step, error):
                raise
        return original(*args, **kwargs)

    return hooked


def _around(original: Function, steps: HookSteps) -> Function:
    begin, enter, returned, step = steps.begin, steps.enter, steps.returned, steps.step
    plain: type | None = None

    def hooked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the original's own
        nonlocal plain
        state = None
        try:
            state = begin(args, kwargs)
        except Exception as error:
            if not _is_ours(step, error):
                raise
        if state is None:
            return original(*args, **kwargs)
        try:
            if enter is not None:
                enter(state)
            result = original(*args, **kwargs)
            kind = type(result)
            # A hook gives mostly one type. The class is checked, without reading an attribute: those of pydantic answer
            # such questions at length.
            if kind is not plain:
                if issubclass(kind, Awaitable):
                    return _awaited_later(steps, state, result)
                plain = kind
            return result if returned is None else _returned(step, returned, state, result)
        except BaseException as error:
            # The original's, or what interrupts the step after it; here too one may come.
            try:
                _raised(steps, state, error)
            except BaseException as interrupt:
                _raised(steps, state, interrupt)
                raise
            raise

    return hooked


def _around_async(original: Function, steps: HookSteps) -> Function:
    begin, enter, returned, step = steps.begin, steps.enter, steps.returned, steps.step

    async def hooked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the original's own
        state = None
        try:
            state = begin(args, kwargs)
        except Exception as error:
            if not _is_ours(step, error):
                raise
        if state is None:
            return await original(*args, **kwargs)
        try:
            if enter is not None:
                enter(state)
            result = await original(*args, **kwargs)
            return result if returned is None else _returned(step, returned, state, result)
        except BaseException as error:
            try:
                _raised(steps, state, error)
            except BaseException as interrupt:
                _raised(steps, state, interrupt)
                raise
            raise

    return hooked


def _awaited_later(steps: HookSteps, state: object, awaitable: Awaitable[Any]) -> Awaitable[Any]:
    """Observe a function that was called as a plain one, and gives what is still to be awaited."""
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


def _returned(step: fail_open, returned: Callable[[Any, Any], object], state: object, result: Any) -> Any:  # noqa: ANN401 - the original's own
    try:
        replacement = returned(state, result)
    except Exception as error:
        if not _is_ours(step, error):
            raise
        return result
    return result if replacement is None else replacement


def _is_ours(step: fail_open, error: Exception) -> bool:
    """Report an exception, and return whether it is to be swallowed."""
    return isinstance(error, NotGivenError) or step.__exit__(type(error), error, error.__traceback__)
