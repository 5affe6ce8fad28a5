"""Well-formed responses are decoded in one step, others field by field: one invalid field changes nothing else."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from callspan.providers.anthropic.messages import Messages
from callspan.providers.base import ResponseInfo
from callspan.records import Usage

_COUNT = st.none() | st.integers(min_value=0, max_value=2**63 - 1)
_WORD = st.none() | st.text(max_size=8)


def _some(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Objects with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


_MESSAGE = _some(
    id=_WORD,
    model=_WORD,
    stop_reason=st.sampled_from([None, "", "end_turn", "max_tokens", "refusal"]),
    content=st.just([]),
    usage=_some(
        input_tokens=_COUNT,
        output_tokens=_COUNT,
        cache_read_input_tokens=_COUNT,
        cache_creation_input_tokens=_COUNT,
        cache_creation=st.none() | _some(ephemeral_5m_input_tokens=_COUNT, ephemeral_1h_input_tokens=_COUNT),
        output_tokens_details=st.none() | _some(thinking_tokens=_COUNT),
        server_tool_use=st.none() | _some(web_search_requests=_COUNT, web_fetch_requests=_COUNT),
        service_tier=_WORD,
    ),
)


def _bare(facts: ResponseInfo) -> ResponseInfo:
    """The facts without the id, which is made odd here, what is recognized by it, and the usage as it came."""
    usage: Usage | None = facts.usage and msgspec.structs.replace(facts.usage, raw=None)
    response = msgspec.structs.replace(facts.response, id=None)
    return msgspec.structs.replace(facts, response=response, usage=usage, recognized=True)


@settings(max_examples=80, deadline=None)
@given(body=_MESSAGE)
def test_an_invalid_id_changes_nothing_else_of_a_message(body: dict[str, object]) -> None:
    endpoint = Messages()
    assert _bare(endpoint.response_info(body)) == _bare(endpoint.response_info({**body, "id": 5}))
