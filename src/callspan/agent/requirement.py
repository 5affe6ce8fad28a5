"""Requirement: a block or function whose calls are recorded only below a session."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar

from opentelemetry.context import Context, set_value

from callspan.agent.context import SCOPE, ContextBlock
from callspan.agent.decorators import WRAPPERS

_P = ParamSpec("_P")
_R = TypeVar("_R")
_REQUIRED: Final = "callspan.session_required"


def lacks_session(context: Context) -> bool:
    """Return whether a call made in `context` is not to be recorded, because a session is required there."""
    if context.get(_REQUIRED) is None:
        return False
    scope: Any = context.get(SCOPE)
    return scope is None or scope.session is None


class SessionRequirement(ContextBlock):
    """A block in which calls are recorded only below a session, see `callspan.session`. It opens none.

    As a decorator for functions, coroutines, generators and async generators too. Follows tasks, and threads by
    `callspan.copy_context`.
    """

    __slots__ = ()
    _key = _REQUIRED

    def _within(self, outer: Context) -> Context:
        return set_value(_REQUIRED, True, outer)

    async def __aenter__(self) -> None:
        """As `with`."""
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `with`."""
        self.__exit__(kind, error, trace)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return the function with each of its calls within such a block; of a generator each advance."""
        return WRAPPERS.wrapped(function, _Fresh)


class _Fresh(SessionRequirement):
    """The block of one call of a function, with what `Wrappers` need of a scope."""

    __slots__ = ()

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Take the arguments of the call, which do not matter."""

    def start(self, *, current: bool) -> None:
        """Do nothing: a generator has it only during an advance."""

    def end(self, error: BaseException | None = None) -> None:
        """Do nothing."""

    def using(self) -> _Fresh:
        """Return itself: it may be entered again when it was left."""
        return self

    def _returned(self, result: object) -> None:
        """Do nothing."""
