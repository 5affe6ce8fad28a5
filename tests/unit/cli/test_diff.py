"""`callspan show A B`: two calls or two sessions side by side."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import openai
import pytest

import callspan
from callspan.comparison.diff import diff
from callspan.comparison.sides import side_of_call
from callspan.comparison.text_changes import text_changes
from callspan.records import Conversation, Message, Text, ToolCall, ToolResult
from callspan.testing import ScriptedProvider

from .conftest import ask, made


def test_long_texts_are_compared_as_a_whole_in_no_time() -> None:
    a, b = "same words " * 9_000, "same words\n" * 9_000
    assert [run.where for run in text_changes(a, b)] == ["a", "b"]


def _talk(call_id: str, *, place: str, answer: str, **fields: Any) -> Any:
    conversation = Conversation(
        system=[Text(text="Be brief.")],
        input=[
            Message(role="user", parts=[Text(text="Where?")]),
            Message(role="assistant", parts=[ToolCall(id=f"id-{call_id}", name="look", arguments='{"at":1}')]),
            Message(role="tool", parts=[ToolResult(id=f"id-{call_id}", content=place)]),
        ],
        output=[Message(role="assistant", parts=[Text(text=answer)])],
        tools=[{"type": "function", "function": {"name": "look"}}],
    )
    return side_of_call(made(call_id, **fields), conversation)


def test_messages_that_only_one_has_stand_alone() -> None:
    one = _talk("a", place="a door", answer="Left.")
    other = _talk("b", place="a door", answer="Left.")
    del other.messages[2:4]
    statuses = [(pair.role, pair.status, pair.a, pair.b) for pair in diff(one, other).messages]
    assert statuses == [
        ("system", "same", 0, 0), ("user", "same", 1, 1), ("assistant", "only_a", 2, None), ("tool", "only_a", 3, None),
        ("assistant", "same", 4, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [(1, 3, 2), (Decimal("0.1"), Decimal("0.3"), Decimal("0.2")), (True, False, None), (2, 2, None), (None, 2, None)],
)
def test_the_difference_of_numbers(a: Any, b: Any, difference: Any) -> None:
    one, other = (side_of_call(made(), Conversation()) for _ in "ab")
    one.parameters["n"], other.parameters["n"] = a, b
    assert [fact.difference for fact in diff(one, other).parameters] == [difference]


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two sessions that differ in their last answer."""
    store = f"sqlite:///{tmp_path_factory.mktemp('diff') / 'calls.db'}"
    with ScriptedProvider() as provider, openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        handle = callspan.instrument(stores=store)
        try:
            for name, answers in (("a", ["North.", "East."]), ("b", ["North.", "West."])):
                messages: list[Any] = [{"role": "user", "content": "Where to?"}]
                with callspan.session(name, session_id=f"rollout-{name}", metadata={"prompt": name}):
                    for answer in answers:
                        provider.reply(answer)
                        done = client.chat.completions.create(model="gpt-5", messages=messages, seed=len(name))
                        messages += [
                            done.choices[0].message.model_dump(exclude_none=True),
                            {"role": "user", "content": "?"},
                        ]
        finally:
            handle.uninstrument()
    return store


def test_two_sessions(rollouts: str) -> None:
    answer = ask("--store", rollouts, "--json", "show", "rollout-a", "rollout-b")
    assert answer.json["first_difference"] == {"section": "messages", "place": 3}
    assert answer.json["messages"][3] == {
        "role": "assistant", "status": "differs", "a": 3, "b": 3,
        "changes": [["a", "East"], ["b", "West"], ["both", "."]],
    }  # fmt: skip
    facts = {fact["name"]: (fact["status"], fact["a"]) for fact in answer.json["facts"]}
    assert facts["meta:prompt"] == ("differs", "a")
    assert facts["calls"] == ("same", 2)
    shown = ask("--store", rollouts, "show", "rollout-a", "rollout-b")
    assert shown.code == 0
    assert "[-East-]{+West+}." in shown.out
    assert "3 messages the same" in shown.out
    assert shown.out.endswith("First difference: message 4, assistant.\n")
    assert (
        "only its first 1 call of 2" in ask("--store", rollouts, "show", "rollout-a", "rollout-b", "--limit", "1").err
    )


def test_two_calls_and_what_cannot_be_compared(rollouts: str) -> None:
    calls = [row["call_id"] for row in ask("--store", rollouts, "--json", "calls").json]
    same = ask("--store", rollouts, "show", calls[0], calls[0])
    assert "Parameters, tools and messages are equal." in same.out
    mixed = ask("--store", rollouts, "show", calls[0], "rollout-a")
    assert mixed.code == 2
    assert "A is a call and B a session" in mixed.err
    assert ask("--store", rollouts, "show", calls[0], "nothing").code == 1
