"""The session API as functions: open a session, step or tool, around a block or a function; find the current ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar, overload

from callspan.agent.api_misuse import flagged
from callspan.agent.operations import Agent, Guardrail, Handoff, Tool
from callspan.agent.runtime import installed
from callspan.agent.scope import current_scope
from callspan.agent.sessions import Identity, Session, Timestep
from callspan.agent.timesteps import Found
from callspan.agent.values import Time, as_text

_P = ParamSpec("_P")
_R = TypeVar("_R")


@overload
def session(name: Callable[_P, _R], /) -> Callable[_P, _R]: ...


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
) -> Session | Callable[_P, _R]:
    """Return a session, to be used with `with` or `async with`, or as a decorator (bare or with arguments).

    Args:
        name: What kind of episode it is; few different ones, for it is part of the span's name.
        session_id: An id of yours; None: a generated one. An id used before continues that session.
        user_id: On whose behalf; also `metadata(user_id=...)` for the calls within.
        group_id: Sessions that belong together.
        task_id: What was to be done.
        experiment: What is being tried.
        metadata: Anything JSON can hold; None values are left out.
        carrier: From `Session.carrier()` of another process: continue that session.
        parent: The session or step above, or its session's id; None: the current one.
        at: When it begins; None: when the block is entered.

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
    if callable(name):
        return Session.of(identity)(name)
    return Session.of(identity)


@overload
def timestep(name: Callable[_P, _R], /) -> Callable[_P, _R]: ...


@overload
def timestep(
    name: str | None = None,
    turn: int | None = None,
    metadata: Mapping[str, object] | None = None,
    *,
    at: Time | None = None,
) -> Timestep: ...


def timestep(
    name: str | Callable[_P, _R] | None = None,
    turn: int | None = None,
    metadata: Mapping[str, object] | None = None,
    *,
    at: Time | None = None,
) -> Timestep | Callable[_P, _R]:
    """Return a step of the session that is current when it starts; `with`, `async with`, or a decorator.

    `at` is when it begins; None: when the block is entered.

    Outside a session it opens one for itself, flagged and warned of once.

    Example:
        >>> @callspan.timestep
        ... def turn(observation: str) -> str:
        ...     return "north"
        >>> with callspan.session("gridworld"):
        ...     turn("a wall")
        'north'
    """
    if callable(name):
        return Timestep.of(_current_or_implicit)(name)
    return Timestep.of(_current_or_implicit, name, turn, metadata, at)


@overload
def tool(name: Callable[_P, _R], /) -> Callable[_P, _R]: ...


@overload
def tool(name: str | None = None, call: object = None, arguments: object = None) -> Tool: ...


def tool(
    name: str | Callable[_P, _R] | None = None, call: object = None, arguments: object = None
) -> Tool | Callable[_P, _R]:
    """Return the run of a tool in the current step; `with`, `async with`, or a decorator.

    Args:
        name: The tool's name; None: as the model called it, or as the decorated function is called.
        call: The model's request for it, whose id, name and arguments are used: a tool call of chat
            completions, a function call item of Responses, a tool use block of messages; object, dict or id.
        arguments: Instead of those of `call`; for a decorated function: those it is called with.

    Example:
        >>> @callspan.tool
        ... def add(a: int, b: int) -> int:
        ...     return a + b
        >>> add(1, 2)
        3
    """
    if callable(name):
        return Tool()(name)
    return Tool(name, call, arguments)


@overload
def invoke_agent(name: Callable[_P, _R], /) -> Callable[_P, _R]: ...


@overload
def invoke_agent(name: str | None = None, *, input: object = None, description: str | None = None) -> Agent: ...


def invoke_agent(
    name: str | Callable[_P, _R] | None = None,
    *,
    input: object = None,  # noqa: A002 - the public word
    description: str | None = None,
) -> Agent | Callable[_P, _R]:
    """Return the run of one agent, in a program of several: `with`, `async with`, or a decorator.

    Args:
        name: The agent's name; None: as the decorated function is called.
        input: What it is given; for a decorated function: its arguments.
        description: What kind of agent it is.

    Example:
        >>> with callspan.invoke_agent("planner", input="Plan a trip.") as agent:
        ...     agent.output = ["book a train"]
    """
    if callable(name):
        return Agent()(name)
    return Agent(name, input, None, description)


@overload
def guardrail(name: Callable[_P, _R], /) -> Callable[_P, _R]: ...


@overload
def guardrail(name: str | None = None, *, input: object = None) -> Guardrail: ...


def guardrail(
    name: str | Callable[_P, _R] | None = None,
    *,
    input: object = None,  # noqa: A002 - the public word
) -> Guardrail | Callable[_P, _R]:
    """Return a check of what goes into a model or comes out of it: `with`, `async with`, or a decorator.

    Args:
        name: The check's name; None: as the decorated function is called.
        input: What is checked; for a decorated function: its arguments.

    Example:
        >>> @callspan.guardrail
        ... def is_offensive(text: str) -> bool:
        ...     return "idiot" in text
        >>> is_offensive("Hello")
        False
    """
    if callable(name):
        return Guardrail()(name)
    return Guardrail(name, input)


def handoff(
    to: str, sender: str | None = None, *, call: object = None, reason: object = None, at: Time | None = None
) -> str:
    """Record that one agent passes the work on to another; return the event's id.

    Args:
        to: The agent that continues.
        sender: The agent that stops; None: the current one, see `invoke_agent`.
        call: The model's request for it, or its id, where it came as a tool call.
        reason: Why, or what is passed on; anything JSON can hold.
        at: When; None: now.

    Example:
        >>> with callspan.session("support"), callspan.invoke_agent("triage"):
        ...     event_id = callspan.handoff("billing", reason="a question about an invoice")
    """
    return Handoff.made(to, sender, call, reason, None, at)


def current_session() -> Session | None:
    """Return the session the running code is in, or None.

    Example:
        >>> callspan.current_session() is None
        True
    """
    scope = current_scope()
    session = scope.session if scope is not None else None
    return session if isinstance(session, Session) else None


def current_timestep() -> Timestep | None:
    """Return the timestep the running code is in, or None.

    Example:
        >>> with callspan.session("chat"), callspan.timestep("answer"):
        ...     callspan.current_timestep().name
        'answer'
    """
    scope = current_scope()
    step = scope.step if scope is not None else None
    return step if isinstance(step, Timestep) else None


def _current_or_implicit(start_ns: int) -> Found:
    del start_ns
    current = current_session()
    if current is not None:
        return Found(current)
    flag = flagged("outside_session", "a timestep belongs into `with callspan.session(...)`", installed())
    implicit = Session.of(Identity(name="implicit", metadata={"callspan.flags": [flag]}))
    return Found(implicit, owned=True, flag=flag)
