"""What two calls have in common if one continues the other, on every kind of wire; and what they do not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.records import made, raw

from callspan import Settings
from callspan.records import CallRecord, Redaction, Request, Response

from .conftest import RULES, Deliver, Joints, agrees, caller_processors, cells, joints_of, mentions_of


def call(api: str, sent: Any, received: Any, **fields: Any) -> CallRecord:
    request = Request(body=raw(sent), **fields.pop("request", {}))
    return made(api=api, request=request, response=Response(body=raw(received), **fields.pop("response", {})), **fields)


def rules(earlier: CallRecord, later: CallRecord) -> set[str]:
    """The rules by which the later call may continue the earlier one."""
    joints = joints_of(earlier)
    offered = {joint.key: joint for joint in [*joints.offered, *(joints.histories or ())]}
    sought = joints_of(later).sought
    return {
        rule for rule in RULES for joint in (mentions_of(later) if rule == "mention" else sought.get(rule, []))
        if joint.key in offered and agrees(joint, offered[joint.key])
    }  # fmt: skip


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def chat(messages: list[Any], answer: dict[str, Any], **fields: Any) -> CallRecord:
    return call("chat_completions", {"messages": messages}, {"choices": [{"index": 0, "message": answer}]}, **fields)


def tool(ident: str, name: str = "weather", arguments: str = '{"city": "Oslo"}') -> dict[str, Any]:
    function = {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [function]}


ASKED = tool("call_8Zk2")
RESULT = {"role": "tool", "tool_call_id": "call_8Zk2", "content": "sunny"}
SIGNATURE = "c2lnbmF0dXJlIG9mIHRoZSB0aG91Z2h0cw=="

LOOPS: dict[str, tuple[str, Any, Any, Any, set[str]]] = {
    "chat": ("chat_completions", {"messages": [user("Hi")]}, {"choices": [{"message": ASKED}]},
             {"messages": [user("Hi"), tool("call_8Zk2", arguments='{"city":"Oslo"}'), RESULT]}, {"tool", "history"}),
    "messages": (
        "messages", {"system": "Plan.", "messages": [user("Hi")]},
        {"content": [{"type": "thinking", "thinking": "…", "signature": SIGNATURE},
                     {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}]},
        {"system": "Plan.", "messages": [
            user("Hi"),
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "…", "signature": SIGNATURE},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]}]},
        {"seal", "tool", "history"}),
    "responses": (
        "responses", {"input": "Hi"},
        {"id": "resp_1", "output": [{"type": "function_call", "call_id": "c1", "name": "w", "arguments": "{}"}]},
        {"input": [{"role": "user", "content": "Hi"},
                   {"type": "function_call", "call_id": "c1", "name": "w", "arguments": "{}"},
                   {"type": "function_call_output", "call_id": "c1", "output": "sunny"}]}, {"tool", "history"}),
    "gemini": (
        "generate_content", {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
        {"candidates": [{"content": {"role": "model", "parts": [{"functionCall": {"name": "w", "args": {"a": 1}}}]}}]},
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]},
                      {"role": "model", "parts": [{"functionCall": {"name": "w", "args": {"a": 1}}}]},
                      {"role": "user", "parts": [{"functionResponse": {"name": "w", "response": {"r": 1}}}]}]},
        {"history"}),
    "converse": (
        "converse", {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
        {"output": {"message": {"role": "assistant", "content": [
            {"toolUse": {"toolUseId": "tooluse_a", "name": "w", "input": {"a": 1}}}]}}},
        {"messages": [
            {"role": "user", "content": [{"text": "Hi"}]},
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "tooluse_a", "name": "w", "input": {"a": 1}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "tooluse_a", "content": [{"text": "r"}]}}]}]},
        {"tool", "history"}),
}  # fmt: skip


@pytest.mark.parametrize("wire", LOOPS)
def test_result_of_a_tool_continues_the_answer_that_asked(wire: str) -> None:
    api, request, answer, following, expected = LOOPS[wire]
    asked = call(api, request, answer)
    assert rules(asked, call(api, following, answer)) == expected
    assert rules(asked, asked) == set()
    other = json.loads(
        json.dumps(following).replace("Oslo", "Rome").replace('"a": 1', '"a": 2').replace('"Hi"', '"Ho"')
    )
    assert "history" not in rules(asked, call(api, other, answer))


def test_next_question_continues_history_with_the_same_instructions_alone() -> None:
    hello = said("Hello, and welcome to the shop.")
    first = chat([{"role": "system", "content": "Sell."}, user("Hi")], hello)
    history = [user("Hi"), hello, user("A book?")]
    assert rules(first, chat([{"role": "system", "content": "Sell."}, *history], said("Yes."))) == {"history"}
    assert rules(first, chat([{"role": "system", "content": "Buy."}, *history], said("Yes."))) == set()
    assert rules(first, chat(history, said("Yes."))) == set()


def test_loop_may_write_behind_a_long_answer_but_not_behind_a_short_one() -> None:
    long, short = "Thought: I look at the weather.", "Thought."
    for text, expected in ((long, {"history"}), (short, set[str]())):
        written = chat([user("Hi"), said(f"{text}\nObservation: sunny"), user("go on")], said("Yes."))
        assert rules(chat([user("Hi")], said(text)), written) == expected
        assert rules(chat([user("Hi")], said(f"{text} And more of it.")), written) == set()


@pytest.mark.parametrize("ident", ["weather", "weather:2"])
def test_id_that_is_the_name_of_its_tool_is_none(ident: str) -> None:
    """Where an API has none, the name stands there, of several tool calls with a number."""
    asked = tool(ident)
    following = chat([user("Ho"), asked, {"role": "tool", "tool_call_id": ident, "content": "x"}], said("Yes."))
    assert rules(chat([user("Hi")], asked), following) == set()


def test_id_counts_with_its_tool_call_or_without_any_history() -> None:
    issued = chat([user("Hi")], ASKED)
    assert rules(issued, chat([RESULT], said("Yes."))) == {"tool"}
    assert rules(issued, chat([user("cut"), ASKED, RESULT], said("Yes."))) == {"tool"}
    assert rules(issued, chat([user("cut"), tool("call_8Zk2", "other"), RESULT], said("Yes."))) == set()
    assert rules(issued, chat([user("cut"), tool("call_other"), RESULT], said("Yes."))) == set()


def test_text_may_mention_a_long_id() -> None:
    issued = chat([user("Hi")], tool("call_8Zk2Jq0Lm"))
    assert rules(issued, chat([user("Result of call_8Zk2Jq0Lm: sunny")], said("Yes."))) == {"mention"}
    assert rules(chat([user("Hi")], tool("call_8Z")), chat([user("Result of call_8Z: sunny")], said("Yes."))) == set()


def test_provider_keeps_responses_and_conversations() -> None:
    answer = {"id": "resp_1", "output": []}
    first = call("responses", {"input": "Hi"}, answer, response={"id": "resp_1"})
    again = call("responses", {"input": "And?"}, answer, request={"continues": "resp_1"})
    assert rules(first, again) == {"kept"}
    named = [call("responses", {"input": "Hi"}, answer, request={"conversation_id": "conv_1"}) for _ in range(2)]
    assert rules(named[0], named[1]) == {"kept"}


@pytest.mark.parametrize("wire", LOOPS)
def test_offer_of_a_call_is_read_in_the_request_that_continues_it(wire: str, sqlite_url: str, deliver: Deliver) -> None:
    """The writer reads the offer of a single call from the parts of its bodies, and nothing else."""
    api, request, answer, following, _ = LOOPS[wire]
    first, then = call(api, request, answer), call(api, following, answer)
    (offer,) = joints_of(first).offers
    assert offer in joints_of(then).sought["history"][0].offers
    store = deliver(sqlite_url)
    store.write(first)
    assert cells(store, "SELECT offer FROM calls") == [(offer,)]


@pytest.mark.parametrize("fields", [{"service": "b"}, {"metadata": {"user_id": "b"}}, {"metadata": {"tenant": 1}}])
def test_offers_of_others_are_others(fields: dict[str, Any]) -> None:
    same, text = {"service": "a", "metadata": {"user_id": "a"}}, "Hello, and welcome to the"
    first, equal = (joints_of(chat([user("Hi")], said(f"{text} {end}"), **same)).offers for end in ("shop.", "bank."))
    other = joints_of(chat([user("Hi")], said(f"{text} shop."), **{**same, **fields})).offers
    assert first == equal != other


@pytest.mark.parametrize("changed", ["request.body", "response.body"])
@pytest.mark.parametrize("why", ["redactor", "media", "size", "secret"])
def test_changed_messages_have_no_history(why: str, changed: str) -> None:
    hello = said("Hello, and welcome to the shop.")
    first, then = [user("Hi")], [user("Hi"), hello, user("A book?")]
    notes = [Redaction(what=changed, why=why)]
    assert rules(chat(first, hello, redactions=notes), chat(then, said("Yes."), redactions=notes)) == set()
    asked = chat(first, tool("call_8Zk2Jq0Lm"), redactions=notes)
    brought = {"role": "tool", "tool_call_id": "call_8Zk2Jq0Lm", "content": "sunny"}
    assert rules(asked, chat([user("x"), tool("call_8Zk2Jq0Lm"), brought], said("Y"), redactions=notes)) == {"tool"}
    masked = chat(first, tool("[x]"), redactions=[Redaction(what=changed, why="redactor")])
    assert joints_of(masked).offered_ids == frozenset()


ITEMS: dict[str, tuple[dict[str, Any], bool]] = {
    "function": ({"name": "ls", "arguments": "{}"}, True),
    "custom_tool": ({"name": "sql", "input": "select 1"}, True),
    "local_shell": ({"action": {"type": "exec", "command": ["ls"]}}, True),
    "shell": ({"action": {"commands": ["ls"]}}, True),
    "apply_patch": ({"operation": {"type": "delete_file", "path": "a"}}, True),
    "computer": ({"action": {"type": "click", "x": 1, "y": 2}}, True),
    "tool_search": ({"execution": "client", "arguments": {}}, True),
    "web_search": ({"action": {"type": "search", "query": "x"}}, False),
    "mcp": ({"name": "q", "arguments": "{}", "server_label": "atlas"}, False),
}


@pytest.mark.parametrize("level", ["full", "metadata", "off"])
@pytest.mark.parametrize("kind", ITEMS)
def test_id_of_a_tool_that_the_application_runs_joins_whatever_its_kind(kind: str, level: Any) -> None:
    fields, is_of_application = ITEMS[kind]
    asks = {"type": f"{kind}_call", "id": "item_1", "call_id": "call_Zk3Lq8Wm2Vn5", "status": "completed", **fields}
    brings = {"type": f"{kind}_call_output", "call_id": "call_Zk3Lq8Wm2Vn5", "output": "a.txt"}
    process = caller_processors(Settings(content=level)).process
    first = process(call("responses", {"input": [user("Go")]}, {"output": [asks]})).record
    then = process(call("responses", {"input": [user("Go"), asks, brings]}, {"output": []})).record
    assert ("tool" in rules(first, then)) == is_of_application


@pytest.mark.parametrize(
    "fields", [{"service": "b"}, {"content_level": "off"}, {"metadata": {"user_id": "b"}}, {"metadata": {"tenant": 1}}]
)
def test_histories_of_others_have_other_joints(fields: dict[str, Any]) -> None:
    hello = said("Hello, and welcome to the shop.")
    then = [user("Hi"), hello, user("A book?")]
    first = chat([user("Hi")], hello, service="a", metadata={"user_id": "a"})
    assert rules(first, chat(then, said("Yes."), service="a", metadata={"user_id": "a"})) == {"history"}
    assert rules(first, chat(then, said("Yes."), **{"service": "a", "metadata": {"user_id": "a"}, **fields})) == set()


def test_calls_in_sessions_and_first_versions_have_no_joints() -> None:
    none = Joints((), frozenset(), {}, histories=())
    assert joints_of(chat([user("Hi")], ASKED).__class__(call_id="c", timing=made().timing, part="started")) == none


def test_joints_are_numbers_of_63_bits() -> None:
    joints = joints_of(chat([user("Hi"), ASKED, RESULT], said("Yes, it is sunny in Oslo.")))
    assert all(
        0 <= number < 2**63
        for joint in [*joints.offered, *joints.sought["history"]]
        for number in (joint.key, joint.proof)
    )


@pytest.mark.parametrize("body", [{"messages": "?"}, {"messages": [None, {"role": 1}]}, {}, [], 7])
def test_any_body_has_joints(body: Any) -> None:
    for api in ("chat_completions", "messages", "responses", "generate_content", "converse", "unknown"):
        joints_of(call(api, body, body))
