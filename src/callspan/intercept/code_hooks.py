"""Code hooks: a hook inside a function's code, which every holder of the function runs.

A library that wrapped a function before callspan, or wraps the method of one client, keeps the function itself: in a
closure, in a bound method, in what it will restore. It does not look the name up again, so a replacement under that
name would never be called. So the function stays, and its code is replaced: it forwards to the hook, whose original is
a copy of the function with the code as it was.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import update_wrapper
from types import FunctionType
from typing import Any, Final

_HOOK: Final = "callspan_hook"
"""The keyword-only parameter of the new code whose default is the hook."""


def _forward(*args: Any, callspan_hook: Callable[..., Any], **kwargs: Any) -> Any:
    return callspan_hook(*args, **kwargs)


async def _forward_async(*args: Any, callspan_hook: Callable[..., Any], **kwargs: Any) -> Any:
    return await callspan_hook(*args, **kwargs)


class CodeHook:
    """A hook in the code of a function."""

    def __init__(self, function: FunctionType, make: Callable[[FunctionType], Callable[..., Any]]) -> None:
        """`make` makes the hook of the original."""
        self.function = function
        self.original = _copy(function)
        forward = _forward_async if inspect.iscoroutinefunction(function) else _forward
        self._code = forward.__code__.replace(
            co_freevars=function.__code__.co_freevars, co_name=function.__code__.co_name
        )
        hook = make(self.original)
        vars(function)["__wrapped__"] = self.original  # whose signature is shown
        # The code comes last: the original code does not mind the further default, if a thread calls it now.
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
    """Return the function inside all wrappers that name the wrapped function; None if it is not a Python function."""
    found = _unwrapped(function) if callable(function) else None
    return found if isinstance(found, FunctionType) else None


def calls_hook(function: Callable[..., object]) -> bool:
    """Return whether a function has a hook, or is a wrapper that names a function with one."""
    return _is_hooked(_unwrapped(function))


def _unwrapped(function: Callable[..., object]) -> object:
    try:
        return inspect.unwrap(function, stop=_is_hooked)
    except ValueError:  # wrappers that name each other
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
    return copied
