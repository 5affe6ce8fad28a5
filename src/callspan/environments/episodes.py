"""Episodes: the sessions of one environment, with a timestep for every turn and its observations as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Final, NamedTuple, SupportsFloat

import msgspec

from callspan.agent.operation_recorder import EnvironmentStep
from callspan.agent.sessions import Identity, Session, Timestep
from callspan.agent.values import SupportsBool
from callspan.fail_open import fail_open, value_of
from callspan.record.bounded import text_attribute

_MAX_DEPTH: Final = 16
_CHARACTERS_PER_ELEMENT: Final = 16


def state_json(state: object, max_elements: int, depth: int = 0) -> object:
    """Return a state in plain values: arrays as lists, larger ones than `max_elements` by shape, type and range.

    Texts are cut to 16 bytes per element, longer lists to so many items and a last one that says how many there
    were. Anything else is as given.
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
        return state.tolist() if size <= max_elements else _described(state)
    return state


def _described(array: object) -> dict[str, object]:
    facts: dict[str, object] = {
        "shape": list(getattr(array, "shape", ())),
        "dtype": str(getattr(array, "dtype", "unknown")),
    }
    for name in ("min", "max"):
        extreme = value_of(partial(_called, array, name))
        if extreme is not None:
            facts[name] = extreme
    return {"callspan_array": facts}


def _called(array: object, name: str) -> object:
    found = getattr(array, name)()
    return found.item() if hasattr(found, "item") else found


_RECORD: Final = fail_open("record a step of an environment")
ABANDONED: Final = "abandoned"
"""Outcome of an episode that was reset or closed before its end."""


class Turn(NamedTuple):
    """What an environment returned for an action; None: not given."""

    observation: object
    reward: SupportsFloat | None = None
    terminated: SupportsBool | None = None
    truncated: SupportsBool | None = None
    info: object = None


class Episodes:
    """Opens a session at each reset, and in it a timestep at once and after each turn that does not end it.

    With `current`, session and timestep are the current ones of the code that resets and steps.
    """

    def __init__(self, identity: Identity, *, current: bool, max_elements: int) -> None:
        self._identity = identity
        self._current = current
        self._max_elements = max_elements
        self.session: Session | None = None
        """The present episode's, or the last one's; None before the first reset."""
        self.timestep: Timestep | None = None
        """The turn that has begun; None between episodes."""

    def begin(self, observation: object, about: Mapping[str, object]) -> None:
        """Open the session of an episode whose first state is `observation`; what was open is abandoned."""
        self.abandon()
        with _RECORD:
            metadata = {**(self._identity.metadata or {}), **about}
            self.session = Session.of(msgspec.structs.replace(self._identity, metadata=metadata))
            self.session.start(current=self._current)
            self.session.observation(self.shown(observation))
            self._next_turn(self.session)

    def act(self, action: object) -> None:
        """Record what the agent does."""
        with _RECORD:
            if self.timestep is not None:
                self.timestep.action(self.shown(action))

    def world(self) -> AbstractContextManager[EnvironmentStep | None]:
        """Return a context manager around the environment's work; None inside where no turn is open."""
        return nullcontext() if self.timestep is None else self.timestep.environment_step()

    def record(self, turn: Turn, world: EnvironmentStep | None = None) -> None:
        """Record the result of the environment's step, in `world` where its work is timed."""
        if self.timestep is None:
            return
        with _RECORD:
            record = self.timestep.environment if world is None else world.set_result
            record(
                self.shown(turn.observation),
                reward=turn.reward,
                terminated=turn.terminated,
                truncated=turn.truncated,
                info=self.shown(turn.info) or None,
            )

    def turn(self, *, over: bool) -> None:
        """Close the turn, and open the next one or, where the episode is over, close the session."""
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
        """Close what is open, as an episode that did not come to its end."""
        step, session = self.timestep, self.session
        self.timestep = None
        if step is None or session is None:
            return
        with _RECORD:
            # The session's word alone would leave its last step looking like a turn that was played.
            step.update(status=ABANDONED)
            step.end()
            session.outcome(status=ABANDONED)
            session.end()

    def using(self) -> AbstractContextManager[None]:
        """Return a context manager that makes the present turn the current one for a block."""
        scope = self.timestep or self.session
        return nullcontext() if scope is None else scope.using()

    def shown(self, state: object) -> object:
        """Return a state as it is recorded."""
        return state_json(state, self._max_elements)

    def _next_turn(self, session: Session) -> None:
        self.timestep = session.timestep()
        self.timestep.start(current=self._current)
