"""Highlights: the steps in which a session got most of its reward, or lost it."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest
from itertools import islice, takewhile
from typing import Final, NamedTuple

import msgspec

from callspan.record.events import MessageRecord
from callspan.stores.base import Event
from callspan.stores.reader import Reader

_MOST: Final = 8
_SHARES: Final = (0.4, 0.8)
"""Of the largest reward: what is as large stands out, by the first share that less than half of the rewards have."""
_SAME_TIME: Final = 20
"""Entries of the same time among which the reward's is looked for."""
_DIGITS: Final = 9
"""Of a difference of two floats."""


class Highlight(msgspec.Struct):
    """A step with a reward that stands out."""

    position: int | None
    """Of the step in the session, from 0; None: unknown."""
    at: float
    """Place on the curve of the reward so far, from 0 to 1."""
    reward: float
    so_far: float
    data: object
    """What was recorded with the reward: the observation."""


class Highlights(NamedTuple):
    """The steps that stand out, in order; not more than a few."""

    steps: list[Highlight]
    least: float | None
    """From what size on a reward stands out; None: none does."""


def highlights(reader: Reader, session_id: str, curve: Sequence[tuple[int, float]]) -> Highlights:
    """Return the steps of a session with the largest rewards, gains and losses; none where most are as large.

    `curve` is its reward so far, see `Reader.reward_curves`.
    """
    before = [0.0, *(value for _, value in curve)]
    rewards = [round(value - before[at], _DIGITS) for at, (_, value) in enumerate(curve)]
    least = next(
        (size for share in _SHARES if rewards and _is_rare(rewards, size := share * max(map(abs, rewards)))), None
    )
    if least is None:
        return Highlights([], None)
    large = [at for at, reward in enumerate(rewards) if abs(reward) >= least]
    positions = reader.step_positions([session_id])
    found = []
    for at in sorted(nlargest(_MOST, large, key=lambda at: abs(rewards[at]))):
        event = _given(reader, session_id, curve[at][0])
        step_id = event.timestep_id if event else None
        found.append(
            Highlight(
                position=positions.get(step_id or ""),
                at=at / (len(rewards) - 1),
                reward=rewards[at],
                so_far=curve[at][1],
                data=msgspec.to_builtins(getattr(event, "data", None), enc_hook=str),
            )
        )
    return Highlights(found, least)


def _is_rare(rewards: Sequence[float], size: float) -> bool:
    """Return whether less than half of the rewards are as large."""
    return sum(abs(reward) >= size for reward in rewards) < len(rewards) / 2


def _given(reader: Reader, session_id: str, time_ns: int) -> Event | None:
    """Return what gave a reward at a time, else what else happened in a step then."""
    same = takewhile(lambda one: one.time_ns == time_ns, reader.events(session_id, since_ns=time_ns))
    in_steps = [one for one in islice(same, _SAME_TIME) if one.timestep_id and not isinstance(one, MessageRecord)]
    return next((one for one in in_steps if getattr(one, "reward", None) is not None), next(iter(in_steps), None))
