"""Spans of other instrumentations: only explicit attributes are read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.records import CallRecord
from callspan.semconv.metrics import DURATION_BUCKETS, TOKEN_BUCKETS, bounded_type
from callspan.semconv.records_from_spans import call_of


def read(attributes: dict[str, Any], **about: Any) -> CallRecord | None:
    given = {"trace_id": "t", "span_id": "s", "parent_span_id": None, "start_ns": 5, "end_ns": 9, "failed": False}
    return call_of(attributes, **(given | {"scope": "lib"} | about))


def known(attributes: dict[str, Any], **about: Any) -> CallRecord:
    record = read({"gen_ai.operation.name": "chat"} | attributes, **about)
    assert record is not None
    return record


@pytest.mark.parametrize(
    ("attributes", "operation"),
    [
        ({"gen_ai.operation.name": "chat"}, ("chat", "chat_completions")),
        ({"gen_ai.operation.name": "generate_content"}, ("chat", "chat_completions")),
        ({"gen_ai.operation.name": "text_completion"}, ("text_completion", "completions")),
        ({"gen_ai.operation.name": "embeddings"}, ("embeddings", "embeddings")),
        ({"openinference.span.kind": "LLM"}, ("chat", "chat_completions")),
        ({"openinference.span.kind": "EMBEDDING"}, ("embeddings", "embeddings")),
        ({"llm.request.type": "chat"}, ("chat", "chat_completions")),
        ({"llm.request.type": "completion"}, ("text_completion", "completions")),
        ({"llm.request.type": "embedding"}, ("embeddings", "embeddings")),
        ({"gen_ai.operation.name": "", "llm.request.type": "chat"}, ("chat", "chat_completions")),
        ({"gen_ai.operation.name": 5, "openinference.span.kind": "LLM"}, ("chat", "chat_completions")),
        ({"gen_ai.operation.name": "invoke_agent", "openinference.span.kind": "LLM"}, None),
        ({"gen_ai.operation.name": "execute_tool"}, None),
        ({"openinference.span.kind": "CHAIN", "llm.request.type": "chat"}, None),
        ({"openinference.span.kind": "llm"}, None),
        ({"llm.request.type": "rerank"}, None),
        ({"gen_ai.request.model": "gpt-5"}, None),
        ({"http.method": "POST"}, None),
        ({}, None),
    ],
)
def test_which_spans_are_calls(attributes: dict[str, Any], operation: tuple[str, str] | None) -> None:
    record = read(attributes)
    assert (record and (record.operation, record.api)) == operation


@pytest.mark.parametrize(
    ("attributes", "counters"),
    [
        ({"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 0}, {"input_tokens": 3, "output_tokens": 0}),
        (
            {"gen_ai.usage.prompt_tokens": 3, "gen_ai.usage.completion_tokens": 4},
            {"input_tokens": 3, "output_tokens": 4},
        ),
        ({"llm.token_count.prompt": 1, "llm.token_count.total": 2}, {"input_tokens": 1, "total_tokens": 2}),
        ({"gen_ai.usage.input_tokens": 3, "llm.token_count.prompt": 9}, {"input_tokens": 3}),
        ({"gen_ai.usage.input_tokens": "3", "llm.token_count.prompt": 9}, {"input_tokens": 9}),
        ({"llm.token_count.prompt_details.cache_read": 7}, {"cache_read_tokens": 7}),
        ({"gen_ai.usage.cache_creation.input_tokens": 2}, {"cache_write_tokens": 2}),
        ({"llm.token_count.completion_details.reasoning": 5}, {"reasoning_tokens": 5}),
        ({"llm.usage.total_tokens": 11}, {"total_tokens": 11}),
        ({"gen_ai.usage.input_tokens": 3.5}, None),
        ({"gen_ai.usage.input_tokens": None}, None),
        ({}, None),
    ],
)
def test_counters_are_read_under_any_name_and_never_invented(
    attributes: dict[str, Any], counters: dict[str, int] | None
) -> None:
    usage = known(attributes).usage
    names = (
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
    )
    counted = usage and {name: value for name in names if (value := getattr(usage, name)) is not None}
    assert counted == counters


@pytest.mark.parametrize(
    ("attributes", "provider", "requested", "responding"),
    [
        ({}, "unknown", None, None),
        ({"gen_ai.system": "openai", "gen_ai.request.model": "a"}, "openai", "a", None),
        ({"gen_ai.provider.name": "x", "gen_ai.system": "y"}, "x", None, None),
        ({"gen_ai.provider.name": "", "llm.vendor": "v"}, "v", None, None),
        ({"llm.model_name": "m", "gen_ai.response.model": "n"}, "unknown", "m", "n"),
        ({"gen_ai.request.model": ["list"], "llm.request.model": "m"}, "unknown", "m", None),
    ],
)
def test_names_are_the_first_that_is_text(
    attributes: dict[str, Any], provider: str, requested: str | None, responding: str | None
) -> None:
    record = known(attributes)
    assert record.response is not None
    assert (record.provider, record.request.model, record.response.model) == (provider, requested, responding)


@pytest.mark.parametrize(
    ("attributes", "failed", "outcome", "error_type"),
    [
        ({}, False, "success", None),
        ({}, True, "error", "unknown"),
        ({"error.type": "429"}, False, "error", "429"),
        ({"error.type": "Timeout"}, True, "error", "Timeout"),
        ({"error.type": ""}, False, "success", None),
    ],
)
def test_how_a_foreign_call_ended(
    attributes: dict[str, Any], failed: bool, outcome: str, error_type: str | None
) -> None:
    record = known(attributes, failed=failed)
    assert (record.outcome, record.error and record.error.type) == (outcome, error_type)


@pytest.mark.parametrize(("start", "end", "duration"), [(5, 9, 4), (5, None, None), (9, 5, 0), (5, 5, 0)])
def test_durations_are_never_negative(start: int, end: int | None, duration: int | None) -> None:
    assert known({}, start_ns=start, end_ns=end).timing.duration_ns == duration


@pytest.mark.parametrize(
    ("reasons", "read_as"),
    [
        (("stop", "length"), ["stop", "length"]),
        (["stop"], ["stop"]),
        ("stop", []),
        (None, []),
        ((), []),
        ((1,), ["1"]),
        (("", "stop"), [None, "stop"]),
    ],
)
def test_finish_reasons_are_a_list(reasons: object, read_as: list[str | None]) -> None:
    record = known({"gen_ai.response.finish_reasons": reasons, "gen_ai.response.id": "r"})
    assert record.response is not None
    assert (record.response.finish_reasons, record.response.id) == (read_as, "r")


def test_a_span_has_one_call_id_and_another_span_another() -> None:
    assert known({}).call_id == known({"session.id": "x"}).call_id
    assert len({known({}, trace_id=t, span_id=s).call_id for t in "ab" for s in "cd"}) == 4


@pytest.mark.parametrize(
    ("attributes", "session"),
    [({"session.id": "a", "gen_ai.conversation.id": "b"}, "a"), ({"gen_ai.conversation.id": "b"}, "b"), ({}, None)],
)
def test_a_foreign_call_is_in_the_session_it_names(attributes: dict[str, Any], session: str | None) -> None:
    record = known(attributes, parent_span_id="p", scope=None)
    assert (record.place.session_id, record.parent_span_id, record.sdk) == (session, "p", None)


VALUES = st.none() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.text(max_size=2), max_size=2)
NAMES = st.sampled_from(
    ["gen_ai.system", "gen_ai.request.model", "gen_ai.response.finish_reasons", "gen_ai.usage.input_tokens",
     "llm.token_count.total", "session.id", "error.type", "gen_ai.response.id"]
)  # fmt: skip


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_no_foreign_attributes_raise(attributes: dict[str, Any]) -> None:
    assert known(attributes).call_id


@pytest.mark.parametrize(
    ("error_type", "shown"),
    [
        ("429", "429"),
        ("rate_limit_exceeded", "rate_limit_exceeded"),
        ("openai.RateLimitError", "openai.RateLimitError"),
        ("model-not-found", "model-not-found"),
        ("status_503", "status_503"),
        ("", "_OTHER"),
        ("12", "_OTHER"),
        ("4290", "_OTHER"),
        ("request req_0123456789abcdef", "_OTHER"),
        ("req_0123456789", "_OTHER"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "_OTHER"),
        ("word\n", "_OTHER"),
        ("größe", "_OTHER"),
    ],
)
def test_an_error_type_on_metrics_is_a_word_or_a_status(error_type: str, shown: str) -> None:
    assert bounded_type(error_type) == shown


def test_buckets_are_those_of_the_conventions() -> None:
    assert (DURATION_BUCKETS[0], DURATION_BUCKETS[-1], len(DURATION_BUCKETS)) == (0.01, 81.92, 14)
    assert (TOKEN_BUCKETS[0], TOKEN_BUCKETS[-1], len(TOKEN_BUCKETS)) == (1, 67108864, 14)


OFFICIAL = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5",
    "gen_ai.conversation.id": "c1", "user.id": "u1", "gen_ai.agent.id": "asst_1", "gen_ai.prompt.name": "greet",
    "gen_ai.prompt.version": "2", "gen_ai.workflow.name": "support",
}  # fmt: skip
OPENINFERENCE = {
    "openinference.span.kind": "LLM", "llm.system": "openai", "llm.model_name": "gpt-5", "session.id": "c1",
    "user.id": "u1", "metadata": '{"country": "IT", "run_id": "r1", "depth": {"a": [1]}}', "tag.tags": ("vip", "beta"),
    "llm.prompt_template.template": "Weather in {city}?", "llm.prompt_template.variables": '{"city": "Rome"}',
    "llm.prompt_template.version": "v1.0", "input.value": "Weather in Rome?",
}  # fmt: skip
TRACELOOP = {
    "llm.request.type": "chat", "gen_ai.system": "OpenAI", "gen_ai.request.model": "gpt-5",
    "traceloop.association.properties.user_id": "u1", "traceloop.association.properties.session_id": "c1",
    "traceloop.association.properties.chat_id": "77", "traceloop.workflow.name": "joke_creation",
    "traceloop.prompt.key": "greet", "traceloop.prompt.version": 3,
}  # fmt: skip
LOGFIRE = {
    "gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "gpt-5",
    "logfire.msg_template": "Chat Completion with {request_data[model]!r}", "logfire.span_type": "span",
    "logfire.tags": ("LLM",), "request_data": '{"messages": [], "model": "gpt-5"}', "user_id": "u1", "run_id": "r1",
    "session.id": "c1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "metadata"),
    [
        (
            OFFICIAL,
            {"user_id": "u1", "agent_id": "asst_1", "workflow_name": "support", "prompt_id": "greet",
             "prompt_version": "2"},
        ),
        (
            OPENINFERENCE,
            {"run_id": "r1", "user_id": "u1", "prompt_version": "v1.0", "tags": ["vip", "beta"],
             "extra": {"country": "IT", "depth": {"a": [1]}}},
        ),
        (
            TRACELOOP,
            {"user_id": "u1", "workflow_name": "joke_creation", "prompt_id": "greet", "prompt_version": 3,
             "extra": {"chat_id": "77"}},
        ),
        (LOGFIRE, {"user_id": "u1", "run_id": "r1", "tags": ["LLM"]}),
        ({"gen_ai.operation.name": "chat", "user_id": "u1", "metadata": "[1", "tag.tags": "vip", "user.id": ""}, {}),
        ({"gen_ai.operation.name": "chat", "metadata": "7", "gen_ai.user": "u2"}, {"user_id": "u2"}),
    ],
)  # fmt: skip
def test_user_tags_and_metadata_are_those_of_the_other_instrumentation(
    attributes: dict[str, Any], metadata: dict[str, Any]
) -> None:
    """As the official instrumentations, OpenInference, OpenLLMetry and Logfire write them; never any content."""
    record = read(attributes)
    assert record is not None
    assert record.metadata == metadata
    assert record.place.session_id == ("c1" if len(attributes) > 5 else None)
    assert "Rome" not in str(record)
