"""Session: one episode or conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import SupportsFloat

import msgspec

from callspan.agent.arguments import SupportsBool, Time, as_bool, as_dict, as_text
from callspan.agent.context import Carrier, carrier_of, read_carrier
from callspan.agent.event_recorder import EventRecorder
from callspan.agent.kinds import SESSION
from callspan.agent.registry import episode_of
from callspan.agent.rewards import RewardArguments
from callspan.agent.timesteps import Timestep
from callspan.agent.tree import LOOSE_CALLS
from callspan.record.call import Place
from callspan.spans.session import NO_SPAN


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `callspan.session`."""

    name: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    group_id: str | None = None
    task_id: str | None = None
    experiment: str | None = None
    metadata: Mapping[str, object] | None = None
    carrier: Mapping[str, str] | None = None
    parent: Session | Timestep | str | None = None
    at: Time | None = None


class Session(EventRecorder):
    """One episode or conversation: a span `invoke_workflow {name}`, and a record at its start, updates and end.

    Created by `callspan.session(...)`. A session continued by a carrier adds to the original one: it has no span of its
    own, and its end does not end the episode. Thread-safe.

    Misuse is logged once and has no effect, except inside `callspan.testing.capture()`, where it raises.

    Raises:
        UsageError: Misuse inside `callspan.testing.capture()`, such as an event after the end, a second start, a reward
            that is not a number, or an invalid time.

    Example:
        >>> with callspan.session("gridworld", metadata={"seed": 7}) as session:
        ...     with session.timestep() as step:
        ...         _ = step.action("north")
        ...         _ = step.environment("a wall", reward=-0.1, terminated=False)
        ...     session.outcome(success=False)
    """

    kind = SESSION

    def __init__(self, identity: Identity) -> None:
        super().__init__()
        self.identity = identity
        self.origin = read_carrier(identity.carrier)
        self.is_remote = self.origin.place.session_id is not None
        """Whether it continues another process's session. That process has the span, and ends the session."""
        self.is_update = self.is_remote
        """Whether its record already has a start, from another process or an earlier session with the same id."""
        self.episode = episode_of(self.origin.place.session_id or identity.session_id)
        self.begin_ns = 0
        """When it began by the order of its process, see `Episode.begin_ns`."""
        self.process: str | None = None
        """The process that began it, as records state it."""
        self._at = identity.at
        self.id, self.name = self.episode.id, identity.name or self.origin.place.session_name
        self.place = Place(session_id=self.id, session_name=self.name)
        self.counted_in = (self.episode.running,)
        self.info = as_dict(identity.metadata)
        self.last_span = NO_SPAN
        """The span of its last timestep, else its own."""
        self.processed_name: str | None = None
        """Its name as the processors returned it at its start; None before."""
        self.open_steps: dict[str, Timestep] = {}
        self.parent_id: str | None = None
        self.loose_before = LOOSE_CALLS[0]
        self.success: bool | None = None

    def timestep(
        self,
        name: str | None = None,
        turn: int | None = None,
        metadata: Mapping[str, object] | None = None,
        *,
        step_id: str | None = None,
        at: Time | None = None,
    ) -> Timestep:
        """Return the next timestep, to be used with `with`; it gets its index at its start.

        `step_id` is an id of your own, unique within the session: it is recorded as `user_step_id`, and filters and
        `callspan show` find it. `at` is the start time; by default when the block is entered.
        """
        return Timestep(name, turn, metadata, at, step_id, self)

    def outcome(
        self,
        reward: SupportsFloat | None = None,
        success: SupportsBool | None = None,
        status: str | None = None,
        *,
        at: Time | None = None,
    ) -> None:
        """Set the outcome of the episode: the reward of the whole, success, and a status of your own.

        The last reward given here is the session's, whatever the rewards of its events. May be called repeatedly, also
        after the end; None leaves a value unchanged. `at` is the time of the reward.
        """
        if reward is not None:
            self.give_reward(RewardArguments(reward, at=at))
        self.success = self.success if success is None else as_bool(success)
        self.update(status=status)

    def update(
        self,
        status: str | None = None,
        metadata: Mapping[str, object] | None = None,
        *,
        experiment: str | None = None,
        task_id: str | None = None,
        group_id: str | None = None,
        user_id: str | None = None,
    ) -> None:
        """Set a status of your own as the outcome and labels of the session, and merge metadata by key.

        Written immediately. None leaves a value unchanged, also in `metadata`. May be called repeatedly, also after the
        end.
        """
        texts = {"experiment": experiment, "task_id": task_id, "group_id": group_id, "user_id": user_id}
        labels = {name: text for name, value in texts.items() if (text := as_text(value)) is not None}
        if labels:
            self.identity = msgspec.structs.replace(self.identity, **labels)
        self._update(status, metadata)

    def carrier(self) -> Carrier:
        """Return the argument `carrier` of `callspan.session` that continues this session in another process."""
        return carrier_of(self.id, self.name, self.span)

    def new_block(self, name: str, arguments: Mapping[str, object]) -> Session:  # noqa: ARG002
        """Return a new session like this one, for one call of a function."""
        identity = self.identity
        return Session(msgspec.structs.replace(identity, name=identity.name or name, at=None))
