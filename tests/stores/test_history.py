"""Conversations and sessions in lists: continued calls, new messages, runs and their order."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.records import raw
from tests.support.world import World

from callspan.datasets import export
from callspan.records import (
    CallRecord,
    ErrorInfo,
    EventRecord,
    Message,
    Place,
    Request,
    Response,
    Timing,
    ToolCall,
    ToolResult,
)
from callspan.stores import ConversationReader, History, NewMessages, Reader, whole_conversation

from .conftest import SECOND, START_NS, Delivery, Records, event, message, reward, run, step


class Chain:
    """Makes calls that continue each other. The number of a call is also its time."""

    def __init__(self) -> None:
        self._world = World()

    def responses(self, number: int, sent: dict[str, Any] | None = None) -> CallRecord:
        """A call of the Responses API with `Question N` and `Answer N` that continues the previous one."""
        links = {"previous_response_id": f"resp_{number - 1}"} if sent is None else sent
        body = {"model": "gpt-5", "instructions": f"Rule {number}.", "input": f"Question {number}", **links}
        part = {"type": "output_text", "text": f"Answer {number}"}
        output = [{"type": "message", "role": "assistant", "content": [part]}]
        return self._call("responses", number, body, {"id": f"resp_{number}", "status": "completed", "output": output})

    def messages(self, number: int, **sent: Any) -> CallRecord:
        """A call of one of Anthropic's threads, which start with call 0."""
        thread = {"type": "continue", "previous_message_id": f"msg_{number - 1}"} if number else {"type": "create"}
        messages = [{"role": "user", "content": f"Question {number}"}]
        body = {"model": "claude", "max_tokens": 9, "messages": messages, "thread": thread, **sent}
        answer = {"id": f"msg_{number}", "role": "assistant", "content": [{"type": "text", "text": f"Answer {number}"}]}
        return self._call("messages", number, body, answer)

    def _call(self, api: str, number: int, body: dict[str, Any], answer: dict[str, Any]) -> CallRecord:
        timing = Timing(start_ns=START_NS + number * SECOND, duration_ns=SECOND)
        return self._world.call(api, body, answer, call_id=f"call-{number}", timing=timing)


@pytest.fixture
def chain() -> Chain:
    return Chain()


def found(reader: Reader, call_id: str, **options: int) -> History:
    return reader.history(reader.call(call_id), **options)


def ids(history: History) -> list[str]:
    return [call.call_id for call in history.calls]


def texts_of(reader: Reader, call_id: str) -> list[str | None]:
    call = reader.call(call_id)
    whole = whole_conversation(call, reader.history(call))
    return [message.text for message in (*whole.input, *whole.output)]


def test_links_are_followed_to_a_limit_and_without_cycles(store: Delivery, chain: Chain) -> None:
    store.write(chain.responses(0, {}), *[chain.responses(number) for number in range(1, 6)])
    store.write(
        chain.responses(20, {"previous_response_id": "resp_22"}), chain.responses(21), chain.responses(22),
        chain.responses(30, {"previous_response_id": "resp_30"}),
    )  # fmt: skip
    reader = store.read()
    two, five = (found(reader, "call-5", limit=limit) for limit in (2, 5))
    assert (ids(two), two.more) == (["call-3", "call-4"], True)
    assert (ids(five), five.more) == ([f"call-{number}" for number in range(5)], False)
    assert found(reader, "call-5", limit=0) == History([], more=True)
    assert ids(found(reader, "call-22")) == ["call-20", "call-21"]
    assert found(reader, "call-30") == History([])


def test_call_continues_the_latest_earlier_answer(store: Delivery, records: Records) -> None:
    """Of its provider: servers repeat ids."""
    answer, linked = Response(id="resp_1"), Request(continues="resp_1")
    store.write(
        *(records.call(call_id=f"a{at}", at_s=at, response=answer) for at in (1, 2, 9)),
        records.call(call_id="other", at_s=3, response=answer, provider="mistral_ai"),
        records.call(call_id="b", at_s=4, request=linked, response=Response(id="resp_2")),
    )
    assert ids(found(store.read(), "b")) == ["a2"]


def test_thread_keeps_its_system_prompt_and_tools(store: Delivery, chain: Chain) -> None:
    tool = {"name": "look", "input_schema": {"type": "object"}}
    store.write(chain.messages(0, system="Play.", tools=[tool]), chain.messages(1), chain.messages(2))
    reader = store.read()
    assert texts_of(reader, "call-2") == ["Question 0", "Answer 0", "Question 1", "Answer 1", "Question 2", "Answer 2"]
    call = reader.call("call-2")
    whole = whole_conversation(call, reader.history(call))
    assert [part.text for part in whole.system] == ["Play."]  # type: ignore[union-attr]
    assert whole.tools == [tool]


