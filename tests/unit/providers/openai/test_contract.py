"""Every endpoint follows the contract of `callspan.providers.base`."""

from __future__ import annotations

from tests.points import points

from callspan.providers.base import Accumulator, Endpoint
from callspan.providers.openai.chat import ChatCompletions
from callspan.providers.openai.completions import Completions
from callspan.providers.openai.media import ImageEdits, Images, ImageVariations, Speech, Transcriptions, Translations
from callspan.providers.openai.responses import Responses
from callspan.providers.openai.single_body import Decisions, Embeddings, GraderRuns, Moderations, VectorStoreSearch
from callspan.record.messages import Conversation

ENDPOINTS: list[Endpoint] = [
    ChatCompletions(), Responses(), Completions(), Embeddings(), Decisions(), Moderations(), VectorStoreSearch(),
    GraderRuns(), Images(), ImageEdits(), ImageVariations(), Transcriptions(), Translations(), Speech(),
]  # fmt: skip

each = points("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.api)


@points(
    ("endpoint", "api", "operation", "path", "key"),
    [
        (ENDPOINTS[0], "chat_completions", "chat", "/chat/completions", "messages"),
        (ENDPOINTS[1], "responses", "chat", "/responses", "input"),
        (ENDPOINTS[2], "completions", "text_completion", "/completions", "prompt"),
        (ENDPOINTS[3], "embeddings", "embeddings", "/embeddings", "input"),
        (ENDPOINTS[4], "decisions", "decisions", "/decisions", "input"),
        (ENDPOINTS[5], "moderations", "moderation", "/moderations", "input"),
        (ENDPOINTS[6], "vector_store_search", "retrieval", "/vector_stores/{id}/search", "query"),
        (ENDPOINTS[7], "graders", "evaluation", "/graders/run", "model_sample"),
        (ENDPOINTS[8], "images", "generate_content", "/images/generations", "prompt"),
        (ENDPOINTS[9], "image_edits", "generate_content", "/images/edits", "prompt"),
        (ENDPOINTS[10], "image_variations", "generate_content", "/images/variations", "image"),
        (ENDPOINTS[11], "transcriptions", "generate_content", "/audio/transcriptions", "file"),
        (ENDPOINTS[12], "translations", "generate_content", "/audio/translations", "file"),
        (ENDPOINTS[13], "speech", "generate_content", "/audio/speech", "input"),
    ],
)
def test_names_of_the_endpoints(endpoint: Endpoint, api: str, operation: str, path: str, key: str) -> None:
    assert (endpoint.api, endpoint.operation, endpoint.path, endpoint.message_key) == (api, operation, path, key)


@each
def test_a_fresh_accumulator_is_empty_and_its_own(endpoint: Endpoint) -> None:
    first: Accumulator = endpoint.accumulator()
    second: Accumulator = endpoint.accumulator()
    assert first is not second
    assert first.body() is None
    assert not first.complete
    first.add({"id": "a", "object": "response", "choices": [], "output": []})
    assert second.body() is None


@each
def test_an_accumulator_has_no_dictionary_of_its_own(endpoint: Endpoint) -> None:
    assert not hasattr(endpoint.accumulator(), "__dict__")


@each
def test_no_bodies_give_no_content(endpoint: Endpoint) -> None:
    assert endpoint.conversation(None, None) == Conversation()
    assert endpoint.response_info(None).response.finish_reasons == []


@each
def test_the_info_has_no_body(endpoint: Endpoint) -> None:
    response = endpoint.response_info({"id": "a", "choices": [], "output": []}).response
    assert response.body_bytes is None
    assert bytes(response.body) == b""
