"""The oracle compared with the SDKs' own reading of the recorded responses."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from tests.wire import oracle, sse
from tests.wire.corpus import Exchange
from tests.wire.replay import Wire

pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")


def text_of(texts: tuple[tuple[str, ...], ...]) -> str:
    """All texts of an answer in one."""
    return "".join(text for choice in texts for text in choice)


def test_the_openai_stream_helper_folds_chat_streams_into_the_same_answer(exchanges: tuple[Exchange, ...]) -> None:
    streams = [each for each in exchanges if each.endpoint == "chat_completions" and each.stream]
    finals = {each.id: _final(each) for each in streams}
    for each in streams:
        final, truth = finals[each.id], oracle.truth(each)
        if final is None:
            continue
        assert "".join(choice.message.content or "" for choice in final.choices) == text_of(truth.texts), each.id
        calls = [call for choice in final.choices for call in choice.message.tool_calls or []]
        assert [call.function.arguments for call in calls] == [tool.arguments for tool in truth.tool_calls], each.id
    refused = [name for name, final in finals.items() if final is None]
    assert len(refused) <= 5, refused


def _final(exchange: Exchange) -> Any:
    """What the helper has at the end; None where it refuses a chunk (annotations or calls without an index)."""
    state: Any = ChatCompletionStreamState()
    try:
        for chunk in sse.chunks(exchange.body):
            state.handle_chunk(ChatCompletionChunk.construct(**_typed(chunk)))
    except (RuntimeError, TypeError):
        return None
    return state.current_completion_snapshot


def _typed(chunk: dict[str, object]) -> dict[str, Any]:
    """The fields of a chunk as the SDK types them."""
    typed: Any = openai._models.construct_type(type_=ChatCompletionChunk, value=chunk)
    return {name: getattr(typed, name) for name in typed.model_fields_set}


def test_the_anthropic_stream_helper_folds_streams_into_the_same_message(exchanges: tuple[Exchange, ...]) -> None:
    wire = Wire()
    http = httpx2.Client(transport=httpx2.MockTransport(wire.sync))
    with anthropic.Anthropic(api_key="test", max_retries=0, http_client=http) as client:
        streams = [each for each in exchanges if each.endpoint == "messages" and each.stream]
        for each in streams:
            wire.exchange = each
            with client.messages.stream(**_request(each)) as stream:
                final, truth = stream.get_final_message(), oracle.truth(each)
            blocks = [block for block in final.content if block.type == "text"]
            assert "".join(block.text for block in blocks) == text_of(truth.texts), each.id
            inputs = [json.dumps(block.input, sort_keys=True) for block in final.content if block.type == "tool_use"]
            assert inputs == [tool.arguments for tool in truth.tool_calls], each.id
            assert (final.stop_reason, final.usage.output_tokens) == (truth.finish_reasons[0], truth.output_tokens)
    assert len(streams) > 5


def _request(exchange: Exchange) -> dict[str, Any]:
    request = dict(exchange.request or {})
    request.pop("stream")
    known = {name: request.pop(name) for name in ("max_tokens", "messages", "model")}
    return {**known, "extra_body": request}
