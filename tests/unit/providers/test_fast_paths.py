"""Fast paths: decoding in one step gives the same result as reading field by field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers.anthropic import messages
from callspan.providers.openai import chat, usage
from callspan.providers.wire_json import detached_object
from callspan.records import Usage

COUNTS = (
    st.none()
    | st.integers(min_value=-3, max_value=50_000)
    | st.sampled_from([2**53, 2**63 - 1, 2**63, 2**70, -(2**63), True, False, 5.0, 5.5, float("inf"), "5", "", [], {}])
)
WORDS = st.none() | st.sampled_from(
    ["stop", "length", "content_filter", "refusal", "max_tokens", "tool_use", "", 7, []]
)
TEXTS = st.none() | st.sampled_from(["a", "", "\ud800", 3, {}])


def counted(*names: str) -> st.SearchStrategy[Any]:
    return st.none() | st.fixed_dictionaries({}, optional=dict.fromkeys(names, COUNTS)) | COUNTS


ANTHROPIC = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "x"), COUNTS
        ),
        "cache_creation": counted("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "x"),
        "output_tokens_details": counted("thinking_tokens", "x"),
        "server_tool_use": counted("web_search_requests", "web_fetch_requests"),
        "service_tier": TEXTS,
    },
)
IN, OUT = ("cached_tokens", "cache_write_tokens", "audio_tokens", "text_tokens"), ("reasoning_tokens", "audio_tokens")
OPENAI = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "x"), COUNTS
        ),
        "prompt_tokens_details": counted(*IN),
        "completion_tokens_details": counted(*OUT),
        "input_tokens_details": counted(*IN),
        "output_tokens_details": counted(*OUT),
    },
)
CHOICE = st.fixed_dictionaries(
    {"finish_reason": WORDS},
    optional={
        "index": st.integers(0, 2),
        "message": st.none() | st.fixed_dictionaries({}, optional={"refusal": TEXTS}),
        "error": TEXTS | st.just({"message": "x", "code": 500}),
    },
)
CHATS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=2)},
    optional={
        "id": TEXTS,
        "model": TEXTS,
        "created": COUNTS,
        "object": TEXTS | st.just("error"),
        "service_tier": TEXTS,
        "system_fingerprint": TEXTS,
        "usage": OPENAI,
        "error": TEXTS | st.just({"message": "x"}),
    },
)


def same(short: Usage | None, long: Usage | None) -> bool:
    return short is None or short == long


@given(raw=ANTHROPIC.filter(bool))
def test_anthropic_usage_is_the_same_by_the_fast_and_the_generic_reader(raw: dict[str, Any]) -> None:
    general = messages._usage(messages._counted_one_by_one(raw), detached_object(raw))
    assert messages.usage(raw) == general


@given(raw=OPENAI.filter(bool))
def test_openai_usage_is_the_same_by_the_fast_and_the_generic_reader(raw: dict[str, Any]) -> None:
    body = {"usage": raw}
    assert same(usage._fast(raw, body), usage._generic(raw, body))


@given(body=CHATS, refused=st.booleans())
def test_info_of_a_chat_response_is_the_same_by_the_fast_and_the_generic_reader(
    body: dict[str, Any], refused: bool
) -> None:
    short = chat._fast(body, refused)
    assert short is None or short == chat._generic(body, refused)


@pytest.mark.parametrize("stated_count", [-1, 2**63, 2**70])
def test_an_impossible_count_is_unknown(stated_count: int) -> None:
    """A counter that counts nothing costs itself and the sums it is part of, nothing else."""
    for stated in (
        messages.usage({"input_tokens": 5, "output_tokens": stated_count}),
        usage.usage_of({"usage": {"prompt_tokens": 5, "completion_tokens": stated_count}}),
    ):
        assert stated is not None
        assert (stated.input_tokens, stated.output_tokens, stated.total_tokens) == (5, None, None)


@pytest.mark.parametrize("answer", ["prompt_tokens", "input_tokens"])
def test_the_usage_that_is_kept_is_not_the_callers_to_change(answer: str) -> None:
    given = {answer: 5, "total_tokens": 7, f"{answer}_details": {"cached_tokens": 2}}
    stated = usage.usage_of({"usage": given})
    given[f"{answer}_details"]["cached_tokens"] = 99  # type: ignore[index]
    given["total_tokens"] = 99
    assert stated is not None
    assert stated.raw == {answer: 5, "total_tokens": 7, f"{answer}_details": {"cached_tokens": 2}}
