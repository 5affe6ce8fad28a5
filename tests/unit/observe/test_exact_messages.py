"""The body of a request is read once, for its exact bytes and for its messages."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.record.codec import exact_json, exact_messages

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(min_value=-(2**60), max_value=2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    key=st.sampled_from(["messages", "input", "prompt"]),
    messages=st.lists(_JSON, min_size=1, max_size=4),
    rest=st.dictionaries(st.sampled_from(["model", "temperature", "tools"]), _JSON),
)
def test_the_messages_are_those_of_the_body_and_the_bytes_as_sent(
    key: str, messages: list[object], rest: dict[str, object]
) -> None:
    body = {**rest, key: messages}
    content = json.dumps(body, separators=(",", ":")).encode()
    exact, found = exact_messages(content, body)
    assert exact == content
    assert found is not None
    assert [msgspec.json.decode(raw) for raw in found] == messages
    assert all(bytes(raw) in content for raw in found)


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (b'{"messages":"hello"}', {"messages": "hello"}),
        (b'{"messages":[]}', {"messages": []}),
        (b'{"messages":{"a":1}}', {"messages": {"a": 1}}),
        (b'{"messages":[NaN]}', {"messages": [float("nan")]}),
        (b'{"messages":\n[1]}', {"messages": [1]}),
        (b"[1,2]", [1, 2]),
        (b"no json", None),
        (b'{"messages":[1]}', None),
        (b'{"messages":[1', {"messages": [1]}),
        (b"", None),
    ],
)
def test_without_a_list_of_messages_only_the_bytes_are_kept(content: bytes, body: object) -> None:
    assert exact_messages(content, body) == (exact_json(content, body), None)


@given(
    content=st.binary(max_size=12)
    | st.text(max_size=12).map(str.encode)
    | _JSON.map(lambda value: json.dumps({"messages": value}).encode())
    | st.sampled_from(
        [b' {"a":1}', b'{"a":1} ', b'{"a":NaN}', b'{"a":"\xff"}', b'{"a":01}', b'{"a":1}{', b'{"messages":[1,]}']
    ),
    body=_JSON.filter(lambda value: value is not None),
)
def test_the_bytes_are_those_that_reading_for_them_alone_gives(content: bytes, body: object) -> None:
    assert exact_messages(content, body)[0] == exact_json(content, body)
