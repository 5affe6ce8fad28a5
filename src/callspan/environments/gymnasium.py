"""Gymnasium: wrappers that record episodes as sessions on `reset` and `step`, with a timestep for every turn.

Needs Gymnasium 1.0 or newer: `pip install "callspan[gymnasium]"`. Importing `callspan` does not import it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, SupportsFloat, TypeAlias
from weakref import WeakSet

import gymnasium
from gymnasium.vector import VectorWrapper
from gymnasium.vector.utils import iterate
from opentelemetry.context import attach, get_current, set_value
from opentelemetry.trace import get_current_span, set_span_in_context

from callspan.agent.api import session
from callspan.agent.arguments import SupportsBool, as_dict, as_text
from callspan.agent.context import SCOPE
from callspan.agent.operations import without_none
from callspan.agent.sessions import Session
from callspan.agent.timesteps import Timestep
from callspan.agent.tree import Node, scope_of
from callspan.record.plain_json import TRUNCATED_KEY
from callspan.runtime.fail_open import fail_open, value_of

if TYPE_CHECKING:
    Env: TypeAlias = gymnasium.Env[Any, Any]
    VectorEnv: TypeAlias = gymnasium.vector.VectorEnv[Any, Any, Any]
    _Wrapper: TypeAlias = gymnasium.Wrapper[Any, Any, Any, Any]
    _VectorWrapper: TypeAlias = VectorWrapper[Any, Any, Any, Any, Any]
else:
    _Wrapper, _VectorWrapper = gymnasium.Wrapper, VectorWrapper

_MAX_ELEMENTS: Final = 1024
_RECORD: Final = fail_open("record a step of an environment")
_MAX_DEPTH: Final = 16
_EPISODES: Final[WeakSet[Node]] = WeakSet()
"""The sessions and turns of environments."""
ABANDONED: Final = "abandoned"
"""Outcome of an episode that was reset or closed before its end."""


class Episode:
    """The current or last episode of an environment, or of a slot of a vector environment."""

    session: Session | None = None
    """The session of the current or last episode; None before the first reset."""
    timestep: Timestep | None = None
    """The current timestep; None between episodes."""
    _becomes_current: ClassVar[bool] = False
    """Whether its session and timesteps are current for the code that resets and steps."""

    def _begin(self, session: Session, observation: object) -> None:
        """Start the session, in the scope around all episodes and beside those of other environments."""
        current = outer = get_current()
        scope = scope_of(current)
        while scope is not None and scope in _EPISODES and scope.outer is not None:
            outer = scope.outer
            scope = scope_of(outer)
        attach(set_value(SCOPE, scope, set_span_in_context(get_current_span(outer), current)))
        self.session = session.start(current=self._becomes_current)
        if self._becomes_current:
            session.outer = current
        else:
            attach(current)
        _EPISODES.add(session)
        session.observation(observation)
        self._next_turn(session)

    def _next_turn(self, session: Session) -> None:
        self.timestep = session.timestep()
        self.timestep.start(current=self._becomes_current)
        _EPISODES.add(self.timestep)

    def _end_turn(self, *, is_over: bool) -> None:
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

    def _abandon(self) -> None:
        """Close the open session with the outcome `abandoned`."""
        if self.timestep is None or self.session is None:
            return
        with _RECORD:
            # Also for the last timestep, which would otherwise look like a played turn.
            self.timestep.update(status=ABANDONED)
            self.session.outcome(status=ABANDONED)
        self._end_turn(is_over=True)


class _Recording(NamedTuple):
    """How the episodes of a wrapped environment are recorded."""

    name: str
    labels: Mapping[str, Any]
    metadata: Mapping[str, object]
    max_elements: int

    def session(self, of_episode: Mapping[str, object]) -> Session:
        """Return the session of a new episode, with what is known of it besides the environment's metadata."""
        return session(self.name, **self.labels, metadata={**self.metadata, **without_none(of_episode)})

    def state(self, state: object) -> object:
        """Return an observation, an action or an info as it is recorded."""
        return state_json(state, self.max_elements)

    def states(self, space: Any, batch: object) -> Iterable[object]:
        """Return the states of the slots in a batch."""
        return map(self.state, iterate(space, batch))


class Traced(Episode, _Wrapper):
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
        labels = {"user_id": user_id, "group_id": group_id, "task_id": task_id, "experiment": experiment}
        self._recording = _Recording(_name_of(env, name), labels, as_dict(metadata), max_elements)

    _becomes_current = True

    def __getstate__(self) -> dict[str, object]:
        """Return the state of a copy, which records nothing before its first reset."""
        return {**self.__dict__, "session": None, "timestep": None}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and open the session of a new episode."""
        self._abandon()
        result = self.env.reset(seed=seed, options=options)
        with _RECORD:
            episode = self._recording.session({"seed": seed, "options": options or None})
            self._begin(episode, self._recording.state(result[0]))
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment; record the action and its result, and open the next timestep or end the episode."""
        with _RECORD:
            if self.timestep is not None:
                self.timestep.action(self._recording.state(action))
        is_over = False
        with nullcontext() if self.timestep is None else self.timestep.environment_step() as world:
            result = self.env.step(action)
            with _RECORD:
                observation, reward, terminated, truncated, info = result
                is_over = bool(terminated or truncated)
                if world is not None:
                    state = self._recording.state
                    world.set_result(state(observation), reward, terminated, truncated, state(info) or None)
        self._end_turn(is_over=is_over)
        return result

    def close(self) -> None:
        """End the open session, and close the environment."""
        self._abandon()
        super().close()


