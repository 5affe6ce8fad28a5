"""The session API: functions that open a session, timestep or tool, and return the current ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, ParamSpec, TypeVar, overload

from callspan.agent.arguments import Time, as_text
from callspan.agent.decorators import or_decorator
from callspan.agent.operations import Operations
from callspan.agent.requirement import SessionRequirement
from callspan.agent.scope import current_scope
from callspan.agent.sessions import Identity, Session
from callspan.agent.timesteps import Timestep

_P = ParamSpec("_P")
_R = TypeVar("_R")


@overload
def session(name: Callable[_P, _R], /) -> Callable[_P, _R]: ...


@overload
def session(*, require: Literal[True]) -> SessionRequirement: ...


@overload
def session(
    name: str | None = None,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    group_id: str | None = None,
    task_id: str | None = None,
    experiment: str | None = None,
    metadata: Mapping[str, object] | None = None,
    carrier: Mapping[str, str] | None = None,
    parent: Session | Timestep | str | None = None,
    at: Time | None = None,
) -> Session: ...


def session(  # noqa: PLR0913 - what a session is known by
    name: str | Callable[_P, _R] | None = None,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    group_id: str | None = None,
    task_id: str | None = None,
    experiment: str | None = None,
    metadata: Mapping[str, object] | None = None,
    carrier: Mapping[str, str] | None = None,
    parent: Session | Timestep | str | None = None,
    at: Time | None = None,
    require: bool = False,
) -> Session | SessionRequirement | Callable[_P, _R]:
    """Return a session for `with`, `async with` or as a decorator (with or without arguments).

    Args:
        name: The kind of episode; part of the span's name, so use few different ones.
        session_id: The id; None: a generated one. An id that was used before continues that session.
        user_id: The end user; also `metadata(user_id=...)` for calls in the session.
        group_id: Sessions that belong together.
        task_id: The task.
        experiment: The experiment.
        metadata: Any JSON values; None values are left out.
        carrier: The result of `Session.carrier()` in another process, to continue that session.
        parent: The parent session or timestep, or a session's id; None: the current one.
        at: Start time; None: when the block is entered.
        require: Open no session, but record calls in the block or function only below one: a call without a session
            around it runs unrecorded, without a span too. Alone; tasks, and threads by `copy_context`, follow it.

    Raises:
        TypeError: `require=True` with another argument.
        UsageError: It is started twice, or `at` is no time; only inside `callspan.testing.capture()`, see `Session`.

    Example:
        >>> with callspan.session("support", session_id="conversation-7", user_id="u1") as session:
        ...     session.id
        'conversation-7'
    """
    identity = Identity(
        name=None if callable(name) else as_text(name),
        session_id=as_text(session_id),
        user_id=as_text(user_id),
        group_id=as_text(group_id),
        task_id=as_text(task_id),
        experiment=as_text(experiment),
        metadata=metadata,
        carrier=carrier,
        parent=parent,
        at=at,
    )
    if require is True:
        if name is not None or identity != Identity():
            raise TypeError("session(require=True) opens no session, so it takes no other argument")
        return SessionRequirement()
    if callable(name):
        return Session(identity)(name)
    return Session(identity)


@or_decorator
def timestep(
    name: str | None = None,
    turn: int | None = None,
    metadata: Mapping[str, object] | None = None,
    *,
    step_id: str | None = None,
    at: Time | None = None,
) -> Timestep:
    """Return a timestep of the current session, for `with`, `async with` or as a decorator.

    `step_id` is an id of your own, unique within the session, see `Session.timestep`. `at` is the start time; None:
    when the block is entered.

    Raises:
        UsageError: It is started outside a session, or twice; only inside `callspan.testing.capture()`, see `Session`.

    Example:
        >>> @callspan.timestep
        ... def turn(observation: str) -> str:
        ...     return "north"
        >>> with callspan.session("gridworld"):
        ...     turn("a wall")
        'north'
    """
    return Timestep(name, turn, metadata, at, step_id)


_INNERMOST: Final = Operations()
tool = or_decorator(_INNERMOST.tool)
invoke_agent = or_decorator(_INNERMOST.invoke_agent)
guardrail = or_decorator(_INNERMOST.guardrail)
handoff = _INNERMOST.handoff


def current_session() -> Session | None:
    """Return the current session, or None.

    Example:
        >>> callspan.current_session() is None
        True
    """
    scope = current_scope()
    session = scope.session if scope is not None else None
    return session if isinstance(session, Session) else None


def current_timestep() -> Timestep | None:
    """Return the current timestep, or None.

    Example:
        >>> with callspan.session("chat"), callspan.timestep("answer"):
        ...     callspan.current_timestep().name
        'answer'
    """
    scope = current_scope()
    step = scope._step if scope is not None else None
    return step if isinstance(step, Timestep) else None
