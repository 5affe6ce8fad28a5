"""With plenty of room nothing is measured, and the attributes are the same as with measuring."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callspan.record.codec import encode_json, encode_response
from callspan.record.messages import RawConversation
from callspan.records import CallRecord, Conversation, Request, Response, Timing
from callspan.semconv.body_messages import choices_json, messages_json

_MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=60)})


def _call(messages: list[dict[str, str]], answer: str) -> CallRecord:
    request = msgspec.json.encode({"model": "m", "messages": messages, "max_tokens": 5})
    response = msgspec.json.encode({"choices": [{"message": {"role": "assistant", "content": answer}}]})
    return CallRecord(
        call_id="c",
        api="chat_completions",
        timing=Timing(start_ns=1),
        request=Request(body=msgspec.Raw(request), body_bytes=len(request), params={"max_tokens": 5}),
        response=Response(body=msgspec.Raw(response), body_bytes=len(response)),
    )


@settings(max_examples=60, deadline=None)
@given(messages=st.lists(_MESSAGE, min_size=1, max_size=6), room=st.integers(min_value=2, max_value=800))
def test_messages_read_with_the_body_are_those_read_again_from_it(messages: list[dict[str, str]], room: int) -> None:
    record = _call(messages, "yes")
    raws = [msgspec.Raw(msgspec.json.encode(message)) for message in messages]
    assert messages_json(record, room, RawConversation(raw_input=raws)) == messages_json(record, room)
    assert messages_json(record, room, Conversation()) == messages_json(record, room, RawConversation())


_TEXT = st.text(max_size=30)
_BODY = st.fixed_dictionaries(
    {"id": _TEXT, "model": _TEXT},
    optional={
        "choices": st.lists(st.fixed_dictionaries({"message": st.fixed_dictionaries({"content": _TEXT})}), max_size=3)
        | st.none(),
        "output": st.lists(st.dictionaries(_TEXT, _TEXT, max_size=2), max_size=3) | _TEXT,
        "content": st.lists(st.dictionaries(_TEXT, _TEXT, max_size=2), max_size=3) | st.none(),
    },
)


@given(body=_BODY, room=st.integers(min_value=2, max_value=400))
def test_choices_encoded_with_the_body_are_those_read_again_from_it(body: dict[str, object], room: int) -> None:
    encoded, response = encode_response(body)
    assert encoded == encode_json(body)
    record = CallRecord(
        call_id="c", timing=Timing(start_ns=1), response=Response(body=msgspec.Raw(encoded), body_bytes=len(encoded))
    )
    assert choices_json(record, room, RawConversation(raw_output=response)) == choices_json(record, room)


@pytest.mark.parametrize("body", [None, "text", [1], 5, {}, {"choices": {}}, {"output": "said"}])
def test_a_body_that_is_not_a_response_is_encoded_without_messages(body: object) -> None:
    assert encode_response(body) == (encode_json(body), None)


def test_choices_of_no_json_are_reported_as_well_as_they_can_be() -> None:
    body = {"choices": [{"message": {"content": "half \ud800 a pair"}}], "id": "r"}
    encoded, response = encode_response(body)
    assert encoded == encode_json(body)
    assert response == b'[{"message":{"content":"half \xef\xbf\xbd a pair"}}]'
