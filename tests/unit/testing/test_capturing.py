"""What `capture` gives: streams that only the garbage collector ends are among the records and spans."""

from __future__ import annotations

import callspan
from callspan.testing import capture


def test_events_messages_and_rewards_are_apart() -> None:
    with capture() as seen, callspan.session("s") as session, session.timestep() as step:
        step.observation("a wall")
        step.action("north")
        step.environment("a door", reward=1)
        step.reward(0.5, objective="style")
    assert [event.event_type for event in seen.events] == ["action", "environment"]
    assert [message.content for message in seen.messages] == ["a wall"]
    assert [reward.value for reward in seen.rewards] == [0.5]
