"""What a call continues at the provider is followed to the recorded calls before it, in every store."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from callspan import erase
from callspan.records import CallRecord, Place, Request, Response
from callspan.stores import CallFilter, History, Reader
from callspan.stores.history import whole_conversation

from .conftest import Delivery, Records, delete_session, raw, run

Deliver = Callable[[str], Delivery]


class Chain:
    """Makes calls that continue each other; the number of a call is also its time."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def responses(self, number: int, sent: dict[str, Any] | None = None, **fields: Any) -> CallRecord:
        """One of the Responses API: says `Question N`, gets `Answer N`, and continues the one before it."""
        links = {"previous_response_id": f"resp_{number - 1}"} if sent is None else sent
        named = links.get("conversation")
        body = {"model": "gpt-5", "instructions": f"Rule {number}.", "input": f"Question {number}", **links}
        part = {"type": "output_text", "text": f"Answer {number}"}
        output = [{"type": "message", "role": "assistant", "content": [part]}]
        answer = {"id": f"resp_{number}", "status": "completed", "output": output}
        request = Request(
            model="gpt-5", continues=links.get("previous_response_id"), conversation_id=named, body=raw(body)
        )
        return self._call(number, api="responses", request=request, answer=answer, **fields)

    def messages(self, number: int, **sent: Any) -> CallRecord:
        """One of Anthropic's threads, which begin with the call 0."""
        thread = {"type": "continue", "previous_message_id": f"msg_{number - 1}"} if number else {"type": "create"}
        messages = [{"role": "user", "content": f"Question {number}"}]
        body = {"model": "claude", "max_tokens": 9, "messages": messages, "thread": thread, **sent}
        answer = {"id": f"msg_{number}", "role": "assistant", "content": [{"type": "text", "text": f"Answer {number}"}]}
        request = Request(model="claude", continues=thread.get("previous_message_id"), body=raw(body))
        return self._call(number, api="messages", request=request, answer=answer)

    def _call(self, number: int, **fields: Any) -> CallRecord:
        answer = fields.pop("answer")
        response = Response(id=answer["id"], body=raw(answer))
        return self._records.call(at_s=number, **({"call_id": f"call-{number}", "response": response} | fields))


@pytest.fixture
def chain(records: Records) -> Chain:
    return Chain(records)


def found(reader: Reader, call_id: str, **options: int) -> History:
    call = reader.call(call_id)
    assert call is not None
    return reader.history(call, **options)


def ids(history: History) -> list[str]:
    return [call.call_id for call in history.calls]


def texts_of(reader: Reader, call_id: str) -> list[str | None]:
    call = reader.call(call_id)
    assert call is not None
    whole = whole_conversation(call, reader.history(call))
    return [message.text for message in (*whole.input, *whole.output)]


def test_a_call_is_followed_to_the_first_of_its_conversation(url: str, deliver: Deliver, chain: Chain) -> None:
    """In whatever order they were written, also in other sessions."""
    store = deliver(url)
    store.write(chain.responses(2), chain.responses(0, {}), chain.responses(1), chain.responses(9, {}))
    reader = store.read()
    oldest = list(reader.calls(CallFilter(newest_first=False, limit=2)))
    assert found(reader, "call-2") == History(oldest)
    assert texts_of(reader, "call-2") == [
        "Question 0", "Answer 0", "Question 1", "Answer 1", "Question 2", "Answer 2",
    ]  # fmt: skip
    assert found(reader, "call-0") == History([])
    whole = whole_conversation(reader.calls(CallFilter(response_id="resp_2")).__next__(), found(reader, "call-2"))
    assert [part.text for part in whole.system] == ["Rule 2."]  # type: ignore[union-attr]


def test_links_are_followed_so_far_and_cycles_end(url: str, deliver: Deliver, chain: Chain) -> None:
    store = deliver(url)
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


def test_a_thread_keeps_its_system_prompt_and_tools(url: str, deliver: Deliver, chain: Chain) -> None:
    tool = {"name": "look", "input_schema": {"type": "object"}}
    store = deliver(url)
    store.write(chain.messages(0, system="Play.", tools=[tool]), chain.messages(1), chain.messages(2))
    reader = store.read()
    assert texts_of(reader, "call-2") == ["Question 0", "Answer 0", "Question 1", "Answer 1", "Question 2", "Answer 2"]
    call = reader.call("call-2")
    assert call is not None
    whole = whole_conversation(call, reader.history(call))
    assert [part.text for part in whole.system] == ["Play."]  # type: ignore[union-attr]
    assert whole.tools == [tool]


def test_what_was_deleted_of_a_conversation_is_stated(url: str, deliver: Deliver, chain: Chain) -> None:
    """By its age, or with its session."""
    store = deliver(url)
    place = Place(session_id="old")
    store.write(chain.responses(0, {}), chain.responses(1), chain.responses(2, place=place), chain.responses(3))
    reader = store.read()
    (second,) = [call for call in reader.calls() if call.call_id == "call-2"]
    reader.close()
    erase(url, older_than_ns=second.timing.start_ns)
    assert (ids(found(store.read(), "call-3")), found(store.read(), "call-3").missing) == (["call-2"], "resp_1")
    assert texts_of(store.read(), "call-3") == ["Question 2", "Answer 2", "Question 3", "Answer 3"]
    delete_session(url, "old")
    assert found(store.read(), "call-3") == History([], missing="resp_2")


def test_calls_without_content_keep_their_links(url: str, deliver: Deliver, chain: Chain) -> None:
    bare = [
        msgspec.structs.replace(call, request=Request(continues=before), response=Response(id=f"resp_{number}"))
        for number, (call, before) in enumerate([(chain.responses(0, {}), None), (chain.responses(1), "resp_0")])
    ]
    store = deliver(url)
    store.write(*bare, chain.responses(2))
    reader = store.read()
    assert ids(found(reader, "call-2")) == ["call-0", "call-1"]
    assert texts_of(reader, "call-2") == ["Question 2", "Answer 2"]


def test_show_prints_the_whole_conversation_and_says_what_is_missing(url: str, deliver: Deliver, chain: Chain) -> None:
    store = deliver(url)
    named = {"conversation": "conv_1"}
    store.write(
        chain.responses(0, {}), chain.responses(1), chain.responses(2), chain.responses(12), chain.responses(13),
        chain.responses(20, named), chain.responses(21, named),
    )  # fmt: skip
    # The embedded ClickHouse lets one process at a time have its directory open for each connection it makes.
    store.sink.close()
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
