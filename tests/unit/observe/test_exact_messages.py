"""The body of a request is read once, for its exact bytes and for its messages."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from callspan.record.codec import exact_json, exact_messages

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(min_value=-(2**60), max_value=2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


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
