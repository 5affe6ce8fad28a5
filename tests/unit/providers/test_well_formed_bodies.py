"""Well-formed responses are decoded in one step, others field by field: one invalid field changes nothing else."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from callspan.providers.anthropic.messages import Messages
from callspan.providers.base import ResponseInfo
from callspan.providers.openai.chat import ChatCompletions
from callspan.record.usage import Usage

_COUNT = st.none() | st.integers(min_value=0, max_value=2**63 - 1)
_WORD = st.none() | st.text(max_size=8)


def _some(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Objects with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


_INPUT_DETAILS = _some(cached_tokens=_COUNT, audio_tokens=_COUNT, text_tokens=_COUNT, image_tokens=_COUNT)
_OUTPUT_DETAILS = _some(reasoning_tokens=_COUNT, audio_tokens=_COUNT, accepted_prediction_tokens=_COUNT)
_CHAT_USAGE = _some(
    prompt_tokens=_COUNT,
    completion_tokens=_COUNT,
    total_tokens=_COUNT,
    prompt_tokens_details=st.none() | _INPUT_DETAILS,
    completion_tokens_details=st.none() | _OUTPUT_DETAILS,
)
_RESPONSES_USAGE = _some(
    input_tokens=_COUNT,
    output_tokens=_COUNT,
    input_tokens_details=st.none() | _INPUT_DETAILS,
    output_tokens_details=st.none() | _OUTPUT_DETAILS,
)
_CHAT = _some(
    id=_WORD,
    model=_WORD,
    created=st.integers(min_value=-1, max_value=2**64),
    service_tier=_WORD,
    choices=st.lists(
        _some(
            finish_reason=st.sampled_from([None, "", "stop", "length", "content_filter", "tool_calls", "eos"]),
            message=_some(role=_WORD, content=_WORD, refusal=_WORD),
        ),
        max_size=2,
    ),
    usage=_CHAT_USAGE | _RESPONSES_USAGE,
)
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
@given(body=_CHAT)
def test_an_invalid_id_changes_nothing_else_of_a_chat_response(body: dict[str, object]) -> None:
    endpoint = ChatCompletions()
    assert _bare(endpoint.response_info(body)) == _bare(endpoint.response_info({**body, "id": 5}))


@settings(max_examples=80, deadline=None)
@given(usage=_CHAT_USAGE | _RESPONSES_USAGE)
def test_a_field_of_a_gateway_changes_nothing_else_of_openai_usage(usage: dict[str, object]) -> None:
    endpoint = ChatCompletions()
    plain, with_more = (endpoint.response_info({"usage": found}) for found in (usage, {**usage, "of_a_gateway": 1}))
    assert (plain.usage is None) == (usage == {})
    if usage:
        assert _bare(plain) == _bare(with_more)


@settings(max_examples=80, deadline=None)
@given(body=_MESSAGE)
def test_an_invalid_id_changes_nothing_else_of_a_message(body: dict[str, object]) -> None:
    endpoint = Messages()
    assert _bare(endpoint.response_info(body)) == _bare(endpoint.response_info({**body, "id": 5}))


@settings(max_examples=80, deadline=None)
@given(body=_MESSAGE)
def test_a_count_written_as_text_is_the_same_count(body: dict[str, object]) -> None:
    usage = body.get("usage")
    if isinstance(usage, dict):
        written = {key: str(value) if isinstance(value, int) else value for key, value in usage.items()}
        deltas = {"stop_reason": "end_turn", "usage": usage}, {"stop_reason": "end_turn", "usage": written}
        plain, as_text = (_bare(Messages().response_info(found)) for found in deltas)
        assert plain.usage == as_text.usage