def test_calls_without_content_keep_their_links(store: Delivery, chain: Chain) -> None:
    bare = [
        msgspec.structs.replace(call, request=Request(continues=before), response=Response(id=f"resp_{number}"))
        for number, (call, before) in enumerate([(chain.responses(0, {}), None), (chain.responses(1), "resp_0")])
    ]
    store.write(*bare, chain.responses(2))
    reader = store.read()
    assert ids(found(reader, "call-2")) == ["call-0", "call-1"]
    assert texts_of(reader, "call-2") == ["Question 2", "Answer 2"]


def test_show_prints_the_conversation_and_its_gaps(store: Delivery, chain: Chain) -> None:
    named = {"conversation": "conv_1"}
    store.write(
        chain.responses(0, {}), chain.responses(1), chain.responses(2), chain.responses(12), chain.responses(13),
        chain.responses(20, named), chain.responses(21, named),
    )  # fmt: skip
    url = store.url
    lines = {number: run(url, "show", f"call-{number}").splitlines() for number in (0, 2, 12, 13, 20, 21)}
    stated = {
        number: [f"{line.removeprefix('continues').strip()}: {after.strip()}" for line, after in pairwise(page)
                 if line.startswith("continues")]
        for number, page in lines.items()
    }  # fmt: skip
    assert stated == {
        0: [],
        2: ["resp_1: 2 calls, the first call-0"],
        12: ["resp_11: a response of no recorded call"],
        13: ["resp_12: call call-12, which continues resp_11, a response of no recorded call"],
        20: ["conv_1: no earlier call is recorded"],
        21: ["conv_1: call call-20"],
    }
    page = lines[2]
    assert [line.strip() for line in page if "Question" in line or "Answer" in line] == [
        "Question 0", "Answer 0", "Question 1", "Answer 1", "Question 2", "Answer 2",
    ]  # fmt: skip
    assert [line.split()[1:] for line in page if line.startswith(("user", "assistant"))] == [
        *[["earlier"], ["earlier", "completed"]] * 2, [], ["answer", "completed"],
    ]  # fmt: skip
    shown = json.loads(run(url, "show", "call-13", "--json"))["history"]
    assert (shown["calls"], shown["missing"], shown["more"]) == (["call-12"], "resp_11", False)
    assert [part["text"] for message in shown["conversation"]["input"] for part in message["parts"]] == [
        "Question 12", "Answer 12", "Question 13",
    ]  # fmt: skip
    assert "history" not in json.loads(run(url, "show", "call-0", "--json"))
    listed = json.loads(run(url, "calls", "--conversation", "conv_1", "--json", "--reverse"))
    assert [row["call_id"] for row in listed] == ["call-20", "call-21"]


LOOPS = json.loads(Path(__file__).with_name("loops.json").read_text())
"""By API: the field of the messages, the first ones, the answer, and the additions of the next request."""


@pytest.mark.parametrize("api", LOOPS)
def test_loop_is_one_conversation_without_repetition(api: str) -> None:
    loop, world, reader = LOOPS[api], World(), ConversationReader()
    first, second = (
        reader.add(world.call(api, {loop["field"]: sent}, loop["answer"]))
        for sent in (loop["asked"], [*loop["asked"], *loop["added"]])
    )
    assert [message.text for message in first.messages] == ["Where?"]
    assert (first.repeated, second.instructions, second.before) == ([], [], first.call)
    (result,) = second.messages
    assert [type(part).__name__ for part in result.parts] == ["ToolResult"]


def test_incomplete_arguments_are_compared_as_text() -> None:
    """Of a model that repeats itself up to its token limit."""
    asked, tool = {"role": "user", "content": "Go"}, {"role": "tool", "tool_call_id": "c", "content": "no JSON"}
    called = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "[" * 5_000}}
    answer, world, reader = {"role": "assistant", "tool_calls": [called]}, World(), ConversationReader()
    for messages, repeated in (([asked], 0), ([asked, answer, tool], 2)):
        choices = [{"index": 0, "message": answer}]
        call = world.call("chat_completions", {"messages": messages}, {"choices": choices})
        assert len(reader.add(call).repeated) == repeated


CHANGES: dict[str, dict[str, Any]] = {
    "a name": {"name": "planner"},
    "no content": {"content": None},
    "spaced": {"content": " Let me look.\n"},
    "another id": {"id": "adk-1"},
    "spaced arguments": {"arguments": '{ "at": "east" }'},
}


