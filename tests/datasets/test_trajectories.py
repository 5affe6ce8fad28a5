"""ATIF trajectories checked by an independent reader, token records for RL, and the table of calls."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.support.bodies import folded
from tests.support.records import SECOND, START_NS, step

from callspan import SettingError, open_store
from callspan.datasets import Options, export
from callspan.datasets import parquet as tables
from callspan.records import Place, Totals, Usage

from .conftest import TOOLS, Export, World, asking, check_trajectory, tool_call


def agent(world: World) -> None:
    """Looks twice at once, thinks, moves, and ends with a tool call whose result no model ever sees."""
    world.session("s1", reward=1.5, task_id="maze", metadata={"seed": 7}, success=True)
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Play."}, {"role": "user", "content": "Begin."}]
    looked = asking(tool_call("look", {"at": "east"}, "c1"), tool_call("look", {"at": "west"}, "c2"))
    messages.append(world.chat(messages, looked, "s1", tools=TOOLS))
    messages += [{"role": "tool", "tool_call_id": name, "content": f"saw {name}"} for name in ("c2", "c1")]
    thought = {"role": "assistant", "content": "Going.", "reasoning_content": "West is open."}
    messages.append(world.chat(messages, thought, "s1", tools=TOOLS))
    messages.append({"role": "user", "content": "Hurry!"})
    world.chat(messages, asking(tool_call("move", {}, "c3")), "s1", tools=TOOLS, outcome="error")
    world.chat(messages, asking(tool_call("move", {}, "c3")), "s1", tools=TOOLS)
    world.event("s1", event_type="tool", name="move", tool_call_id="c3", data={"result": {"at": [1, 2]}})


def test_tool_results_belong_to_the_step_of_their_calls(world: World, exported: Export) -> None:
    agent(world)
    (row,) = exported("atif").rows
    check_trajectory(row)
    assert [step["source"] for step in row["steps"]] == ["system", "user", "agent", "agent", "user", "agent"]
    assert [step.get("llm_call_count") for step in row["steps"]] == [None, None, 1, 1, None, 1]
    assert row["steps"][3]["reasoning_content"] == "West is open."
    assert row["final_metrics"]["extra"]["reward"] == 1.5
    assert row["extra"] == {"task_id": "maze", "metadata": {"seed": 7}}
    assert row["agent"]["tool_definitions"] == TOOLS
    looked, moved = (row["steps"][number]["observation"]["results"] for number in (2, 5))
    assert {one["source_call_id"]: one["content"] for one in looked} == {"c1": "saw c1", "c2": "saw c2"}
    assert moved == [{"source_call_id": "c3", "content": '{"at":[1,2]}'}]
    sums = row["final_metrics"]
    assert (sums["total_cost_usd"], sums["total_prompt_tokens"]) == (0.003, 30), "money digit by digit"
    assert sums["extra"]["calls_left_out"] == 1, "the failed one"
    world.chat(QUESTION, "?", "s1", usage=Usage(output_tokens=7), cost=None)
    sums = exported("atif").rows[0]["final_metrics"]
    assert (sums["total_prompt_tokens"], sums["total_completion_tokens"]) == (30, 22)
    assert (sums["extra"]["calls_without_usage"], sums["extra"]["calls_without_cost"]) == (1, 1)


def test_rewritten_history_is_copied_context(world: World, exported: Export) -> None:
    world.session("s1")
    question = {"role": "user", "content": "Long story?"}
    answer = world.chat([question], "Once upon a time.", "s1")
    summary = {"role": "user", "content": "So far: a story began."}
    world.chat([summary, question, answer, {"role": "user", "content": "And?"}], "The end.", "s1")
    (row,) = exported("atif").rows
    check_trajectory(row)
    copied = [(step["message"], step.get("is_copied_context", False)) for step in row["steps"]]
    assert copied == [
        ("Long story?", False),
        ("Once upon a time.", False),
        ("So far: a story began.", False),
        ("Long story?", True),
        ("Once upon a time.", True),
        ("And?", False),
        ("The end.", False),
    ]


@pytest.mark.parametrize("ids", [("c0", "c1", "c2"), ("c0", "c0", "c0")])
@pytest.mark.parametrize("rules", ["aaa", "aba"])
def test_repeated_words_and_ids_stay_in_their_step(world: World, exported: Export, ids: str, rules: str) -> None:
    """Also where another system prompt repeats the whole history. No model sees the last result."""
    world.session("s1")
    messages: list[dict[str, Any]] = []
    for number, (call_id, rule) in enumerate(zip(ids, rules, strict=True)):
        messages.append({"role": "user", "content": "a wall"})
        asked = [{"role": "system", "content": rule}, *messages]
        messages.append(world.chat(asked, asking(tool_call("look", {}, call_id)), "s1"))
        messages.append({"role": "tool", "tool_call_id": call_id, "content": f"saw {number}"})
        fields = {"tool_call_id": call_id, "data": {"result": f"saw {number}"}}
        world.event("s1", event_type="tool", time_ns=START_NS + (number + 1) * 3 * SECOND, **fields)
    (row,) = exported("atif").rows
    check_trajectory(row)
    fresh = [step for step in row["steps"] if not step.get("is_copied_context")]
    assert [step["message"] for step in fresh if step["source"] == "user"] == ["a wall"] * 3
    found = [(one.get("llm_call_count"), one["observation"]["results"]) for one in row["steps"] if "observation" in one]
    assert found == [(1, [{"source_call_id": one, "content": f"saw {number}"}]) for number, one in enumerate(ids)]


def test_token_ids_are_included(world: World, exported: Export) -> None:
    world.session("s1")
    logprobs = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]}
    choice = {"token_ids": [7, 8], "logprobs": logprobs}
    world.chat([{"role": "user", "content": "?"}], "ab", "s1", choice=choice, body={"prompt_token_ids": [1, 2, 3]})
    (row,) = exported("atif").rows
    check_trajectory(row)
    metrics = row["steps"][-1]["metrics"]
    assert metrics["prompt_token_ids"] == [1, 2, 3]
    assert metrics["completion_token_ids"] == [7, 8]
    assert metrics["logprobs"] == [-0.5, -1.5]


def test_pictures_are_parts(world: World, exported: Export) -> None:
    world.session("s1")
    urls = ("data:image/png;base64,YSBi", "https://example.org/a.png", "data:image/svg+xml;base64,YSBi")
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    world.chat([{"role": "user", "content": [{"type": "text", "text": "What?"}, *parts]}], "A cat.", "s1")
    found = exported("atif")
    check_trajectory(found.rows[0])
    picture = {"type": "image", "source": {"media_type": "image/png", "path": urls[0]}}
    assert found.rows[0]["steps"][0]["message"] == [{"type": "text", "text": "What?"}, picture]
    assert found.dropped == {"image_url of a trajectory": 2}


def test_harbor_reads_the_trajectory(world: World, exported: Export) -> None:
    agent(world)
    found = exported("atif", options=Options(agent_name="robot", agent_version="2.1"))
    assert (found.rows[0]["agent"]["name"], found.rows[0]["agent"]["version"]) == ("robot", "2.1")
    models = pytest.importorskip("harbor.models.trajectories", reason="needs harbor (Python 3.12): pip install harbor")
    for row in found.rows:
        models.Trajectory.model_validate_json(json.dumps(row))


QUESTION = [{"role": "user", "content": "?"}]


def test_rollout_has_the_token_ids_of_the_server(world: World, exported: Export) -> None:
    world.session("s1", reward=2.0, task_id="t", group_id="g")
    logprobs = {"content": [{"token": "a", "logprob": -0.25}, {"token": "b", "logprob": -1.0}]}
    choice = {"token_ids": [7, 8], "logprobs": logprobs, "finish_reason": "length"}
    place = Place(session_id="s1", timestep_id="t1")
    for _ in range(2):
        world.chat(QUESTION, "ab", "s1", choice=choice, body={"prompt_token_ids": [1, 2, 3]}, place=place)
    world.records.append(step("t1", totals=Totals()))
    for value in (0.1, 0.2):
        world.event("s1", timestep_id="t1", reward=value)
    world.reward("s1", 0.5, timestep_id="t1", scope="event")
    world.reward("s1", 7.0, timestep_id="t1", scope="event", objective="helpful")
    world.chat(QUESTION, "no ids", "s1")
    world.records += [step(name, index=1, parent_timestep_id="t1") for name in ("t2", "t3")]
    place = Place(session_id="s1", timestep_id="t2")
    world.chat(QUESTION, "c", "s1", choice=choice, body={"prompt_token_ids": [1]}, place=place)
    world.event("s1", timestep_id="t2", reward=4)
    world.event("s1", timestep_id="t3", reward=0.1)
    found = exported("rollouts")
    (row,) = found.rows
    assert (row["reward"], row["example_id"], row["group_id"], row["trajectory_id"]) == (2.0, "t", "g", "s1")
    first, called, nested = row["steps"]
    assert called["tokens"] == {
        "prompt_ids": [1, 2, 3],
        "prompt_mask": [0, 0, 0],
        "completion_ids": [7, 8],
        "completion_mask": [1, 1],
        "completion_logprobs": [-0.25, -1.0],
        "is_truncated": True,
    }
    assert called["prompt"] == QUESTION
    assert called["completion"] == [{"role": "assistant", "content": "ab"}]
    assert (first["reward"], called["reward"], nested["reward"]) == (None, 0.9, 4), "once, at its timestep's last call"
    rated = exported("rollouts", options=Options(objective="helpful")).rows[0]["steps"]
    assert [step["reward"] for step in rated] == [None, 7.0, None]
    assert found.left_out == {"call: no token ids": 1}


def test_call_table_keeps_its_types(world: World, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'callspan[datasets]'")
    world.session("s1", reward=0.5, metadata={"seed": 7})
    world.chat(QUESTION, "In.", "s1")
    world.chat(QUESTION, "Out.", usage=None, cost=None)
    target = tmp_path / "calls.parquet"
    export(open_store(world.write(tmp_path / "w.db")), "parquet", str(target))
    table = parquet.read_table(target)
    assert {field.name: str(field.type).replace("double", "float64") for field in table.schema} == tables.COLUMNS
    inside, outside = table.to_pylist()
    assert json.loads(inside["messages"]) == QUESTION
    assert json.loads(inside["answer"])["content"] == "In."
    assert Decimal(inside["cost_usd"]) == Decimal("0.001")
    assert (inside["reward"], inside["input_tokens"]) == (0.5, 10)
    assert (outside["reward"], outside["input_tokens"], outside["cost_usd"], outside["session_id"]) == (None,) * 4


def test_missing_pyarrow_names_the_extra(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    world.chat(QUESTION, "x")
    with pytest.raises(SettingError, match=r"pip install .callspan\[datasets\]"):
        export(open_store(world.write(tmp_path / "w.db")), "parquet", tmp_path / "x.parquet", options=Options())
    assert not (tmp_path / "x.parquet").exists()


IDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "choices.token_ids": ({"prompt_token_ids": [1, 2]}, {"token_ids": [7, 8]}),
    "sglext.output_ids": ({"sglext": {"input_ids": [1, 2], "output_ids": [[7, 8]]}}, {}),
    "nvext.completion_token_ids": ({"prompt_token_ids": [1, 2], "nvext": {"completion_token_ids": [7, 8]}}, {}),
    "nvext.engine_data.completion_token_ids": (
        {"nvext": {"engine_data": {"prompt_token_ids": [1, 2], "completion_token_ids": [7, 8]}}},
        {},
    ),
    "choices.message.completion_token_ids": (
        {},
        {
            "message": {
                "role": "assistant",
                "content": "ab",
                "prompt_token_ids": [1, 2],
                "completion_token_ids": [7, 8],
            }
        },
    ),
}
PROMPTS = [
    "prompt_token_ids",
    "sglext.input_ids",
    "prompt_token_ids",
    "nvext.engine_data.prompt_token_ids",
    "choices.message.prompt_token_ids",
]
COUNTED = {"usage": {"prompt_tokens": 2, "completion_tokens": 2}}


@pytest.mark.parametrize(("field", "prompt"), [*zip(IDS, PROMPTS, strict=True)])
def test_rollout_names_the_source_of_its_ids(world: World, exported: Export, field: str, prompt: str) -> None:
    body, choice = IDS[field]
    world.session("s1")
    world.chat(QUESTION, "ab", "s1", body=body | COUNTED, choice=choice)
    (step,) = exported("rollouts").rows[0]["steps"]
    assert (step["tokens"]["prompt_ids"], step["tokens"]["completion_ids"]) == ([1, 2], [7, 8])
    assert step["token_fields"] == {"prompt_ids": prompt, "completion_ids": field}


@pytest.mark.parametrize(
    ("usage", "what"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, "prompt"),
        ({"prompt_tokens": 2, "completion_tokens": 3}, "completion"),
        ({"input_tokens": 2, "output_tokens": 1}, "completion"),
    ],
)
def test_ids_that_contradict_the_count_are_omitted(
    world: World, exported: Export, usage: dict[str, int], what: str
) -> None:
    world.session("s1")
    body, choice = IDS["choices.token_ids"]
    world.chat(QUESTION, "ab", "s1", body=body | {"usage": usage}, choice=choice)
    found = exported("rollouts")
    assert found.rows == []
    assert found.left_out[f"call: the ids of the {what} do not fit its counted tokens"] == 1
    assert "prompt_token_ids" not in exported("atif").rows[0]["steps"][-1]["metrics"]


def test_count_of_several_choices_does_not_apply_to_the_first(world: World, exported: Export) -> None:
    world.session("s1")
    body, choice = IDS["choices.token_ids"]
    other = {"index": 1, "message": {"role": "assistant", "content": "c"}, "finish_reason": "stop", "token_ids": [9]}
    message = {"role": "assistant", "content": "ab"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop", **choice}, other]
    counted = {"usage": {"prompt_tokens": 2, "completion_tokens": 3}}
    world.chat(QUESTION, "ab", "s1", body=body | counted | {"choices": choices})
    (step,) = exported("rollouts").rows[0]["steps"]
    assert step["tokens"]["completion_ids"] == [7, 8]


@pytest.mark.parametrize(
    ("flags", "session", "stop", "success"),
    [
        ([{"truncated": True}], {"outcome": "failure", "success": False}, "truncated", False),
        ([{"terminated": False, "truncated": True}], {"outcome": "success"}, "truncated", None),
        ([{"truncated": False}, {"terminated": True}], {"outcome": "failure", "success": False}, "terminated", False),
        ([{"terminated": True}, {"terminated": False}], {"outcome": "failure"}, None, None),
        ([], {"outcome": "failure", "success": False}, None, False),
        ([], {"outcome": "max_turns", "success": False}, "max_turns", False),
        ([{"truncated": True}], {"outcome": "error"}, "error", None),
    ],
)
def test_stop_condition_is_not_the_verdict(
    world: World, exported: Export, flags: list[Any], session: dict[str, Any], stop: str | None, success: bool | None
) -> None:
    """An episode that only ran out of steps has failed, but was not stopped by its failure."""
    world.session("s1", **session)
    body, choice = IDS["choices.token_ids"]
    world.chat(QUESTION, "ab", "s1", body=body, choice=choice)
    for one in flags:
        world.event("s1", **one)
    (row,) = exported("rollouts").rows
    assert (row["stop_condition"], row["outcome"], row["success"]) == (stop, session["outcome"], success)


def streamed(*chunks: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a stream, without what `World.chat` adds itself."""
    return folded("chat_completions", *chunks) or {}


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


