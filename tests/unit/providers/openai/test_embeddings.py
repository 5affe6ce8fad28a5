"""Embeddings: input and usage, never a vector."""

from __future__ import annotations

from callspan.providers.openai.single_body import Embeddings
from callspan.records import Conversation, Message, Text

BODY = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}


def test_the_info_is_model_and_usage() -> None:
    facts = Embeddings().response_info(BODY)
    assert facts.response.model == "text-embedding-3-small"
    assert facts.response.finish_reasons == []
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens, facts.usage.total_tokens) == (3, None, 3)


def test_vectors_are_never_shown() -> None:
    conversation = Embeddings().conversation({"input": ["a", "b"]}, BODY)
    assert conversation == Conversation(
        input=[Message(role="user", parts=[Text(text="a")]), Message(role="user", parts=[Text(text="b")])]
    )


def test_parameters_are_those_sent() -> None:
    request = Embeddings().request({"model": "m", "input": "a", "dimensions": 8, "encoding_format": "base64"})
    assert request.params == {"dimensions": 8, "encoding_format": "base64"}
