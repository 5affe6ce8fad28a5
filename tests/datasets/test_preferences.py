"""Preference pairs: the same prompt with the better and the worse response."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.commands import ask

from callspan import SettingError
from callspan.datasets import Options

from .conftest import TOOLS, Export, World, asking, check_preference, tool_call

START = [{"role": "system", "content": "Play."}, {"role": "user", "content": "Begin."}]


def play(world: World, session_id: str, answer: Any, reward: float | None, **fields: Any) -> None:
    """Look, which every session does alike unless it is given another call id, system prompt or result; then answer."""
    texts = {"system": "Play.", "call_id": "c1", "result": "a fork"}
    texts |= {name: fields.pop(name) for name in texts if name in fields}
    world.session(session_id, reward, **({"task_id": "maze"} | fields))
    start = [{"role": "system", "content": texts["system"]}, START[1]]
    looked = world.chat(start, asking(tool_call("look", {}, texts["call_id"])), session_id, tools=TOOLS)
    seen = [*start, looked, {"role": "tool", "tool_call_id": texts["call_id"], "content": texts["result"]}]
    world.chat(seen, answer, session_id, tools=TOOLS)


def test_pair_starts_at_the_first_difference(world: World, exported: Export) -> None:
    play(world, "good", "left", 1.0)
    play(world, "bad", "right", 0.0)
    (row,) = exported("preferences").rows
    check_preference(row)
    assert [m["role"] for m in row["input"]["messages"]] == ["system", "user", "assistant", "tool"]
    assert row["preferred_output"] == [{"role": "assistant", "content": "left"}]
    assert row["non_preferred_output"] == [{"role": "assistant", "content": "right"}]
    assert row["input"]["tools"] == TOOLS


@pytest.mark.parametrize(("worse", "pairs"), [(["x", "final"], []), (["final", "draft"], []), (["x", "y"], ["y"])])
def test_last_answer_to_a_prompt_counts(world: World, exported: Export, worse: list[str], pairs: list[str]) -> None:
    for session_id, reward, answers in (("good", 1.0, ["draft", "final"]), ("bad", 0.0, worse)):
        world.session(session_id, reward, task_id="maze")
        for answer in answers:
            world.chat(START, answer, session_id)
    rows = exported("preferences").rows
    assert [row["non_preferred_output"][0]["content"] for row in rows] == pairs
    assert all(row["preferred_output"][0]["content"] == "final" for row in rows)


def test_sessions_without_a_pair_are_counted(world: World, exported: Export) -> None:
    play(world, "a", "left", 1.0)
    play(world, "b", "right", 0.95)
    play(world, "c", "left", 0.1)
    play(world, "d", "left", 1.0, task_id="another")
    play(world, "e", "left", None)
    play(world, "f", "left", 1.0, task_id=None)
    found = exported("preferences", options=Options(margin=0.1))
    assert found.rows == []
    assert found.left_out == {
        "pair: equal rewards, or closer than the margin (--margin, --objective)": 1,
        "pair: no prompt with different answers": 1,
        "pair: no other session with its task (--pair-by)": 1,
        "session: no reward": 1,
        "session: no task_id": 1,
    }


def test_margin_is_compared_in_decimal(world: World, exported: Export) -> None:
    """As floats, 0.9 is less than 0.1 above 0.8."""
    play(world, "good", "left", 0.9)
    play(world, "bad", "right", 0.8)
    assert len(exported("preferences", options=Options(margin=0.1)).rows) == 1
    assert len(exported("preferences", options=Options(margin=0.11)).rows) == 0


def test_refusals_with_other_words_differ(world: World, exported: Export) -> None:
    for session_id, reward, words in (("good", 1.0, "I may not help with that."), ("bad", 0.0, "No.")):
        play(world, session_id, {"role": "assistant", "content": None, "refusal": words}, reward)
    (row,) = exported("preferences").rows
    check_preference(row)
    assert row["non_preferred_output"] == [{"role": "assistant", "content": None, "refusal": "No."}]


def test_metadata_defines_the_task(world: World, exported: Export) -> None:
    play(world, "a", "left", 1.0, task_id=None, metadata={"seed": 7})
    play(world, "b", "right", 0.0, task_id=None, metadata={"seed": 7})
    play(world, "c", "up", 0.0, task_id=None, metadata={"seed": 8})
    (row,) = exported("preferences", options=Options(pair_by="seed", metadata=True)).rows
    assert row["metadata"] == {"task": "7", "sessions": ["a", "b"], "rewards": [1.0, 0.0]}


@pytest.mark.parametrize(
    ("worse", "left_out"),
    [
        ({}, {"pair: no prompt with different answers": 1}),
        ({"system": "Play!", "answer": "right"}, {"pair: no prompt with different answers": 1}),
        ({"result": "a wall", "answer": "right"}, {"pair: no prompt with different answers": 1}),
        ({"answer": "right"}, {}),
    ],
)
def test_missing_pair_has_a_reason(
    world: World, exported: Export, worse: dict[str, str], left_out: dict[str, int]
) -> None:
    """The ids of calls differ, as a provider makes them."""
    for session_id, reward, texts in (("good", 1.0, {}), ("bad", 0.0, worse)):
        told = {"answer": "left", "call_id": f"call_of_{session_id}"} | texts
        play(world, session_id, told.pop("answer"), reward, **told)
    found = exported("preferences")
    assert found.left_out == left_out
    assert len(found.rows) == (not left_out)


TRL = Options(pair_format="trl")


def test_trl_pairs_have_tools_and_argument_objects(world: World, exported: Export) -> None:
    for session_id, reward, way in (("good", 1.0, "left"), ("bad", 0.0, "right")):
        moved = asking(tool_call("look", {"at": way}, f"{session_id}_move"))
        play(world, session_id, moved, reward, call_id=f"{session_id}_look")
    (row,) = exported("preferences", options=TRL).rows
    call = {"id": "good_look", "type": "function", "function": {"name": "look", "arguments": {}}}
    assert row["prompt"] == [
        *START,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "good_look", "name": "look", "content": "a fork"},
    ]
    ((better,), (worse,)) = row["chosen"], row["rejected"]
    assert better["tool_calls"][0]["function"] == {"name": "look", "arguments": {"at": "left"}}
    assert worse["tool_calls"][0]["function"] == {"name": "look", "arguments": {"at": "right"}}
    assert row["tools"] == TOOLS
    assert set(row) == {"prompt", "chosen", "rejected", "tools"}


def test_trl_pairs_omit_absent_tools_and_add_ids_on_request(world: World, exported: Export) -> None:
    for session_id, reward in (("good", 1.0), ("bad", 0.0)):
        world.session(session_id, reward, task_id="maze")
        world.chat(START, session_id, session_id)
    (row,) = exported("preferences", options=msgspec.structs.replace(TRL, metadata=True)).rows
    assert row == {
        "prompt": START,
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
        "metadata": {"task": "maze", "sessions": ["good", "bad"], "rewards": [1.0, 0.0]},
    }


def test_command_writes_only_pairs_for_trl(world: World, exported: Export, tmp_path: Path) -> None:
    play(world, "good", "left", 1.0)
    play(world, "bad", "right", 0.0)
    store, target = world.write(tmp_path / "w.db"), tmp_path / "pairs.jsonl"
    assert ask("--store", store, "export", "preferences", "--format", "trl", "-o", str(target)).code == 0
    assert set(json.loads(target.read_text())) == {"prompt", "chosen", "rejected", "tools"}
    assert ask("--store", store, "export", "atif", "--format", "trl", "--dry-run").code == 2
    with pytest.raises(SettingError, match="only to preferences"):
        exported("openai", options=TRL)


def test_interleaved_conversations_are_compared_separately(world: World, exported: Export) -> None:
    for session_id, reward, found in (("good", 1.0, "a door"), ("bad", 0.0, "nothing")):
        world.session(session_id, reward, task_id="maze")
        agents = [[{"role": "user", "content": f"Agent {number}."}] for number in range(2)]
        for step in range(2):
            for number, messages in enumerate(agents):
                call_id = f"call_{session_id}_{step}{number}"
                messages.append(world.chat(messages, asking(tool_call("look", {}, call_id)), session_id, tools=TOOLS))
                messages.append({"role": "tool", "tool_call_id": call_id, "content": "a wall"})
        world.chat(agents[0], "Nothing.", session_id, tools=TOOLS)
        world.chat(agents[1], f"I found {found}.", session_id, tools=TOOLS)
    (row,) = exported("preferences").rows
    assert row["input"]["messages"][0]["content"] == "Agent 1."
    assert row["preferred_output"] == [{"role": "assistant", "content": "I found a door."}]
