"""What `capture` gives: streams that only the garbage collector ends are among the records and spans."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import openai
import pytest

import callspan
from callspan.testing import ScriptedProvider, capture


@pytest.fixture
def _no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


class Reader:
    """Reads one event of a stream, which is then in a reference cycle with it."""

    def __init__(self, client: openai.OpenAI) -> None:
        self.stream = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        self.itself = self
        next(iter(self.stream))


@pytest.mark.usefixtures("_no_collection")
@pytest.mark.parametrize("first", ["records", "spans"])
def test_a_stream_whose_iterator_is_gone_has_ended(provider: ScriptedProvider, first: str) -> None:
    with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client, capture() as seen:
        Reader(client)
        assert len(getattr(seen, first)) == 1
        (record,) = seen.records
        (span,) = seen.spans
    assert (record.outcome, record.stream and record.stream.end) == ("cancelled", "dropped")
    assert f"{span.context.span_id:016x}" == record.span_id


def test_events_messages_and_rewards_are_apart() -> None:
    with capture() as seen, callspan.session("s") as session, session.timestep() as step:
        step.observation("a wall")
        step.action("north")
        step.environment("a door", reward=1)
        step.reward(0.5, objective="style")
    assert [event.event_type for event in seen.events] == ["action", "environment"]
    assert [message.content for message in seen.messages] == ["a wall"]
    assert [reward.value for reward in seen.rewards] == [0.5]
