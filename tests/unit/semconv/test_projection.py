"""Vocabularies together: the attributes of a span and their limits."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan import Settings
from callspan.records import CallRecord, Conversation, Message, Request, Response, Text, Timing
from callspan.semconv.call import Projection
from callspan.semconv.content_attributes import Attributes

Call = tuple[CallRecord, Conversation]
Project = Callable[..., Attributes]

_CONTENT = (
    "llm.prompts",
    "llm.prompts.raw",
    "llm.completions",
    "llm.completions.raw",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
)


def test_both_default_vocabularies_and_our_own_are_shown(chat_call: Call, project: Project) -> None:
    attributes = project(*chat_call)
    assert attributes["llm.request.model"] == attributes["gen_ai.request.model"] == "gpt-5"
    assert attributes["callspan.call_id"] == attributes["llm.item_id"]
    assert not any(name.startswith(("openinference.", "input.")) for name in attributes)


@pytest.mark.parametrize(
    ("vocabularies", "text"),
    [
        (("llm", "gen_ai"), "gen_ai.request.model"),
        (("gen_ai", "openinference"), "gen_ai.request.model"),
        (("llm",), "llm.request.model"),
        (("openinference", "llm"), "llm.request.model"),
        ((), "callspan.call_id"),
    ],
)
def test_a_sampler_gets_the_call_whatever_is_chosen_and_the_span_of_everything(
    chat_call: Call, vocabularies: tuple[str, ...], text: str
) -> None:
    record, conversation = chat_call
    projection = Projection(Settings(vocabularies=vocabularies))  # type: ignore[arg-type]
    start, end = projection.start(record), projection.end(record, conversation)
    assert text in start
    assert start["session.id"] == "s-1"
    assert ("llm.vendor" in start | end) is ("llm" in vocabularies)


@pytest.mark.parametrize("vocabularies", [("openinference",), ("gen_ai", "openinference"), ("openinference", "llm")])
def test_the_model_of_the_response_takes_the_place_of_the_requested_one(
    chat_call: Call, project: Project, vocabularies: tuple[str, ...]
) -> None:
    """OpenInference has one name for both; a late attribute of the start must not replace that of the end."""
    assert project(*chat_call, vocabularies=vocabularies)["llm.model_name"] == "gpt-5-2026-01-01"


def test_only_chosen_vocabularies_are_shown(chat_call: Call, project: Project) -> None:
    attributes = project(*chat_call, vocabularies=("gen_ai",))
    assert not any(name.startswith("llm.") for name in attributes)
    assert not any(
        name.startswith("gen_ai.") for name in project(*chat_call, vocabularies=("llm",)) if "conv" not in name
    )


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({}, False),
        ({"vocabularies": ("llm",)}, True),
        ({"vocabularies": ("llm", "openinference")}, False),
        ({"vocabularies": ("gen_ai",)}, None),
    ],
)
def test_prompt_and_choices_are_on_a_span_once_unless_llm_is_alone(
    chat_call: Call, project: Project, settings: dict[str, object], shown: bool | None
) -> None:
    attributes = project(*chat_call, **settings)
    raw = ("llm.prompts", "llm.prompts.raw", "llm.completions.raw")
    assert [name in attributes for name in raw] == [bool(shown)] * 3
    if shown is not None:
        assert attributes["llm.completions"] == "Looking."
    if shown:
        assert json.loads(str(attributes["llm.completions.raw"]))[0]["finish_reason"] == "tool_calls"


def test_a_prompt_that_no_other_vocabulary_can_show_is_shown(bare_call: CallRecord, project: Project) -> None:
    request = Request(body=msgspec.Raw(b'{"prompt": "all-minilm"}'), body_bytes=24)
    attributes = project(msgspec.structs.replace(bare_call, request=request), Conversation())
    assert attributes["llm.prompts.raw"] == '"all-minilm"'
    assert "gen_ai.input.messages" not in attributes


def test_an_answer_that_no_other_vocabulary_can_show_is_shown(chat_call: Call, project: Project) -> None:
    record, conversation = chat_call
    attributes = project(record, msgspec.structs.replace(conversation, output=[]))
    assert json.loads(str(attributes["llm.completions.raw"]))[0]["finish_reason"] == "tool_calls"
    assert "gen_ai.output.messages" not in attributes


def test_place_outcome_and_cost_are_callspan_attributes(chat_call: Call, project: Project) -> None:
    attributes = project(*chat_call)
    ours = {name: value for name, value in attributes.items() if name.startswith(("callspan.", "session."))}
    assert ours == {
        "callspan.call_id": chat_call[0].call_id,
        "session.id": "s-1",
        "callspan.step.index": 3,
        "callspan.outcome": "success",
        "callspan.stream.end": "complete",
        "callspan.stream.chunks": 9,
        "callspan.output_tokens_per_second": pytest.approx(10 / 3),
        "callspan.cost.usd": "0.000012",
    }
    assert attributes["gen_ai.conversation.id"] == "s-1"


def test_first_step_of_a_session_is_step_zero(bare_call: CallRecord, project: Project) -> None:
    place = msgspec.structs.replace(bare_call.place, session_id="s", timestep=0)
    assert project(msgspec.structs.replace(bare_call, place=place), None)["callspan.step.index"] == 0


def test_without_content_there_are_sizes_and_names(chat_call: Call, project: Project) -> None:
    attributes = project(chat_call[0], None)
    assert attributes["callspan.request.messages"] == 2
    assert attributes["callspan.request.tools"] == ("weather",)
    assert attributes["callspan.request.bytes"] == 600
    assert attributes["callspan.response.bytes"] == 300
    assert "Paris" not in json.dumps(attributes)
    assert not set(_CONTENT) & set(attributes)


def _words(value: object) -> tuple[object, ...]:
    assert isinstance(value, tuple)
    return value


def test_every_value_can_be_exported(chat_call: Call, project: Project) -> None:
    """A lone surrogate or another type would cost the whole batch at the exporter."""
    record, conversation = chat_call
    odd = Conversation(
        input=[Message(role="user", parts=[Text(text="lone \ud83d and é and \x00")])], output=conversation.output
    )
    for value in project(record, odd, vocabularies=("llm", "gen_ai", "openinference")).values():
        assert type(value) in {str, bool, int, float} or all(type(item) is str for item in _words(value))
        json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize("vocabularies", [("llm", "gen_ai"), ("llm", "gen_ai", "openinference"), ("gen_ai",)])
@pytest.mark.parametrize(("turns", "size"), [(3, 100_000), (400, 1000), (40, 5000)])
def test_content_stays_within_attribute_and_span(
    agent_call: Callable[[int, int], Call], project: Project, turns: int, size: int, vocabularies: tuple[str, ...]
) -> None:
    attributes = project(*agent_call(turns, size), vocabularies=vocabularies)
    texts = [len(value.encode()) for value in attributes.values() if isinstance(value, str)]
    assert max(texts) <= 32 * 1024
    assert sum(texts) <= 128 * 1024 + 1024
    truncated = attributes["callspan.truncated_bytes"]
    assert isinstance(truncated, int)
    assert truncated > 0


def test_whole_content_is_not_reported_as_truncated(chat_call: Call, project: Project) -> None:
    assert "callspan.truncated_bytes" not in project(*chat_call)


def test_history_that_is_too_long_keeps_its_newest_message_complete(
    agent_call: Callable[[int, int], Call], project: Project
) -> None:
    record, conversation = agent_call(200, 2000)
    shown = json.loads(str(project(record, conversation)["gen_ai.input.messages"]))
    assert shown[0]["parts"][0]["content"] == "You move."
    assert shown[1]["role"] == "callspan"
    assert "messages of a request of" in shown[1]["parts"][0]["content"]
    newest = conversation.input[-1].parts[0]
    assert shown[-1]["parts"][0]["response"] == getattr(newest, "content", None)


def test_a_huge_newest_message_is_truncated_and_notes_its_size(project: Project) -> None:
    text = "x" * 1_000_000
    record = CallRecord(call_id="c", timing=Timing(start_ns=1), request=Request(body_bytes=1_000_100))
    conversation = Conversation(input=[Message(role="user", parts=[Text(text=text)])])
    shown = json.loads(str(project(record, conversation)["gen_ai.input.messages"]))
    assert shown[0]["parts"][0]["content"].endswith("…[cut: 1000000 bytes]")


@given(
    texts=st.lists(st.text(max_size=80), max_size=8),
    cap=st.integers(min_value=2, max_value=600),
    span=st.integers(min_value=0, max_value=2000),
)
def test_any_text_under_any_caps_gives_valid_json_within_them(texts: list[str], cap: int, span: int) -> None:
    wire = [{"role": "user", "content": text} for text in texts]
    typed = [Message(role="user", parts=[Text(text=text)]) for text in texts]
    body = msgspec.Raw(msgspec.json.encode({"messages": wire}))
    record = CallRecord(
        call_id="c",
        timing=Timing(start_ns=1),
        request=Request(body=body, body_bytes=len(bytes(body))),
        response=Response(body=msgspec.Raw(msgspec.json.encode({"choices": wire}))),
    )
    projection = Projection(Settings(max_attribute_bytes=cap, max_span_bytes=span))
    attributes = projection.end(record, Conversation(input=typed, output=typed))
    shown = {name: str(attributes[name]) for name in _CONTENT if name in attributes}
    assert all(len(text.encode()) <= cap for text in shown.values())
    assert sum(len(text.encode()) for text in shown.values()) <= span
    for name, text in shown.items():
        if name not in {"llm.prompts", "llm.completions"}:
            json.loads(text)
