"""Session requirement: a block or function that records calls only inside a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from opentelemetry.context import Context, set_value

from callspan.agent.context import AsyncWithMixin, ContextBlock
from callspan.agent.decorators import AdvanceBlock, decorated
from callspan.agent.tree import scope_of

_P = ParamSpec("_P")
_R = TypeVar("_R")
_REQUIRED: Final = "callspan.session_required"


def lacks_session(context: Context) -> bool:
    """Return whether a call in `context` must not be recorded, because a required session is missing."""
    if context.get(_REQUIRED) is None:
        return False
    scope = scope_of(context)
    return scope is None or scope.session is None


class SessionRequirement(ContextBlock, AsyncWithMixin, AdvanceBlock):
    """A block that records calls only inside a session, see `callspan.session`.

    Also a decorator for functions, coroutines, generators and async generators. It applies to tasks, and to threads
    with `callspan.copy_context`.
    """

    __slots__ = ()
    _key = _REQUIRED

    def _within(self, outer: Context) -> Context:
        return set_value(_REQUIRED, object(), outer)  # blocks are told apart by identity

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return the function with such a block around each call or, for a generator, around each of its steps."""
        return decorated(function, lambda _: lambda *_, **__: SessionRequirement())