class Slot(Episode):
    """A slot of a vector environment, with its current or last episode.

    Neither is current by itself, because all slots step at once: an agent's calls belong to the slot in `using`.
    """

    def using(self) -> AbstractContextManager[None]:
        """Make the slot's timestep current for a block; without effect between episodes."""
        return nullcontext() if self.timestep is None else self.timestep.using()

    def act(self, action: object) -> None:
        """Record the action of the turn, if there is one."""
        if self.timestep is not None:
            self.timestep.action(action)

    def stepped(
        self,
        observation: object,
        reward: SupportsFloat,
        terminated: SupportsBool,
        truncated: SupportsBool,
        info: object,
    ) -> None:
        """Record the result of the turn, and open the next timestep or end the episode."""
        if self.timestep is not None:
            self.timestep.environment(observation, reward, terminated, truncated, info or None)
            self._end_turn(is_over=bool(terminated or truncated))

    def begin(self, session: Session, observation: object) -> None:
        """Open the session of a new episode; a running one is abandoned."""
        self._abandon()
        self._begin(session, observation)

    def abandon(self) -> None:
        """End the episode, if one is running, with the outcome `abandoned`."""
        self._abandon()


class TracedVector(_VectorWrapper):
    """A vector environment that is recorded: a session for each slot and episode, a timestep for each turn of a slot.

    Autoreset may be in the next step, in the same step, or disabled (`reset_mask`). The step that only resets a slot is
    no turn: the environment ignores its action. Metadata has the `slot`, and its `seed` after a reset with one.

    Example:
        >>> import gymnasium
        >>> from callspan.environments.gymnasium import TracedVector
        >>> envs = TracedVector(gymnasium.make_vec("CartPole-v1", num_envs=2))
        >>> observations, infos = envs.reset(seed=7)
        >>> with envs.slots[1].using():
        ...     callspan.current_session() is envs.slots[1].session
        True
        >>> envs.close()
    """

    def __init__(
        self,
        env: VectorEnv,
        name: str | None = None,
        *,
        user_id: str | None = None,
        group_id: str | None = None,
        task_id: str | None = None,
        experiment: str | None = None,
        metadata: Mapping[str, object] | None = None,
        max_elements: int = _MAX_ELEMENTS,
    ) -> None:
        """Wrap `env`; for the arguments see `Traced`. `max_elements` is for the arrays of one slot."""
        super().__init__(env)
        labels = {"user_id": user_id, "group_id": group_id, "task_id": task_id, "experiment": experiment}
        self._recording = _Recording(_name_of(env, name), labels, as_dict(metadata), max_elements)
        self.slots = [Slot() for _ in range(env.num_envs)]
        """The slots in the environment's order."""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset all slots, or those in `options["reset_mask"]`, and open a session for each."""
        options_of_sessions = dict(options or {})
        mask = options_of_sessions.pop("reset_mask", None)  # which the environment removes
        result = self.env.reset(seed=seed, options=options)
        with _RECORD:
            observations = self._recording.states(self.env.observation_space, result[0])
            for index, observation in enumerate(observations):
                if mask is None or mask[index]:
                    slot_seed = seed + index if isinstance(seed, int) else None if seed is None else seed[index]
                    self._begin(index, observation, {"seed": slot_seed, "options": options_of_sessions or None})
        return result

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all slots; record their actions and results, and open and end their timesteps and sessions."""
        with _RECORD:
            for slot, action in zip(self.slots, self._recording.states(self.env.action_space, actions), strict=True):
                slot.act(action)
        result = self.env.step(actions)
        with _RECORD:
            self._record_results(*result)
        return result

    def close(self, **kwargs: Any) -> None:
        """End the open sessions, and close the environment."""
        with _RECORD:
            for slot in self.slots:
                slot.abandon()
        super().close(**kwargs)

    def _record_results(
        self, observations: object, rewards: Any, terminations: Any, truncations: Any, infos: Mapping[str, Any]
    ) -> None:
        mode = self.env.metadata.get("autoreset_mode")
        # Gymnasium 1.0 has no modes, and resets in the next step.
        mode = getattr(mode, "value", mode) or "NextStep"
        state, states = self._recording.state, self._recording.states(self.env.observation_space, observations)
        results = zip(states, rewards, terminations, truncations, strict=True)
        for index, (observation, reward, terminated, truncated) in enumerate(results):
            slot, info = self.slots[index], _slot_info(infos, index) if infos else {}
            if slot.timestep is None:
                if slot.session is not None and mode == "NextStep":
                    self._begin(index, observation, {})
            elif mode == "SameStep" and (terminated or truncated):
                final_observation, final_info = state(info.get("final_obs")), state(info.get("final_info"))
                slot.stepped(final_observation, reward, terminated, truncated, final_info)
                self._begin(index, observation, {})
            else:
                slot.stepped(observation, reward, terminated, truncated, state(info))

    def _begin(self, index: int, observation: object, reset_metadata: Mapping[str, object]) -> None:
        self.slots[index].begin(self._recording.session({"slot": index, **reset_metadata}), observation)


def _name_of(env: Env | VectorEnv, name: str | None) -> str:
    spec = env.spec
    return as_text(name) or (spec.id if spec is not None else type(env.unwrapped).__name__)


def _slot_info(infos: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return the info of one slot: a batch has the values of all, and under `_name` which slots have one."""
    info: dict[str, Any] = {}
    for key, values in infos.items():
        mask = infos.get(f"_{key}")
        if (key[:1] == "_" and key[1:] in infos) or (mask is not None and not mask[index]):
            continue
        info[key] = _slot_info(values, index) if isinstance(values, Mapping) else values[index]
    return info


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
