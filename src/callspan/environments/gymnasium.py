"""Gymnasium: wrappers that record episodes as sessions on `reset` and `step`, with a timestep for every turn.

Needs Gymnasium 1.0 or newer: `pip install "callspan[gymnasium]"`. Importing `callspan` does not import it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import gymnasium
import msgspec
from gymnasium.vector.utils import iterate

from callspan.agent.operations import EnvironmentStep, StepResult
from callspan.agent.sessions import Identity, Session
from callspan.agent.timesteps import Timestep
from callspan.fail_open import fail_open, value_of
from callspan.record.bounded import text_attribute

if TYPE_CHECKING:
    Env: TypeAlias = gymnasium.Env[Any, Any]
    VectorEnv: TypeAlias = gymnasium.vector.VectorEnv[Any, Any, Any]
    _Wrapper: TypeAlias = gymnasium.Wrapper[Any, Any, Any, Any]
    _VectorWrapper: TypeAlias = gymnasium.vector.VectorWrapper[Any, Any, Any, Any, Any]
else:
    _Wrapper = gymnasium.Wrapper
    _VectorWrapper = gymnasium.vector.VectorWrapper

_MAX_ELEMENTS: Final = 1024
_RECORD: Final = fail_open("record a step of an environment")
_MAX_DEPTH: Final = 16
_CHARACTERS_PER_ELEMENT: Final = 16
ABANDONED: Final = "abandoned"
"""Outcome of an episode that was reset or closed before its end."""


class _RecordingWrapper(ABC):
    """The base of both wrappers. It must precede Gymnasium's own wrapper among the bases."""

    def __init__(
        self,
        env: Env | VectorEnv,
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
            metadata: As for a session; `seed` and `options` of the reset are added and, for a vector environment, the
                number `sub_environment`.
            max_elements: Larger arrays are recorded by shape, type and range.
        """
        super().__init__(env)  # type: ignore[call-arg]
        identity = Identity(
            name=name or _name(env), user_id=user_id, group_id=group_id, task_id=task_id, experiment=experiment,
            metadata=metadata,
        )  # fmt: skip
        self._prepare(identity, max_elements)

    @abstractmethod
    def _prepare(self, identity: Identity, max_elements: int) -> None:
        """Create the recorders of the episodes."""


class Traced(_RecordingWrapper, _Wrapper):
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

    _episodes: Episodes

    def _prepare(self, identity: Identity, max_elements: int) -> None:
        self._episodes = Episodes(identity, current=True, max_elements=max_elements)

    @property
    def session(self) -> Session | None:
        """The session of the current or last episode; None before the first reset."""
        return self._episodes.session

    @property
    def timestep(self) -> Timestep | None:
        """The current timestep; None between episodes."""
        return self._episodes.timestep

    def using(self) -> AbstractContextManager[None]:
        """Return a context manager that makes the timestep current in another thread or task than that of `step`."""
        return self._episodes.using()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and open the session of a new episode."""
        self._episodes.abandon()
        result = self.env.reset(seed=seed, options=options)
        with _RECORD:
            self._episodes.begin(result[0], _about(seed, options))
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment; record the action and its result, and open the next timestep or end the episode."""
        episodes = self._episodes
        episodes.act(action)
        over = False
        with episodes.world() as world:
            result = self.env.step(action)
            with _RECORD:
                observation, reward, terminated, truncated, info = result
                over = bool(terminated or truncated)
                episodes.record(StepResult(observation, reward, terminated, truncated, info=info), world)
        episodes.turn(over=over)
        return result

    def close(self) -> None:
        """End the open sessions, and close the environment."""
        self._episodes.abandon()
        super().close()


class TracedVector(_RecordingWrapper, _VectorWrapper):
    """A vector environment that is recorded: one session per sub-environment and episode, none of them current.

    `using(i)` makes the timestep of sub-environment `i` current for a block. All autoreset modes are supported.

    Example:
        >>> import gymnasium
        >>> from callspan.environments.gymnasium import TracedVector
        >>> envs = TracedVector(gymnasium.make_vec("CartPole-v1", num_envs=2))
        >>> observations, infos = envs.reset(seed=7)
        >>> [session.state for session in envs.sessions]
        ['running', 'running']
        >>> envs.close()
    """

    _episodes: list[Episodes]

    def _prepare(self, identity: Identity, max_elements: int) -> None:
        about = identity.metadata or {}
        named = [{**about, "sub_environment": number} for number in range(self.num_envs)]
        each = [msgspec.structs.replace(identity, metadata=metadata) for metadata in named]
        self._episodes = [Episodes(own, current=False, max_elements=max_elements) for own in each]

    @property
    def sessions(self) -> list[Session | None]:
        """The session of each sub-environment's current or last episode; None before the first reset."""
        return [episodes.session for episodes in self._episodes]

    @property
    def timesteps(self) -> list[Timestep | None]:
        """The current timestep of each sub-environment; None between episodes."""
        return [episodes.timestep for episodes in self._episodes]

    def using(self, number: int) -> AbstractContextManager[None]:
        """Return a context manager that makes the timestep of one sub-environment current for a block."""
        return self._episodes[number].using()

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all sub-environments, or those of `options["reset_mask"]`, and open their sessions."""
        chosen: list[int] = []
        about: dict[str, object] = {}
        with _RECORD:
            # Read before the reset, which removes the mask from the options.
            chosen = _chosen(options, self.num_envs)
            about = {name: value for name, value in (options or {}).items() if name != "reset_mask"}
            for number in chosen:
                self._episodes[number].abandon()
        result = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        with _RECORD:
            split = self._split(result[0])
            for number in chosen:
                self._episodes[number].begin(split[number], _about(_seed(seed, number), about))
        return result

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all sub-environments; record each action and result, and open the next timestep or end the episode."""
        with _RECORD:
            for episodes, action in zip(self._episodes, iterate(self.action_space, actions), strict=False):
                episodes.act(action)
        result = self.env.step(actions)
        with _RECORD:
            self._record(*result)
        return result

    def _record(self, observations: Any, rewards: Any, terminated: Any, truncated: Any, infos: Any) -> None:
        split = self._split(observations)
        final = infos.get("final_obs") if self._resets_in("SAME_STEP") else None
        for number, episodes in enumerate(self._episodes):
            over = bool(terminated[number] or truncated[number])
            if episodes.timestep is None:
                # The step after an end resets that sub-environment and ignores its action.
                if self._resets_in("NEXT_STEP"):
                    episodes.begin(split[number], {})
                continue
            last = final[number] if over and final is not None else split[number]
            episodes.record(StepResult(last, rewards[number], terminated[number], truncated[number]))
            episodes.turn(over=over)
            if over and final is not None:
                episodes.begin(split[number], {})

    def close(self, **settings: Any) -> None:
        """End the open sessions, and close the environment."""
        for episodes in self._episodes:
            episodes.abandon()
        super().close(**settings)

    def _split(self, observations: Any) -> list[Any]:
        return list(iterate(self.observation_space, observations))

    def _resets_in(self, mode: str) -> bool:
        found = self.env.metadata.get("autoreset_mode")
        return getattr(found, "name", "NEXT_STEP") == mode


def _name(env: Env | VectorEnv) -> str:
    spec = env.spec
    return spec.id if spec is not None else type(env.unwrapped).__name__


def _about(seed: int | None, options: Mapping[str, object] | None) -> dict[str, object]:
    about: dict[str, object] = {} if seed is None else {"seed": seed}
    return {**about, "options": dict(options)} if options else about


def _seed(seed: int | Sequence[int | None] | None, number: int) -> int | None:
    if isinstance(seed, int):
        return seed + number
    return None if seed is None else seed[number]


def _chosen(options: Mapping[str, Any] | None, count: int) -> list[int]:
    mask = (options or {}).get("reset_mask")
    return [number for number in range(count) if mask is None or mask[number]]


def state_json(state: object, max_elements: int, depth: int = 0) -> object:
    """Return a state as plain values: arrays as lists, larger ones than `max_elements` as shape, type and range.

    Strings are truncated to 16 bytes per element, lists to `max_elements` items and a note of their length. Other
    values are unchanged.
    """
    if isinstance(state, str):
        return text_attribute(state, max_elements * _CHARACTERS_PER_ELEMENT)
    if depth >= _MAX_DEPTH:
        return "<too deep>"
    if isinstance(state, Mapping):
        return {str(key): state_json(item, max_elements, depth + 1) for key, item in state.items()}
    if isinstance(state, list | tuple):
        items = [state_json(item, max_elements, depth + 1) for item in state[:max_elements]]
        return items if len(state) <= max_elements else [*items, {"callspan_truncated": {"items": len(state)}}]
    size = getattr(state, "size", None)
    if isinstance(size, int) and hasattr(state, "tolist"):
        return state.tolist() if size <= max_elements else _array_summary(state)
    return state


def _array_summary(array: object) -> dict[str, object]:
    fields = {"shape": list(getattr(array, "shape", ())), "dtype": str(getattr(array, "dtype", "unknown"))}
    extremes = {name: value_of(partial(_call_method, array, name)) for name in ("min", "max")}
    return {"callspan_array": fields | {name: value for name, value in extremes.items() if value is not None}}


def _call_method(array: object, name: str) -> object:
    found = getattr(array, name)()
    return found.item() if hasattr(found, "item") else found


class Episodes:
    """Opens a session with a first timestep at each reset, and the next timestep after each turn.

    With `current`, session and timestep are current for the code that resets and steps.
    """

    def __init__(self, identity: Identity, *, current: bool, max_elements: int) -> None:
        self._identity = identity
        self._current = current
        self._max_elements = max_elements
        self.session: Session | None = None
        """The session of the current or last episode; None before the first reset."""
        self.timestep: Timestep | None = None
        """The current timestep; None between episodes."""

    def begin(self, observation: object, about: Mapping[str, object]) -> None:
        """Open the session of an episode with the first state `observation`; abandon an open one."""
        self.abandon()
        with _RECORD:
            metadata = {**(self._identity.metadata or {}), **about}
            self.session = Session(msgspec.structs.replace(self._identity, metadata=metadata))
            self.session.start(current=self._current)
            self.session.observation(self._state(observation))
            self._next_turn(self.session)

    def act(self, action: object) -> None:
        """Record the agent's action."""
        with _RECORD:
            if self.timestep is not None:
                self.timestep.action(self._state(action))

    def world(self) -> AbstractContextManager[EnvironmentStep | None]:
        """Return a context manager that times the environment's step; it yields None if no timestep is open."""
        return nullcontext() if self.timestep is None else self.timestep.environment_step()

    def record(self, turn: StepResult, world: EnvironmentStep | None = None) -> None:
        """Record the result of the environment's step, in `world` if that times it."""
        if self.timestep is None:
            return
        with _RECORD:
            record = self.timestep.environment if world is None else world.set_result
            record(
                self._state(turn.observation),
                reward=turn.reward,
                terminated=turn.terminated,
                truncated=turn.truncated,
                info=self._state(turn.info) or None,
            )

    def turn(self, *, over: bool) -> None:
        """Close the timestep, and open the next one or, if the episode is over, close the session."""
        step, session = self.timestep, self.session
        self.timestep = None
        if step is None or session is None:
            return
        with _RECORD:
            step.end()
            if over:
                session.end()
            else:
                self._next_turn(session)

    def abandon(self) -> None:
        """Close the open session with the outcome `abandoned`."""
        if self.timestep is None or self.session is None:
            return
        with _RECORD:
            # Also for the last timestep, which would otherwise look like a played turn.
            self.timestep.update(status=ABANDONED)
            self.session.outcome(status=ABANDONED)
        self.turn(over=True)

    def using(self) -> AbstractContextManager[None]:
        """Return a context manager that makes the timestep current for a block."""
        scope = self.timestep or self.session
        return nullcontext() if scope is None else scope.using()

    def _state(self, state: object) -> object:
        return state_json(state, self._max_elements)

    def _next_turn(self, session: Session) -> None:
        self.timestep = session.timestep()
        self.timestep.start(current=self._current)
