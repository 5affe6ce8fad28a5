"""Timestep: one turn between the agent and its environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from callspan.agent.arguments import Time, as_dict, as_int, as_text
from callspan.agent.event_recorder import EventRecorder
from callspan.agent.kinds import TIMESTEP
from callspan.record.ids import new_id

if TYPE_CHECKING:
    from callspan.agent.sessions import Session
    from callspan.agent.tree import Node


class Timestep(EventRecorder):
    """One turn of a session: a span `timestep`, and a record at its start and at its end.

    Created by `session.timestep()` or `callspan.timestep()`. `id` and `index` are known from its start. Thread-safe.

    Raises:
        UsageError: Misuse, such as a start outside a session; only inside `callspan.testing.capture()`, see `Session`.

    Example:
        >>> with callspan.session("chat") as session, session.timestep("answer") as step:
        ...     _ = step.observation("Where is my parcel?")
        ...     _ = step.reward(1.0, source="user")
        >>> step.index
        0
    """

    index: int
    """Index within the session in this process, from 0; -1 before the start."""
    step_id: str | None
    """The application's own id, if given."""
    owner: Session
    """Its session; None before the start of one that was created without a session."""
    above: Node
    kind = TIMESTEP

    def __init__(
        self,
        name: str | None = None,
        turn: int | None = None,
        metadata: Mapping[str, object] | None = None,
        at: Time | None = None,
        step_id: str | None = None,
        session: Session | None = None,
    ) -> None:
        """`session` is the current one at its start by default."""
        super().__init__(session)
        self._at, self.turn = at, as_int(turn)
        self.name, self.step_id = as_text(name), as_text(step_id) or None
        self.info = as_dict(metadata)
        self.index = -1
        self.terminated: bool | None = None
        self.truncated: bool | None = None
        self.id = new_id()

    def note_episode_end(self, result: Mapping[str, Any]) -> None:
        """Store the last `terminated` and `truncated` flags, see `environment_fields`."""
        terminated, truncated = result.get("terminated"), result.get("truncated")
        self.terminated = self.terminated if terminated is None else terminated
        self.truncated = self.truncated if truncated is None else truncated

    def new_block(self, name: str, arguments: Mapping[str, object]) -> Timestep:  # noqa: ARG002
        """Return such a timestep for one call of a function."""
        return Timestep(self.name or name, self.turn, self.info, session=self.owner)

    def update(self, status: str | None = None, metadata: Mapping[str, object] | None = None) -> None:
        """Set a status of your own as the outcome, and merge metadata by key; written immediately.

        None leaves a value unchanged, also in `metadata`. May be called repeatedly, also after the end.
        """
        self._update(status, metadata)
