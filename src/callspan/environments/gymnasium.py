"""Gymnasium: a wrapper that records episodes as sessions on `reset` and `step`, with a timestep for every turn.

Needs Gymnasium 1.0 or newer: `pip install "callspan[gymnasium]"`. Importing `callspan` does not import it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakSet

import gymnasium
from opentelemetry.context import attach, get_current, set_value
from opentelemetry.trace import get_current_span, set_span_in_context

from callspan.agent.api import session
from callspan.agent.arguments import as_dict, as_text
from callspan.agent.context import SCOPE
from callspan.agent.operations import without_none
from callspan.agent.sessions import Session
from callspan.agent.timesteps import Timestep
from callspan.agent.tree import Node, scope_of
from callspan.record.plain_json import TRUNCATED_KEY
from callspan.runtime.fail_open import fail_open, value_of

if TYPE_CHECKING:
    Env: TypeAlias = gymnasium.Env[Any, Any]
    _Wrapper: TypeAlias = gymnasium.Wrapper[Any, Any, Any, Any]
else:
    _Wrapper = gymnasium.Wrapper

_MAX_ELEMENTS: Final = 1024
_RECORD: Final = fail_open("record a step of an environment")
_MAX_DEPTH: Final = 16
_EPISODES: Final[WeakSet[Node]] = WeakSet()
"""The sessions and turns of environments."""
ABANDONED: Final = "abandoned"
"""Outcome of an episode that was reset or closed before its end."""


class Traced(_Wrapper):
    """An environment that is recorded: each `reset` opens a session, each turn is a timestep.

    The timestep is open and current from one `reset` or `step` until the next `step` has returned, so that calls of the
    agent in between belong to it. The environment's step has its own span inside.

    Example:
        >>> import gymnasium
        >>> from callspan.environments.gymnasium import Traced
        >>> env = Traced(gymnasium.make("CartPole-v1"), user_id="u1")
        >>> observation, info = env.reset(seed=7)
        >>> env.session.state
        'running'
        >>> env.close()
    """

    def __init__(
        self,
        env: Env,
        name: str | None = None,
        *,
        user_id: str | None = None,
        group_id: str | None = None,
        task_id: str | None = None,
        experiment: str | None = None,
        metadata: Mapping[str, object] | None = None,
        max_elements: int = _MAX_ELEMENTS,
    ) -> None:
        """Wrap `env`; the other arguments identify its sessions, see `callspan.session`.

        Args:
            env: The environment.
            name: Name of the sessions; by default the id of the environment's spec.
            user_id: As for a session.
            group_id: As for a session.
            task_id: As for a session.
            experiment: As for a session.
            metadata: As for a session; `seed` and `options` of the reset are added.
            max_elements: Larger arrays are recorded by shape, type and range.
        """
        super().__init__(env)
        self._session_arguments: dict[str, Any] = {
            "name": as_text(name) or _name(env), "user_id": user_id, "group_id": group_id, "task_id": task_id,
            "experiment": experiment,
        }  # fmt: skip
        self._session_metadata = as_dict(metadata)
        self._max_elements = max_elements
        self.session: Session | None = None
        """The session of the current or last episode; None before the first reset."""
        self.timestep: Timestep | None = None
        """The current timestep; None between episodes."""

    def __getstate__(self) -> dict[str, object]:
        """Return the state of a copy, which records nothing before its first reset."""
        return {**self.__dict__, "session": None, "timestep": None}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and open the session of a new episode."""
        self._abandon()
        result = self.env.reset(seed=seed, options=options)
        with _RECORD:
            observation = self._state(result[0])
            reset_metadata = without_none({"seed": seed, "options": options or None})
            self.session = _started(
                session(**self._session_arguments, metadata={**self._session_metadata, **reset_metadata})
            )
            self.session.observation(observation)
            self._next_turn(self.session)
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment; record the action and its result, and open the next timestep or end the episode."""
        with _RECORD:
            if self.timestep is not None:
                self.timestep.action(self._state(action))
        is_over = False
        with nullcontext() if self.timestep is None else self.timestep.environment_step() as world:
            result = self.env.step(action)
            with _RECORD:
                observation, reward, terminated, truncated, info = result
                is_over = bool(terminated or truncated)
                if world is not None:
                    info_state = self._state(info) or None
                    world.set_result(self._state(observation), reward, terminated, truncated, info_state)
        self._turn(is_over=is_over)
        return result

    def close(self) -> None:
        """End the open session, and close the environment."""
        self._abandon()
        super().close()

    def _turn(self, *, is_over: bool) -> None:
        """Close the timestep, and open the next one or, if the episode is over, close the session."""
        step, session = self.timestep, self.session
        self.timestep = None
        if step is None or session is None:
            return
        with _RECORD:
            step.end()
            if is_over:
                session.end()
            else:
                self._next_turn(session)

    def _next_turn(self, session: Session) -> None:
        self.timestep = session.timestep()
        self.timestep.start()
        _EPISODES.add(self.timestep)

    def _abandon(self) -> None:
        """Close the open session with the outcome `abandoned`."""
        if self.timestep is None or self.session is None:
            return
        with _RECORD:
            # Also for the last timestep, which would otherwise look like a played turn.
            self.timestep.update(status=ABANDONED)
            self.session.outcome(status=ABANDONED)
        self._turn(is_over=True)

    def _state(self, state: object) -> object:
        return state_json(state, self._max_elements)


def _started(session: Session) -> Session:
    """Start the session in the scope around all episodes, beside the episodes of other environments."""
    current = outer = get_current()
    scope = scope_of(current)
    while scope is not None and scope in _EPISODES and scope.outer is not None:
        outer = scope.outer
        scope = scope_of(outer)
    attach(set_value(SCOPE, scope, set_span_in_context(get_current_span(outer), current)))
    session.start()
    session.outer = current
    _EPISODES.add(session)
    return session


def _name(env: Env) -> str:
    spec = env.spec
    return spec.id if spec is not None else type(env.unwrapped).__name__


def state_json(state: object, max_elements: int, depth: int = 0) -> object:
    """Return a state as plain values: arrays as lists, larger ones than `max_elements` as shape, type and range.

    Lists are truncated to `max_elements` items and a note of their length. Other values are unchanged.
    """
    if depth >= _MAX_DEPTH:
        return "<too deep>"
    if isinstance(state, Mapping):
        return {str(key): state_json(item, max_elements, depth + 1) for key, item in state.items()}
    if isinstance(state, list | tuple):
        items = [state_json(item, max_elements, depth + 1) for item in state[:max_elements]]
        return items if len(state) <= max_elements else [*items, {TRUNCATED_KEY: {"items": len(state)}}]
    shape = getattr(state, "shape", None)  # not `size`, which is a method of a PyTorch tensor
    if isinstance(shape, tuple) and hasattr(state, "tolist"):
        return state.tolist() if math.prod(shape) <= max_elements else _array_summary(state)
    return state


def _array_summary(array: object) -> dict[str, object]:
    fields = {"shape": list(getattr(array, "shape", ())), "dtype": str(getattr(array, "dtype", "unknown"))}
    extremes = {name: value_of(partial(methodcaller(name), array)) for name in ("min", "max")}
    return {"callspan_array": fields | {name: value for name, value in extremes.items() if value is not None}}
