"""Input and output of a session, timestep or agent, as the conventions' messages on its span."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

import callspan
from callspan.testing import Captured, ScriptedProvider, capture

SYSTEM, TASK = "You move a robot.", "Fetch the key."
MESSAGES: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TASK}]
IN, OUT = "gen_ai.input.messages", "gen_ai.output.messages"


@pytest.fixture
def ask(provider: ScriptedProvider) -> Iterator[Callable[..., None]]:
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:

        def call(answer: str, messages: list[Any] = MESSAGES, **given: Any) -> None:
            provider.reply(text=answer)
            made = client.chat.completions.create(model="gpt-5", messages=messages, **given)
            if given.get("stream"):
                list(made)

        yield call


def on(seen: Captured, name: str) -> list[tuple[list[tuple[str, str]], list[tuple[str, str]]]]:
    """Roles and texts of what went in and came out, of each span of a name, in the order of their ends."""
    found = [span.attributes or {} for span in seen.spans if span.name == name]
    return [(_texts(attributes, IN), _texts(attributes, OUT)) for attributes in found]


def _texts(attributes: Any, name: str) -> list[tuple[str, str]]:
    messages = json.loads(attributes.get(name, "[]"))
    assert all("finish_reason" in message for message in messages) or name == IN
    return [(message["role"], " | ".join(part["content"] for part in message["parts"])) for message in messages]


@pytest.mark.parametrize("stream", [False, True])
def test_a_session_shows_first_what_it_was_sent_and_last_what_it_returned(
    ask: Callable[..., None], stream: bool
) -> None:
    with capture() as seen, callspan.session("robot") as session:
        session.observation({"at": [0, 0]})
        for number in range(3):
            with session.timestep() as step:
                more = [{"role": "assistant", "content": "Yes"}, {"role": "user", "content": f"{number}?"}]
                ask(f"I go {number}.", [*MESSAGES, *more] if number else MESSAGES, stream=stream)
                step.action([number])
                step.environment([number, 1], reward=0.5, terminated=number == 2)
    (session_shown,) = on(seen, "invoke_workflow robot")
    assert session_shown == (
        [("system", SYSTEM), ("user", '{"at":[0,0]}'), ("user", TASK)],
        [("assistant", "[2]"), ("tool", "[2,1] | reward: 0.5")],
    )
    first, second, _ = on(seen, "timestep")
    assert first == (
        [("system", SYSTEM), ("user", TASK)], [("assistant", "[0]"), ("tool", "[0,1] | reward: 0.5")]
    )  # fmt: skip
    assert second[0] == [("system", SYSTEM), ("user", "1?")], "what is new in this step"
    last = json.loads(next(dict(s.attributes or {}) for s in seen.spans if s.name == "invoke_workflow robot")[OUT])
    assert [message["finish_reason"] for message in last] == ["action", "terminated"]
    assert [message.get("name") for message in last] == [None, "environment"]


def test_an_agents_span_has_its_input_and_output(ask: Callable[..., None]) -> None:
    with capture() as seen, callspan.session("s") as session:
        with session.invoke_agent("planner", input={"goal": "key"}) as agent:
            ask("North.")
            agent.output = {"plan": ["north"]}
        with session.invoke_agent("actor"):
            ask("Going north.")
    assert on(seen, "invoke_agent planner") == [
        ([("system", SYSTEM), ("user", '{"goal":"key"}')], [("assistant", '{"plan":["north"]}')])
    ]
    assert on(seen, "invoke_agent actor") == [([("system", SYSTEM), ("user", TASK)], [("assistant", "Going north.")])]
    ((came_in, came_out),) = on(seen, "invoke_workflow s")
    assert ("user", '{"goal":"key"}') in came_in
    assert came_out == [("assistant", "Going north.")]
