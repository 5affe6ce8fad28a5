"""Fine-tuning rows: accepted by trainers, each message once, each response trained on once, of every API."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.support.tables import table
from tests.support.waiting import HANG_MS
from tests.wire import corpus
from tests.wire.replay import Replayer

import callspan
from callspan import open_store
from callspan.datasets import Options, export
from callspan.stores import CallFilter

from .conftest import TOOLS, Export, Json, World, asking, check_fine_tuning, tool_call

SYSTEM = {"role": "system", "content": "Play."}
USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}


def asks(*ids: str, content: str | None = None) -> Json:
    return asking(*(tool_call("f", {}, one) for one in ids), content=content)


def tells(call_id: str) -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": "r"}


def play(world: World, session_id: str = "s1", turns: int = 3) -> None:
    """A session whose every call repeats all that was said before."""
    messages: list[dict[str, Any]] = [SYSTEM, {"role": "user", "content": "Begin."}]
    for number in range(turns):
        called = asking(tool_call("look", {"at": number}, f"c{number}"), tool_call("look", {}, f"d{number}"))
        messages.append(world.chat(messages, called, session_id, tools=TOOLS, parallel_tool_calls=True))
        messages += [{"role": "tool", "tool_call_id": f"{x}{number}", "content": f"saw {number}"} for x in "cd"]
    world.chat(messages, "Done.", session_id, tools=TOOLS)


def test_session_row_has_each_message_once(world: World, exported: Export) -> None:
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


def test_call_row_trains_only_on_its_answer(world: World, exported: Export) -> None:
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


def test_forked_conversation_trains_on_each_message_once(world: World, exported: Export) -> None:
    world.session("s1")
    first = {"role": "user", "content": "A number?"}
    answer = world.chat([first], "7", "s1")
    for question in ("Why?", "Another!"):
        world.chat([first, answer, {"role": "user", "content": question}], f"Because {question}", "s1")
    rows = exported("openai-session").rows
    assert len(rows) == 2
    weights = [[m["weight"] for m in row["messages"] if m["role"] == "assistant"] for row in rows]
    assert weights == [[1, 1], [0, 1]]


def test_empty_last_answer_drops_only_itself(world: World, exported: Export) -> None:
    world.session("s1")
    world.chat([USER, world.chat([USER], "a", "s1"), USER], "", "s1")
    found = exported("openai-session")
    assert [row["messages"] for row in found.rows] == [[USER, {**ANSWER, "weight": 1}]]
    assert found.left_out == {"row: an empty assistant message": 1}


def response(number: int, text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text}]
    return {"id": f"resp_{number}", "output": [{"type": "message", "role": "assistant", "content": content}]}


def links(kind: str, number: int) -> dict[str, Any]:
    """What a request of the Responses API says of those before it."""
    if kind == "conversation":
        return {"conversation": {"id": "conv_1"}}
    return {"previous_response_id": f"resp_{number - 1}"} if number else {}


@pytest.mark.parametrize(
    "choice", [{"model": "small"}, {"label": "good"}, {"objectives": ("liked",), "min_score": 0.5}]
)
@pytest.mark.parametrize("kind", ["conversation", "response"])
def test_earlier_calls_supply_messages(world: World, exported: Export, kind: str, choice: dict[str, Any]) -> None:
    world.session("s1")
    for number, model in enumerate(("small", "big", "small")):
        sent = {"model": model, "input": f"Question {number}", **links(kind, number)}
        call = world.call("responses", sent, response(number, f"Answer {number}"), "s1")
        if model == "small":
            world.reward("s1", 1, call_id=call.call_id, scope="call", objective="liked", label="good")
        else:
            world.reward("s1", 0, call_id=call.call_id, scope="call", objective="liked")
    found = exported("openai", **choice)
    texts = [text for number in range(3) for text in (f"Question {number}", f"Answer {number}")]
    assert [[m["content"] for m in row["messages"]] for row in found.rows] == [texts[:2], texts]
    assert not found.dropped


@pytest.mark.parametrize("kind", ["conversation", "response"])
def test_missing_history_is_reported_once(world: World, exported: Export, kind: str) -> None:
    world.session("s1")
    for number in range(3):
        sent = {"model": "m", "input": f"Question {number}", **links(kind, number)}
        world.call("responses", sent, response(number, f"Answer {number}"), "s1" if number else None)
    found = exported("openai", session_id="s1")
    assert [m["content"] for m in found.rows[-1]["messages"]] == ["Question 1", "Answer 1", "Question 2", "Answer 2"]
    assert found.dropped == {"history only the provider remembers": 1}


def test_changed_instructions_follow_each_call(world: World, exported: Export) -> None:
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


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [("q", None), (["q"], None), (["q", "r"], "call: several prompts"), ([1, 2], "row: no prompt")],
)
def test_completion_row_has_one_text_prompt(world: World, exported: Export, prompt: Any, reason: str | None) -> None:
    world.call("completions", {"prompt": prompt, "echo": True}, {"choices": [{"index": 0, "text": "qa"}]})
    found = exported("openai")
    assert [row["messages"] for row in found.rows] == ([] if reason else [[USER, {**ANSWER, "weight": 1}]])
    assert found.left_out == ({reason: 1} if reason else {})


def test_compaction_is_neither_answer_nor_message(world: World, exported: Export) -> None:
    compacted = [{"type": "message", **USER}, {"type": "compaction", "encrypted_content": "x"}]
    world.call("responses", {"input": "q"}, {"output": compacted})
    world.call("responses", {"input": [*compacted, {"type": "item_reference", "id": "m"}, USER]}, response(1, "a"))
    found = exported("openai")
    assert [row["messages"] for row in found.rows] == [[USER, USER, {**ANSWER, "weight": 1}]]
    assert found.left_out == {"call: compaction": 1}
    assert found.dropped == {"compactions": 1, "history only the provider remembers": 1}


def test_failed_cut_and_empty_calls_are_not_exported(world: World, exported: Export) -> None:
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


def test_any_text_gives_a_valid_row(world: World, exported: Export) -> None:
    nasty = 'line\nbreak \u2028 \u2029 \x85 "quote" \\ \x1b[31m </script> \x00'
    world.chat([{"role": "user", "content": nasty}], nasty)
    endless = tool_call("f", {}, "c")
    endless["function"]["arguments"] = "[" * 5_000
    world.chat([USER], asking(endless))
    row, of_tool = exported("openai").rows
    check_fine_tuning(row)
    assert json.loads(json.dumps(row["messages"][0]["content"])).startswith("line\nbreak")
    assert of_tool["messages"][-1]["tool_calls"] == [endless]


def test_called_tool_is_defined(world: World, exported: Export) -> None:
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


# Conversions: what the requests and answers of every API are as messages of a chat.


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([USER, ANSWER], None),
        ([USER, asks("a", "b"), tells("b"), tells("a"), ANSWER], None),
        ([USER, asks("a", content="text too"), tells("a"), ANSWER], None),
        ([USER, {"role": "assistant", "content": None, "refusal": "no"}], None),
        ([USER, asks("a"), ANSWER], "a tool call without its result"),
        ([USER, tells("a"), ANSWER], "a tool result without its call"),
        ([USER, asks("a"), tells("a"), tells("a"), ANSWER], "a tool result without its call"),
        ([USER, {"role": "assistant", "content": ""}], "an empty assistant message"),
        ([ANSWER], "no prompt"),
        ([{"role": "user", "content": ""}, USER, ANSWER], None),
        (
            [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": "u"}}]}, ANSWER],
            "an empty question",
        ),
        ([{"role": "system", "content": "a"}, {"role": "user", "content": ""}, ANSWER], "an empty question"),
        ([{"role": "system", "content": "a"}, ANSWER], None),
    ],
)
def test_rejected_messages_are_counted(
    world: World, exported: Export, messages: list[Json], reason: str | None
) -> None:
    world.chat(messages[:-1], messages[-1])
    found = exported("openai")
    assert len(found.rows) == (reason is None)
    assert found.left_out == ({} if reason is None else {f"row: {reason}": 1})


CASES: Json = table(Path(__file__).with_name("chat_messages.yaml"))
MISSING = {"definition of a tool that was called": 1}


@pytest.mark.parametrize("case", CASES["definitions of tools"], ids=str)
def test_tool_definitions_of_every_api(world: World, exported: Export, case: Json) -> None:
    world.chat([USER], asks("a"), tools=[case["tool"]])
    found = exported("openai")
    assert found.rows[0].get("tools", []) == ([case["written"]] if case["written"] else [])
    assert found.dropped == case.get("dropped", {}) | ({} if case["written"] else MISSING)


@pytest.mark.parametrize("case", CASES["media"], ids=str)
def test_media_are_parts_or_omitted(world: World, exported: Export, case: Json) -> None:
    asked = [{"role": "user", "content": [case["part"]]}, USER]
    request = {"input" if case["api"] == "responses" else "messages": asked}
    answers: dict[str, Json] = {
        "chat_completions": {"choices": [{"index": 0, "message": ANSWER}]},
        "responses": {"output": [{"type": "message", **ANSWER}]},
        "messages": ANSWER,
    }
    world.call(case["api"], request, answers[case["api"]])
    found = exported("openai")
    content = found.rows[0]["messages"][0]["content"]
    if "missing" in case:
        assert (content, found.dropped) == ("", {case["missing"]: 1})
    else:
        assert (content, found.dropped) == ([case["written"]], {})


@pytest.mark.parametrize("case", CASES["answers"], ids=str)
def test_answer_as_a_chat_message(world: World, exported: Export, case: Json) -> None:
    world.call(case["api"], {"messages": [USER], "input": "q"}, case["answer"])
    found = exported("openai")
    assert found.rows[0]["messages"][-1] == {"role": "assistant", "weight": 1} | case["message"]
    assert found.dropped == case.get("dropped", {})


@pytest.mark.parametrize(
    ("content", "expected", "dropped"),
    [
        (None, "", 0),
        ("text", "text", 0),
        ([{"type": "text", "text": "a"}], "a", 0),
        ([{"type": "input_text", "text": "a"}, {"type": "output_text"}],
         [{"type": "text", "text": "a"}, {"type": "text", "text": ""}], 0),
        ([{"type": "image"}, "odd", {"type": "text", "text": "a"}], "a", 2),
        ([{"text": "a"}, {"json": {"b": 1}}, {"image": {}}],
         [{"type": "text", "text": "a"}, {"type": "text", "text": '{"b":1}'}], 1),
        ([{"seen": 1}, "x"], '[{"seen":1},"x"]', 0),
        ([], "", 0),
    ],
)  # fmt: skip
def test_tool_result_is_text(world: World, exported: Export, content: object, expected: object, dropped: int) -> None:
    world.chat([USER, asks("k"), {**tells("k"), "content": content}], "x")
    found = exported("openai")
    assert found.rows[0]["messages"][2] == {"role": "tool", "tool_call_id": "k", "content": expected}
    assert found.dropped["part of a tool result that is no text"] == dropped


@pytest.mark.parametrize(("role", "dropped"), [("user", {}), ("human", {}), ("critic", {"role critic": 1})])
def test_unknown_roles_become_user_and_are_counted(
    world: World, exported: Export, role: str, dropped: dict[str, int]
) -> None:
    world.chat([{"role": role, "content": "q", "name": "n"}], "x")
    found = exported("openai")
    assert found.rows[0]["messages"][0] == {"role": "user", "content": "q", "name": "n"}
    assert found.dropped == dropped


def test_messages_api_becomes_chat_with_results_after_their_calls(world: World, exported: Export) -> None:
    system = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    used = [
        {"type": "text", "text": "Looking."},
        *({"type": "tool_use", "id": one, "name": "look", "input": {"at": one}} for one in ("t1", "t2")),
    ]
    results = [{"type": "tool_result", "tool_use_id": one, "content": f"saw {one}"} for one in ("t2", "t1")]
    asked = [
        USER,
        {"role": "assistant", "content": used},
        {"role": "user", "content": [*results, {"type": "text", "text": "a"}]},
    ]
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    world.call("messages", {"system": system, "messages": asked, "tools": tools, "tool_choice": choice}, ANSWER)
    (row,) = exported("openai").rows
    called = [json.loads(call["function"]["arguments"]) for call in row["messages"][2].pop("tool_calls")]
    assert called == [{"at": "t1"}, {"at": "t2"}]
    assert row["messages"] == [
        {"role": "system", "content": system}, USER, {"role": "assistant", "content": "Looking.", "weight": 0},
        {"role": "tool", "tool_call_id": "t2", "content": "saw t2"},
        {"role": "tool", "tool_call_id": "t1", "content": "saw t1"},
        {"role": "user", "content": "a"}, {**ANSWER, "weight": 1},
    ]  # fmt: skip
    assert row["parallel_tool_calls"] is False


def test_prefilled_answer_is_one_message(world: World, exported: Export) -> None:
    """As for JSON; the next request sends it whole."""
    world.session("s1")
    begun, whole = {"role": "assistant", "content": "{"}, {"role": "assistant", "content": "{}"}
    world.call(
        "messages", {"messages": [USER, begun]}, {"role": "assistant", "content": [{"type": "text", "text": "}"}]}, "s1"
    )
    world.call("messages", {"messages": [USER, whole, USER]}, ANSWER, "s1")
    (row,) = exported("openai-session").rows
    assert row["messages"] == [USER, {**whole, "weight": 1}, USER, {**ANSWER, "weight": 1}]


@pytest.mark.parametrize("form", ["sent again", "in a thread"])
def test_paused_answer_is_joined_with_its_continuation(world: World, exported: Export, form: str) -> None:
    world.session("s1")
    begun, whole = {"role": "assistant", "content": "Wait"}, {"role": "assistant", "content": "Wait: a", "weight": 1}
    first = {"messages": [USER], "system": "Be brief."}
    world.call("messages", first, {**begun, "id": "msg_1", "stop_reason": "pause_turn"}, "s1")
    resumed = {"messages": [], "thread": {"type": "continue", "previous_message_id": "msg_1"}}
    rest = resumed if form == "in a thread" else {**first, "messages": [USER, begun]}
    world.call("messages", rest, {"role": "assistant", "content": ": a"}, "s1")
    for name in ("openai", "openai-session"):
        found = exported(name)
        assert [row["messages"] for row in found.rows] == [[{"role": "system", "content": "Be brief."}, USER, whole]]
        assert found.left_out == {"row: a paused answer": 1}


def test_first_choice_is_the_answer(world: World, exported: Export) -> None:
    choices = [
        {"index": at, "message": {"role": "assistant", "content": text}} for at, text in enumerate(("No.", "Yes."))
    ]
    world.call("chat_completions", {"messages": [USER]}, {"choices": choices})
    found = exported("openai")
    assert found.rows[0]["messages"][-1]["content"] == "No."
    assert found.dropped == {"other choices of one answer": 1}


@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
def test_recorded_call_is_a_row_or_has_a_reason(tmp_path: Path) -> None:
    """Of chat: the very messages, unless something is reported as dropped."""
    store, target = f"sqlite:///{tmp_path}/recorded.db", tmp_path / "row.jsonl"
    answered = [one for one in corpus.load() if one.inference and one.status == 200 and one.endpoint != "embeddings"]
    handle = callspan.instrument(stores=store, spool_dir=tmp_path / "spool")
    with Replayer(asynchronous=False) as replayer:
        for exchange in answered:
            with callspan.session(session_id=exchange.id):
                replayer.play(exchange)
    assert handle.force_flush(HANG_MS)
    handle.uninstrument()
    outcomes, same = Counter[bool](), 0
    with closing(open_store(store)) as reader:
        for exchange in answered:
            found = export(reader, "openai", target, CallFilter(session_id=exchange.id))
            assert found.rows or found.left_out, exchange.id
            outcomes[found.rows == 1] += 1
            if not found.rows:
                continue
            row = json.loads(target.read_text())
            if not MISSING.keys() & found.dropped.keys():
                check_fine_tuning(row)
            if exchange.endpoint == "chat_completions" and not found.dropped and exchange.request is not None:
                sent: Any = exchange.request["messages"]
                assert [meaning(one) for one in row["messages"][:-1]] == [meaning(one) for one in sent]
                same += 1
    assert outcomes[True] > 0.9 * outcomes.total()
    assert same > (300 if corpus.IS_WHOLE else 30)


def meaning(message: Json) -> Json:
    """A message without what means nothing: nulls, empty lists, one text in a list, marks of caches, missing types."""
    keys = ("role", "content", "tool_calls", "tool_call_id")
    found = {key: message[key] for key in keys if message.get(key) not in (None, [], "")}
    if isinstance(found.get("content"), list):
        parts = [{k: v for k, v in part.items() if k in {"type", part["type"]}} for part in found["content"]]
        only_text = len(parts) == 1 and parts[0]["type"] == "text"
        found["content"] = parts[0]["text"] if only_text else [part for part in parts if part.get("text") != ""]
    if "tool_calls" in found:
        found["tool_calls"] = [(call.get("id"), call["function"]) for call in found["tool_calls"]]
    return found