@pytest.mark.parametrize(
    "chunks",
    [
        [delta(content="", prompt_token_ids=[1, 2]), delta(content="a", token_ids=[7]), delta("stop", token_ids=[8])],
        [
            delta(content="a") | {"nvext": {"worker_id": 1, "completion_token_ids": [7]}, "prompt_token_ids": [1, 2]},
            delta("stop", content="b") | {"nvext": {"completion_token_ids": [8]}, "prompt_token_ids": [1, 2]},
        ],
        [delta("stop", content="ab"), {"choices": [], "sglext": {"input_ids": [1, 2], "output_ids": [[7, 8]]}}],
        [
            delta("stop", content="ab") | {"nvext": "odd"},
            {"nvext": {"completion_token_ids": [9]}},
            {"choices": [], "sglext": {"input_ids": [1, 2], "output_ids": [[7, 8]]}},
        ],
    ],
    ids=["first delta", "each chunk", "last chunk", "an odd extension"],
)
def test_stream_has_the_ids_of_all_chunks(world: World, exported: Export, chunks: list[dict[str, Any]]) -> None:
    world.session("s1")
    world.chat(QUESTION, "ab", "s1", body=streamed(*chunks) | COUNTED)
    (step,) = exported("rollouts").rows[0]["steps"]
    assert (step["tokens"]["prompt_ids"], step["tokens"]["completion_ids"]) == ([1, 2], [7, 8])