def looked(ident: str = "c1", arguments: str = '{"at":"east"}') -> dict[str, Any]:
    return {"id": ident, "type": "function", "function": {"name": "look", "arguments": arguments}}


def asking(*calls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "Let me look.", "tool_calls": [*calls], **fields}


def told(ident: str | None, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": ident, "content": content}


ASKED = {"role": "user", "content": "Where?"}


def added(reader: ConversationReader, *sent: dict[str, Any], answer: dict[str, Any] | None = None) -> NewMessages:
    choice = {"index": 0, "message": answer or {"role": "assistant", "content": "There."}}
    return reader.add(World().call("chat_completions", {"messages": [*sent]}, {"choices": [choice]}))


def idents(*messages: Message) -> list[str | None]:
    return [part.id for message in messages for part in message.parts if isinstance(part, ToolCall | ToolResult)]


@pytest.mark.parametrize("change", CHANGES)
def test_answer_that_a_framework_writes_anew_is_the_same_message(change: str) -> None:
    reader, fields = ConversationReader(), dict(CHANGES[change])
    called = looked(fields.pop("id", "c1"), fields.pop("arguments", '{"at":"east"}'))
    content = None if "content" in fields and fields["content"] is None else "Let me look."
    first = added(reader, ASKED, answer=asking(looked(), content=content))
    second = added(reader, ASKED, asking(called, **{"content": content, **fields}), told(called["id"], "a door"))
    assert [[type(part) for part in message.parts] for message in second.messages] == [[ToolResult]]
    assert idents(*second.messages) == idents(*first.answers), "the result is that of the answer's tool call"


def test_equal_tool_calls_without_ids_stay_two() -> None:
    """Gemini's, whose ids are the names of the tools."""
    reader, called = ConversationReader(), [looked("look"), looked("look")]
    first = added(reader, ASKED, answer=asking(*called))
    second = added(
        reader, ASKED, asking(*called), told("look", "a door"), told("look", "a key"), answer=asking(*called)
    )
    assert len(set(idents(*first.answers, *second.answers))) == 4
    assert idents(*second.messages) == idents(*first.answers)


def test_tool_call_of_the_history_has_its_result_of_the_same_request() -> None:
    """No recorded call has asked for it; another conversation of the session counts its ids, too."""
    reader = ConversationReader()
    added(reader, {"role": "user", "content": "Hello?"}, answer=asking(looked("call_0")))
    sent = [ASKED, asking(looked("call_0"), looked("call_1")), told("call_1", "a key"), told("call_0", "a door")]
    _, call, key, door = added(reader, *sent).messages
    assert idents(call) == idents(door, key)
    assert len({*idents(call)}) == 2


def test_equal_results_that_follow_at_the_provider_are_both_new(chain: Chain) -> None:
    reader, output = ConversationReader(), {"type": "function_call_output", "output": "done"}
    reader.add(chain.responses(0, {"input": [output | {"call_id": "c0"}]}))
    sent = [output | {"call_id": "c1"}, output | {"call_id": "c2"}]
    new = reader.add(chain.responses(1, {"previous_response_id": "resp_0", "input": sent}))
    assert idents(*new.messages) == ["c1", "c2"]


def test_message_repeated_in_a_chain_is_new_each_time(chain: Chain) -> None:
    reader, links = ConversationReader(), ({}, {"previous_response_id": "resp_0"}, {"previous_response_id": "resp_1"})
    calls = [chain.responses(number, link | {"input": "yes"}) for number, link in enumerate(links)]
    assert [[message.text for message in reader.add(call).messages] for call in calls] == [["yes"]] * 3


def rewarded(number: int, value: float, event_type: str = "environment") -> EventRecord:
    return event(f"e{number}", session_id="a", event_type=event_type, time_ns=START_NS + number, reward=value)


def test_lists_show_first_message_tools_and_failures(store: Delivery, records: Records) -> None:
    error = ErrorInfo(kind="rate_limit", type="RateLimitError", status=429)
    say = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Where is\n my parcel?"}]
    tool = event("t1", session_id="a", event_type="tool", name="look", time_ns=START_NS + 9 * SECOND, duration_ns=5)
    asked = message("m1", "Is it sold?", session_id="b", message_type="question")
    again = [
        reward(f"again{number}", 8.0, session_id="a", event_id=event_id, scope=scope, time_ns=START_NS + 4)
        for number, (event_id, scope) in enumerate([(rewarded(1, 0.5).event_id, "event"), (None, "call")])
    ]
    store.write(
        records.session("a", start_ns=START_NS, outcome="failure"),
        records.call(session_id="a", at_s=8, messages=[*say, {"role": "user", "content": "later"}]),
        records.call(session_id="a", at_s=1, messages=say, outcome="error", error=error, retries=2),
        tool,
        *(rewarded(number, value) for number, value in ((1, 0.5), (2, -0.25), (3, 1.0))),
        *again,
        records.session("b", start_ns=START_NS + SECOND, outcome="success"),
        records.call(session_id="b", messages=say, cost=None),
        asked,
        records.session("c", start_ns=START_NS + 2 * SECOND),
    )
    reader = store.read()
    assert reader.first_words(["a", "b", "c"]) == {"a": "Where is my parcel?", "b": "Is it sold?"}
    course = reader.courses(["a", "c"])
    assert [(run.kind, run.start_ns, run.outcome, run.retries) for run in course["a"]] == [
        ("call", START_NS + SECOND, "error", 2),
        ("call", START_NS + 8 * SECOND, "success", 0),
        ("tool", START_NS + 9 * SECOND, None, None),
    ]
    assert reader.reward_curves(["a", "b"]) == {"a": [(START_NS + 1, 0.5), (START_NS + 2, 0.25), (START_NS + 3, 1.25)]}
    found = {one.session.session_id: one for one in reader.sessions()}
    assert found["a"].reward == 1.25, "what has a reward, or is a call, adds nothing by another"
    failed = found["a"].first_error
    assert (failed.kind, failed.status) == ("rate_limit", 429)
    assert (found["b"].first_error, found["b"].calls_without_cost) == (None, 1)
    later = list(reader.events("a", since_ns=START_NS + 3))
    assert [one.event_id for one in later if isinstance(one, EventRecord)] == ["e3", "t1"]


def test_turn_of_a_chat_has_its_own_question_as_its_first_words(store: Delivery, records: Records) -> None:
    """openai-agents, strands and smolagents begin a session with each turn, and send the turns before."""
    chat = [ASKED, {"role": "assistant", "content": "There."}, {"role": "user", "content": "And tomorrow?"}]
    again = [*chat, asking(looked()), told("c1", "a door")]
    store.write(*(records.call(sent, session_id=name) for name, sent in (("a", chat[:1]), ("b", chat), ("c", again))))
    assert store.read().first_words(["a", "b", "c"]) == {"a": "Where?", "b": "And tomorrow?", "c": "And tomorrow?"}


def turn(world: World, session_id: str, *texts: str, answer: str | None = None, **fields: Any) -> None:
    """The first call of a session with these texts of user and model in turn."""
    roles = ("user", "assistant")
    sent = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    choice = {"index": 0, "message": {"role": "assistant", "content": answer or f"Answer to {texts[-1]}"}}
    world.call("chat_completions", {"messages": sent}, {"choices": [choice]}, session_id, **fields)


def test_turn_of_a_chat_continues_the_turn_before(store: Delivery) -> None:
    world, first = World(), ("Plan my day in Oslo.", "Answer to Plan my day in Oslo.")
    turn(world, "a", first[0])
    turn(world, "b", *first, "And tomorrow?")
    turn(world, "other", "Plan my day in Rome.")
    turn(world, "c", *first, "And tomorrow?", "Answer to And tomorrow?", "And then?")
    turn(world, "fork", *first, "And on Sunday?")
    turn(world, "of another", *first, "And tomorrow?", metadata={"tenant_id": "t"})
    store.write(*world.records)
    openings = store.read().openings(["c", "fork", "b", "of another", "other", "a"])
    continued = {key: opening.continues for key, opening in openings.items()}
    assert continued == {"a": None, "b": "a", "c": "b", "fork": "a", "of another": None, "other": None}
    assert openings["c"].words == "And then?"


def test_turn_that_may_continue_either_of_two_chats_continues_none(store: Delivery) -> None:
    world = World()
    for session_id in ("a", "b"):
        turn(world, session_id, "Hello there?", answer="How can I help you?")
    turn(world, "c", "Hello there?", "How can I help you?", "Plan my day.")
    store.write(*world.records)
    assert {opening.continues for opening in store.read().openings(["a", "b", "c"]).values()} == {None}


def test_turns_of_a_conversation_that_the_provider_keeps_continue_each_other(store: Delivery, chain: Chain) -> None:
    calls = [chain.responses(number, {"conversation": "conv_1"}) for number in range(3)]
    store.write(*(
        msgspec.structs.replace(call, place=Place(session_id=f"s{number}")) for number, call in enumerate(calls)
    ))  # fmt: skip
    openings = store.read().openings(["s0", "s1", "s2"])
    assert [openings[f"s{number}"].continues for number in range(3)] == [None, "s0", "s1"]


def test_call_that_names_the_session_is_not_its_first(store: Delivery, records: Records) -> None:
    """Claude Code asks a model for a title first."""
    asked = [{"role": "user", "content": "Write a title of at most six words."}]
    store.write(
        records.call(asked, "A parcel", session_id="a", at_s=0, metadata={"purpose": "generate_session_title"}),
        records.call(
            [{"role": "user", "content": "Where is it?"}], "there", session_id="a", at_s=1, metadata={"purpose": "sdk"}
        ),
        records.call(asked, "A parcel", session_id="b", at_s=0, metadata={"purpose": "generate_session_title"}),
    )
    assert store.read().first_words(["a", "b"]) == {"a": "Where is it?"}


def test_steps_are_numbered_by_position(url: str, store: Delivery, records: Records, tmp_path: Path) -> None:
    """Two processes have started steps alternately, each counting its own."""
    for place in (0, 2, 1, 3):
        sent = [{"role": "user", "content": f"message {place}"}]
        store.write(
            step(f"t{place}", session_id="chat", index=place // 2, turn=7, start_ns=START_NS + place * SECOND),
            records.call(
                sent, call_id=f"c{place}", place=Place(session_id="chat", timestep_id=f"t{place}"), at_s=place
            ),
        )
    reader = store.read()
    steps = list(reader.timesteps("chat"))
    positions = reader.step_positions(["chat", "no such session"])
    assert [step.index for step in steps] == [0, 0, 1, 1]
    assert [positions[step.timestep_id] for step in steps] == [0, 1, 2, 3]
    shown = json.loads(run(url, "show", "chat", "--json"))["steps"]
    assert [(one["timestep_position"], one["timestep"], one["turn"]) for one in shown] == [
        (0, 0, 7), (1, 0, 7), (2, 1, 7), (3, 1, 7)
    ]  # fmt: skip
    assert [[call["timestep_position"] for call in one["calls"]] for one in shown] == [[0], [1], [2], [3]]
    calls = json.loads(run(url, "calls", "--json", "--reverse"))
    assert [one["timestep_position"] for one in calls] == [0, 1, 2, 3]
    assert re.findall(r"step (\d)", run(url, "show", "chat")) == ["0", "1", "2", "3"]
    assert "(no name, step 2)" in run(url, "show", "c2")
    assert json.loads(run(url, "show", "c2", "--json"))["timestep_position"] == 2
    export(reader, "atif", tmp_path / "atif.jsonl")
    exported = json.loads((tmp_path / "atif.jsonl").read_text())["steps"]
    assert [one["extra"]["timestep_position"] for one in exported if one["source"] == "agent"] == [0, 1, 2, 3]


def asked(messages: list[Any]) -> Request:
    return Request(body=raw({"messages": messages}))


@pytest.mark.parametrize("tool_call_id", ["toolu_7Kx9aQpW", None])
@pytest.mark.parametrize("fails", [False, True])
def test_tool_without_a_result_has_that_of_the_request_that_brings_it(
    store: Delivery, records: Records, tool_call_id: str | None, fails: bool
) -> None:
    """With what else the request says of it: the id of its tool call, and whether it failed. Its own facts stay."""
    asks: list[Any] = [{"role": "user", "content": "Is it warm?"}]
    used = {"role": "assistant", "content": [
        {"type": "tool_use", "id": "toolu_7Kx9aQpW", "name": "weather", "input": {"city": "Oslo"}},
    ]}  # fmt: skip
    result = {"type": "tool_result", "tool_use_id": "toolu_7Kx9aQpW", "content": "cold", "is_error": fails}
    given: dict[str, Any] = {"session_id": "s1", "api": "messages", "provider": "anthropic"}
    store.write(
        records.call(call_id="c1", at_s=1, request=asked(asks), response=Response(body=raw(used)), **given),
        event("t1", event_type="tool", name="weather", session_id="s1", call_id="c1", tool_call_id=tool_call_id,
              time_ns=START_NS + 3 * SECOND, data={"arguments": {"city": "Oslo, Norway"}}),
        records.call(
            call_id="c2", at_s=5, request=asked([*asks, used, {"role": "user", "content": [result]}]),
            response=Response(body=raw({"role": "assistant", "content": [{"type": "text", "text": "No."}]})), **given,
        ),
    )  # fmt: skip
    (tool,) = [entry for entry in store.read().entries("s1") if isinstance(entry, EventRecord)]
    assert tool.data == {"arguments": {"city": "Oslo, Norway"}, "result": "cold"}
    assert (tool.tool_call_id, tool.error is not None) == ("toolu_7Kx9aQpW", fails)
