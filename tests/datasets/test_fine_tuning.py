"""Fine-tuning rows: accepted by trainers, each message once, each response trained on once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callspan.datasets import Options
from tests.support.formats import check_fine_tuning

from .conftest import TOOLS, Export, World, asking, tool_call

SYSTEM = {"role": "system", "content": "Play."}


def play(world: World, session_id: str = "s1", turns: int = 3) -> None:
    """A session whose every call repeats all that was said before."""
    messages: list[dict[str, Any]] = [SYSTEM, {"role": "user", "content": "Begin."}]
    for number in range(turns):
        called = asking(tool_call("look", {"at": number}, f"c{number}"), tool_call("look", {}, f"d{number}"))
        messages.append(world.chat(messages, called, session_id, tools=TOOLS, parallel_tool_calls=True))
        messages += [{"role": "tool", "tool_call_id": f"{x}{number}", "content": f"saw {number}"} for x in "cd"]
    world.chat(messages, "Done.", session_id, tools=TOOLS)


def test_one_row_per_session_has_each_message_once(world: World, exported: Export) -> None:
    world.session("s1", reward=1.0)
    play(world)
    found = exported("openai-session")
    (row,) = found.rows
    check_fine_tuning(row)
    assert [m["role"] for m in row["messages"]] == ["system", "user", *["assistant", "tool", "tool"] * 3, "assistant"]
    assert [m["weight"] for m in row["messages"] if m["role"] == "assistant"] == [1, 1, 1, 1]
    assert row["tools"] == TOOLS
    assert (found.statistics.rows, found.statistics.messages, found.statistics.trained_messages) == (1, 12, 4)
    assert not found.dropped
    assert not found.left_out


def test_one_row_per_call_trains_on_its_own_answer_only(world: World, exported: Export) -> None:
    world.session("s1")
    play(world, turns=2)
    rows = exported("openai").rows
    assert [len(row["messages"]) for row in rows] == [3, 6, 9]
    for row in rows:
        check_fine_tuning(row)
        assert [m["weight"] for m in row["messages"] if m["role"] == "assistant"][-1] == 1
        assert sum(m.get("weight", 0) for m in row["messages"]) == 1
    assert rows[0]["parallel_tool_calls"] is True
    assert "parallel_tool_calls" not in rows[-1]


def test_a_session_that_forked_has_a_row_for_each_end_and_trains_on_nothing_twice(
    world: World, exported: Export
) -> None:
    world.session("s1")
    first = {"role": "user", "content": "A number?"}
    answer = world.chat([first], "7", "s1")
    for question in ("Why?", "Another!"):
        world.chat([first, answer, {"role": "user", "content": question}], f"Because {question}", "s1")
    rows = exported("openai-session").rows
    assert len(rows) == 2
    weights = [[m["weight"] for m in row["messages"] if m["role"] == "assistant"] for row in rows]
    assert weights == [[1, 1], [0, 1]]


def response(number: int, text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text}]
    return {"id": f"resp_{number}", "output": [{"type": "message", "role": "assistant", "content": content}]}


def links(kind: str, number: int) -> dict[str, Any]:
    """What a request of the Responses API says of those before it."""
    if kind == "conversation":
        return {"conversation": {"id": "conv_1"}}
    return {"previous_response_id": f"resp_{number - 1}"} if number else {}


@pytest.mark.parametrize("kind", ["conversation", "response"])
def test_a_call_has_the_earlier_messages_of_its_session_also_of_calls_that_were_not_selected(
    world: World, exported: Export, kind: str
) -> None:
    world.session("s1")
    for number, model in enumerate(("small", "big", "small")):
        sent = {"model": model, "input": f"Question {number}", **links(kind, number)}
        world.call("responses", sent, response(number, f"Answer {number}"), "s1")
    found = exported("openai", model="small")
    texts = [text for number in range(3) for text in (f"Question {number}", f"Answer {number}")]
    assert [[m["content"] for m in row["messages"]] for row in found.rows] == [texts[:2], texts]
    assert not found.dropped


@pytest.mark.parametrize("kind", ["conversation", "response"])
def test_a_history_that_is_not_in_the_session_is_reported_once(world: World, exported: Export, kind: str) -> None:
    world.session("s1")
    for number in range(3):
        sent = {"model": "m", "input": f"Question {number}", **links(kind, number)}
        world.call("responses", sent, response(number, f"Answer {number}"), "s1" if number else None)
    found = exported("openai", session_id="s1")
    assert [m["content"] for m in found.rows[-1]["messages"]] == ["Question 1", "Answer 1", "Question 2", "Answer 2"]
    assert found.dropped == {"history only the provider remembers": 1}


def test_instructions_that_change_within_a_chain_are_those_of_each_call(world: World, exported: Export) -> None:
    """Also where a call has none: the Responses API does not keep those of the call before."""
    world.session("s1")
    rules = ["One.", "One.", None, None, "Two.", "One."]
    for number, rule in enumerate(rules):
        link = {"previous_response_id": f"resp_{number - 1}"} if number else {}
        sent = {"model": "m", "input": f"Question {number}", **link, **({"instructions": rule} if rule else {})}
        world.call("responses", sent, response(number, f"Answer {number}"), "s1")
    rows = exported("openai").rows
    for number, rule in enumerate(rules):
        texts = [f"{what} {one}" for one in range(number + 1) for what in ("Question", "Answer")]
        (row,) = [row for row in rows if row["messages"][-1]["content"] == f"Answer {number}"]
        assert [m["content"] for m in row["messages"]] == [*([rule] if rule else []), *texts]


def test_what_trainers_refuse_is_left_out_and_counted(world: World, exported: Export) -> None:
    world.chat([asking(tool_call("look", {}, "c1")), {"role": "user", "content": "?"}], "So.")
    found = exported("openai")
    assert (found.rows, found.left_out) == ([], {"row: a tool call without its result": 1})


def test_calls_that_failed_were_cut_or_hold_no_content_are_not_exported(world: World, exported: Export) -> None:
    question = [{"role": "user", "content": "?"}]
    world.chat(question, "half", outcome="cancelled")
    world.chat(question, "?", outcome="error")
    world.call("embeddings", {"model": "e", "input": "x"}, {"data": []})
    world.call("chat_completions", {"model": "m", "messages": question}, None)
    found = exported("openai")
    assert found.rows == []
    reasons = {"outcome cancelled", "outcome error", "embeddings", "content was not kept"}
    assert found.left_out == dict.fromkeys((f"call: {reason}" for reason in reasons), 1)


def test_ids_and_rewards_are_added_on_request(world: World, exported: Export) -> None:
    world.session("s1", reward=0.5, task_id="t")
    world.chat([{"role": "user", "content": "?"}], "!", "s1")
    (row,) = exported("openai", options=Options(metadata=True)).rows
    assert row["metadata"]["session_id"] == "s1"
    assert row["metadata"]["reward"] == 0.5
    assert row["metadata"]["task_id"] == "t"


def test_no_text_of_a_record_can_break_a_row(world: World, exported: Export) -> None:
    nasty = 'line\nbreak \u2028 \u2029 \x85 "quote" \\ \x1b[31m </script> \x00'
    world.chat([{"role": "user", "content": nasty}], nasty)
    (row,) = exported("openai").rows
    check_fine_tuning(row)
    assert json.loads(json.dumps(row["messages"][0]["content"])).startswith("line\nbreak")


def test_a_tool_that_was_called_is_defined_though_the_last_request_left_it_out(world: World, exported: Export) -> None:
    world.session("s1")
    question: list[dict[str, Any]] = [{"role": "user", "content": "Go"}]
    looked = world.chat(question, asking(tool_call("look", {}, "c1")), "s1", tools=TOOLS)
    world.chat([*question, looked, {"role": "tool", "tool_call_id": "c1", "content": "a wall"}], "A wall.", "s1")
    for format_name in ("openai", "openai-session"):
        found = exported(format_name)
        for row in found.rows:
            check_fine_tuning(row)
        assert found.rows[-1]["tools"] == TOOLS
        assert not found.dropped