REST = [{"role": "user", "content": "And?"}]


@pytest.mark.parametrize("form", ["apart", "as one message", "in a thread"])
def test_continuation_does_not_repeat_a_paused_answer(world: World, exported: Export, form: str) -> None:
    world.session("s1")
    said, messages, merged = "", QUESTION, form == "as one message"
    turns = (("Wait", "pause_turn"), (": a", "pause_turn"), (", b.", "end_turn"), ("Done.", "end_turn"))
    for number, (text, reason) in enumerate(turns):
        request = {"messages": [*messages, *(REST if text == "Done." else [])]}
        if form == "in a thread" and number:
            new = REST if text == "Done." else []
            request = {"messages": new, "thread": {"type": "continue", "previous_message_id": f"msg_{number - 1}"}}
        answer = {"id": f"msg_{number}", "role": "assistant", "content": text, "stop_reason": reason}
        world.call("messages", request, answer, "s1")
        said += text
        answers = [said] if merged else [one["content"] for one in messages[1:]] + [text]
        messages = [*QUESTION, *({"role": "assistant", "content": answer} for answer in answers)]
    (row,) = exported("atif").rows
    check_trajectory(row)
    steps = [step["message"] for step in row["steps"]]
    assert steps == ["?", "Wait", ": a", ", b.", "And?", "Done."]
    assert [step.get("llm_call_count") for step in row["steps"]] == [None, 1, 1, 1, None, 1]


def test_answer_includes_its_prefill(world: World, exported: Export) -> None:
    world.session("s1")
    begun = {"role": "assistant", "content": "It is"}
    world.call("messages", {"messages": [*QUESTION, begun]}, {"role": "assistant", "content": " late."}, "s1")
    (row,) = exported("atif").rows
    assert [step["message"] for step in row["steps"]] == ["?", "It is late."]
