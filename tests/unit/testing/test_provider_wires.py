"""The real SDKs read the scripted provider's responses on every wire, plain and streamed."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from callspan.testing.provider import Choice, ScriptedProvider

SECRET = "whsec_c2VjcmV0"
TOOL = {"name": "move", "arguments": {"direction": "north", "steps": 3}}
ARGUMENTS = '{"direction":"north","steps":3}'


def text_of_chunks(chunks: list[Any]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


class TestChatCompletions:
    def test_a_stream_gives_the_text_in_pieces_with_one_end(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(text="The capital of France\nis  Paris. ")
        chunks = sdk.chat(stream=True)
        assert text_of_chunks(chunks) == "The capital of France\nis  Paris. "
        assert len(chunks) > 5
        assert len({chunk.id for chunk in chunks}) == 1
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
        assert reasons[-1] == "stop"
        assert reasons.count(None) == len(reasons) - 1

    def test_usage_comes_in_an_extra_chunk_only_when_requested(self, provider: ScriptedProvider, sdk: Any) -> None:
        without = sdk.chat(stream=True)
        chunks = sdk.chat(stream=True, stream_options={"include_usage": True})
        assert all(chunk.usage is None for chunk in without)
        assert all("usage" not in chunk.model_fields_set for chunk in without)
        assert [chunk.usage is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
        assert chunks[-1].choices == []
        assert chunks[-1].usage.total_tokens == 19

    def test_tool_calls_are_whole_in_a_body_and_in_fragments_in_a_stream(
        self, provider: ScriptedProvider, sdk: Any
    ) -> None:
        provider.reply(tool_calls=[TOOL, {"name": "stop", "arguments": "{}", "id": "call_mine"}])
        provider.reply(tool_calls=[TOOL, {"name": "stop", "arguments": "{}", "id": "call_mine"}])
        answer, chunks = sdk.chat(), sdk.chat(stream=True)
        calls = answer.choices[0].message.tool_calls
        assert [call.function.name for call in calls] == ["move", "stop"]
        assert json.loads(calls[0].function.arguments) == TOOL["arguments"]
        assert calls[0].id.startswith("call_")
        assert calls[1].id == "call_mine"
        assert answer.choices[0].finish_reason == "tool_calls"
        assert answer.choices[0].message.content is None
        pieces = [d for chunk in chunks for c in chunk.choices for d in c.delta.tool_calls or ()]
        assert "".join(d.function.arguments for d in pieces if d.index == 0) == ARGUMENTS
        assert sum(d.index == 0 for d in pieces) > 2
        assert [d.id for d in pieces if d.index == 1] == ["call_mine", None]

    def test_log_probabilities_are_reported_when_requested(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(text="Paris, no doubt", tool_calls=[TOOL], repeat=True)
        whole = sdk.chat(logprobs=True).choices[0].logprobs.content
        parts = [choice.logprobs for chunk in sdk.chat(logprobs=True, stream=True) for choice in chunk.choices]
        assert [token.token for token in whole] == ["Paris,", " no", " doubt"]
        assert bytes(whole[1].bytes) == b" no"
        assert [part.content[0] for part in parts if part] == whole
        assert sdk.chat().choices[0].logprobs is None

    def test_several_choices_keep_their_indices_and_interleave(self, provider: ScriptedProvider, sdk: Any) -> None:
        choices = ["one two", Choice(text="eins zwei drei", finish_reason="length")]
        provider.reply(choices=choices)
        provider.reply(choices=choices)
        answer = sdk.chat(n=2)
        assert [(c.index, c.message.content, c.finish_reason) for c in answer.choices] == [
            (0, "one two", "stop"),
            (1, "eins zwei drei", "length"),
        ]
        parts = [choice for chunk in sdk.chat(n=2, stream=True) for choice in chunk.choices]
        assert [part.index for part in parts][:4] == [0, 1, 0, 1]
        assert "".join(p.delta.content or "" for p in parts if p.index == 1) == "eins zwei drei"

    def test_n_repeats_the_only_choice(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        assert len(sync_sdk.chat(n=3).choices) == 3


class TestResponses:
    def test_a_plain_answer_carries_text_usage_and_repeats_the_request(
        self, provider: ScriptedProvider, sdk: Any
    ) -> None:
        provider.reply(text="Paris.", cache_read_tokens=4, cache_write_tokens=2, reasoning_tokens=3)
        answer = sdk.responses(instructions="Be brief.", temperature=0.5, metadata={"k": "v"})
        assert answer.output_text == "Paris."
        assert (answer.status, answer.instructions, answer.temperature) == ("completed", "Be brief.", 0.5)
        assert answer.metadata == {"k": "v"}
        assert answer.id.startswith("resp_")
        assert answer.usage.input_tokens_details.cached_tokens == 4
        assert answer.usage.input_tokens_details.cache_write_tokens == 2
        assert answer.usage.output_tokens_details.reasoning_tokens == 3

    def test_a_stream_is_the_documented_sequence_of_events(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(text="It is Paris.")
        events = sdk.responses(stream=True)
        assert [event.type for event in events] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert [event.sequence_number for event in events] == list(range(11))
        assert events[0].response.usage is None
        assert events[0].response.status == "in_progress"
        assert events[-1].response.usage.output_tokens == 7

    def test_a_response_in_the_background_ends_after_so_many_polls(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(text="Paris.", polls=2)
        job = sdk.responses(background=True)
        assert (job.status, job.output, job.usage, job.background) == ("queued", [], None, True)
        polls = [sdk.openai(lambda c: c.responses.retrieve(job.id)) for _ in range(4)]
        assert [poll.status for poll in polls] == ["in_progress", "in_progress", "completed", "completed"]
        assert polls[-1].output_text == "Paris."
        assert polls[-1].completed_at >= polls[-1].created_at
        assert [poll.usage is None for poll in polls] == [True, True, False, False]

    def test_a_response_in_the_background_is_streamed_from_any_event_on(
        self, provider: ScriptedProvider, sdk: Any
    ) -> None:
        job = sdk.responses(background=True)
        whole = sdk.openai(lambda c: c.responses.retrieve(job.id, stream=True))
        assert [event.response.status for event in whole[:3]] == ["queued", "queued", "in_progress"]
        rest = sdk.openai(lambda c: c.responses.retrieve(job.id, stream=True, starting_after=4))
        assert [event.sequence_number for event in rest] == list(range(5, len(whole)))
        assert rest[-1].response.usage.output_tokens == 7

    @pytest.mark.parametrize(("polls", "status"), [(1, "cancelled"), (0, "completed")])
    def test_a_response_in_the_background_can_be_cancelled_until_its_end(
        self, provider: ScriptedProvider, sdk: Any, polls: int, status: str
    ) -> None:
        provider.reply(text="Paris.", polls=polls)
        job = sdk.responses(background=True)
        cancelled = sdk.openai(lambda c: c.responses.cancel(job.id))
        assert (cancelled.status, sdk.openai(lambda c: c.responses.retrieve(job.id)).status) == (status, status)

    @pytest.mark.parametrize("reason", ["failed", "length"])
    def test_a_webhook_reports_how_a_response_in_the_background_ended(
        self, provider: ScriptedProvider, sdk: Any, reason: str
    ) -> None:
        provider.reply(text="Pa", finish_reason=reason, polls=5)
        job = sdk.responses(background=True)
        payload, headers = provider.webhook(job.id, SECRET)
        with openai.OpenAI(api_key="any") as client:
            event: Any = client.webhooks.unwrap(payload, headers, secret=SECRET)
        assert (event.type, event.data.id) == (f"response.{'failed' if reason == 'failed' else 'incomplete'}", job.id)
        assert sdk.openai(lambda c: c.responses.retrieve(job.id)).status == event.type.partition(".")[2]

    def test_reasoning_is_encrypted_too_when_requested(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(reasoning="North is free.", repeat=True)
        assert sdk.responses(include=["reasoning.encrypted_content"]).output[0].encrypted_content
        assert sdk.responses().output[0].encrypted_content is None

    @pytest.mark.parametrize(
        ("reason", "status", "detail"),
        [
            ("length", "incomplete", "max_output_tokens"),
            ("max_tokens", "incomplete", "max_output_tokens"),
            ("content_filter", "incomplete", "content_filter"),
            ("failed", "failed", None),
        ],
    )
    def test_finish_reasons_become_a_status_and_the_last_event(
        self, provider: ScriptedProvider, sync_sdk: Any, reason: str, status: str, detail: str | None
    ) -> None:
        for _ in range(2):
            provider.reply(text="Par", finish_reason=reason, message="The model broke.")
        answer, events = sync_sdk.responses(), sync_sdk.responses(stream=True)
        assert answer.status == events[-1].response.status == status
        assert events[-1].type == f"response.{status}"
        assert getattr(answer.incomplete_details, "reason", None) == detail
        assert (answer.error is not None) == (status == "failed")

    def test_a_response_can_be_read_again_by_its_id(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(text="Once and again.")
        provider.reply(text="for somebody else")
        made = sdk.responses()
        again = sdk.openai(lambda c: c.responses.retrieve(made.id))
        events = sdk.openai(lambda c: c.responses.retrieve(made.id, stream=True))
        assert again.model_dump() == events[-1].response.model_dump()
        assert again.output_text == made.output_text == "Once and again."
        assert provider.pending == 1

    def test_an_unknown_response_id_gets_a_default_answer_under_that_id(
        self, provider: ScriptedProvider, sync_sdk: Any
    ) -> None:
        assert sync_sdk.openai(lambda c: c.responses.retrieve("resp_elsewhere")).id == "resp_elsewhere"


class TestMessages:
    def test_a_plain_answer_carries_text_and_the_counters_split(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(text="Paris.", input_tokens=100, cache_read_tokens=60, cache_write_tokens=30)
        answer = sdk.messages()
        assert answer.content[0].text == "Paris."
        assert answer.stop_reason == "end_turn"
        assert answer.id.startswith("msg_01")
        usage = answer.usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (10, 60, 30)
        assert usage.cache_creation.ephemeral_5m_input_tokens == 30

    def test_a_stream_is_the_documented_sequence_of_events(self, provider: ScriptedProvider, sdk: Any) -> None:
        """The SDK hides `ping`, which is sent all the same."""
        provider.reply(text="It is Paris.")
        events = sdk.messages(stream=True)
        assert [event.type for event in events] == [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        assert events[0].message.content == []
        assert events[0].message.usage.output_tokens == 1
        assert events[-2].usage.output_tokens == 7
        assert events[-2].delta.stop_reason == "end_turn"

    def test_plain_tool_input_is_an_object(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(tool_calls=[TOOL])
        assert sdk.messages().content[0].input == TOOL["arguments"]

    def test_broken_tool_arguments_stay_broken_text(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply(tool_calls=[{"name": "move", "arguments": '{"direction": "no'}])
        events = sync_sdk.messages(stream=True)
        deltas = [event.delta.partial_json for event in events if event.type == "content_block_delta"]
        assert "".join(deltas) == '{"direction": "no'

    def test_a_refusal_is_text_with_its_stop_reason(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(refusal="No, sorry.")
        answer = sdk.messages()
        assert (answer.content[0].text, answer.stop_reason) == ("No, sorry.", "refusal")

    @pytest.mark.parametrize(
        ("given", "finish_reason"),
        [("length", "max_tokens"), ("max_tokens", "max_tokens"), ("pause_turn", "pause_turn")],
    )
    def test_finish_reasons_are_reported_in_the_words_of_the_wire(
        self, provider: ScriptedProvider, sync_sdk: Any, given: str, finish_reason: str
    ) -> None:
        provider.reply(text="Par", finish_reason=given)
        assert sync_sdk.messages().stop_reason == finish_reason

    def test_only_the_first_of_several_choices_is_shown(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply(choices=["first", "second"])
        assert [block.text for block in sync_sdk.messages().content] == ["first"]

    @pytest.mark.parametrize("stream", [False, True])
    def test_vertex_names_the_model_in_the_path(self, provider: ScriptedProvider, sync_sdk: Any, stream: bool) -> None:
        provider.reply(text="from vertex")
        settings = {"region": "r", "project_id": "p", "access_token": "t", "base_url": f"{provider.url}/v1"}
        with anthropic.AnthropicVertex(**settings) as client:
            answer = client.messages.create(model="claude-x", max_tokens=9, messages=[], stream=stream)
            message = next(answer).message if stream else answer
        assert message.model == "claude-x"
        assert "/models/claude-x:" in provider.requests[0].path

    def test_counting_tokens_leaves_the_script_alone(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(text="kept")
        count = sdk.anthropic(lambda c: c.messages.count_tokens(model="claude", messages=[]))
        assert count.input_tokens == 12
        assert sdk.messages().content[0].text == "kept"


class TestOtherEndpoints:
    def test_completions_answer_each_prompt_whole_and_streamed(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(text="a short tale", repeat=True)
        answer = sdk.openai(lambda c: c.completions.create(model="davinci", prompt=["once", "upon"]))
        assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "a short tale"), (1, "a short tale")]
        assert answer.usage.total_tokens == 19
        chunks = sdk.openai(lambda c: c.completions.create(model="davinci", prompt="once", stream=True))
        assert "".join(chunk.choices[0].text for chunk in chunks) == "a short tale"
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert {chunk.object for chunk in chunks} == {"text_completion"}

    def test_a_prompt_of_tokens_is_one_prompt(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        answer = sync_sdk.openai(lambda c: c.completions.create(model="davinci", prompt=[1, 2, 3]))
        assert len(answer.choices) == 1

    def test_embeddings_give_one_vector_for_each_input(self, provider: ScriptedProvider, sdk: Any) -> None:
        """The SDK asks for base64 by itself and unpacks it."""
        provider.reply(embedding=[0.5, -0.25], input_tokens=6)
        answer = sdk.openai(lambda c: c.embeddings.create(model="small", input=["a", "b"]))
        assert [list(item.embedding) for item in answer.data] == [[0.5, -0.25], [0.5, -0.25]]
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == 6
        assert provider.requests[0].body["encoding_format"] == "base64"

    def test_embeddings_as_numbers_have_the_dimensions_requested(self, provider: ScriptedProvider, sdk: Any) -> None:
        answer = sdk.openai(
            lambda c: c.embeddings.create(model="small", input="a", dimensions=3, encoding_format="float")
        )
        assert [len(item.embedding) for item in answer.data] == [3]

    def test_listing_models_leaves_the_script_alone(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply(text="kept")
        assert sync_sdk.openai(lambda c: list(c.models.list()))[0].object == "model"
        assert provider.pending == 1


def test_one_reply_means_the_same_on_every_wire(provider: ScriptedProvider, sdk: Any) -> None:
    provider.reply(text="The same.", model="m-1", input_tokens=9, cache_read_tokens=4, output_tokens=3, repeat=True)
    chat, response, message = sdk.chat(), sdk.responses(), sdk.messages()
    assert chat.choices[0].message.content == response.output_text == message.content[0].text == "The same."
    assert {chat.model, response.model, message.model} == {"m-1"}
    assert chat.usage.prompt_tokens == response.usage.input_tokens == 9
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens == 9


def test_ids_are_never_repeated(provider: ScriptedProvider, sync_sdk: Any) -> None:
    assert len({sync_sdk.chat().id for _ in range(20)}) == 20


@pytest.mark.parametrize("stream", [False, True])
def test_an_empty_usage_leaves_the_usage_out(provider: ScriptedProvider, sync_sdk: Any, stream: bool) -> None:
    provider.reply(text="x", usage={}, repeat=True)
    if stream:
        chunks = sync_sdk.chat(stream=True, stream_options={"include_usage": True})
        assert all(chunk.usage is None for chunk in chunks)
        assert sync_sdk.responses(stream=True)[-1].response.usage is None
    else:
        assert sync_sdk.chat().usage is None
        assert sync_sdk.responses().usage is None


def test_a_usage_is_reported_as_given(provider: ScriptedProvider, sync_sdk: Any) -> None:
    provider.reply(usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.25})
    assert sync_sdk.chat().usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
        "cost": 0.25,
    }


class TestStrictModels:
    """The SDKs check every field on request; the one wire they reject is OpenAI's own completions stream."""

    @pytest.mark.parametrize("stream", [False, True])
    def test_openai_accepts_every_field(self, provider: ScriptedProvider, sync_sdk: Any, stream: bool) -> None:
        provider.reply(text="a b", reasoning="c d", refusal="no no", tool_calls=[TOOL], repeat=True)
        strict = {"_strict_response_validation": True}
        messages = [{"role": "user", "content": "Go."}]
        sync_sdk.openai(lambda c: c.chat.completions.create(model="gpt-5", messages=messages, stream=stream), **strict)
        sync_sdk.openai(lambda c: c.responses.create(model="gpt-5", input="Go.", stream=stream), **strict)

    @pytest.mark.parametrize("stream", [False, True])
    def test_anthropic_accepts_every_field(self, provider: ScriptedProvider, sync_sdk: Any, stream: bool) -> None:
        provider.reply(text="a b", reasoning="c d", tool_calls=[TOOL])
        create = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "Go."}]}
        sync_sdk.anthropic(lambda c: c.messages.create(**create, stream=stream), _strict_response_validation=True)
