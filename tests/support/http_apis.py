"""The APIs of the tests of requests by any code: what is sent to each, plain and streamed, and what is recorded."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tests.support.calls import QUESTION

COUNTS: Final[dict[str, Any]] = {"text": "I am quite well.", "input_tokens": 20, "output_tokens": 9}
GEMINI: Final[dict[str, Any]] = {"contents": [{"role": "user", "parts": [{"text": "How are you?"}]}]}
CONVERSE: Final[dict[str, Any]] = {"messages": [{"role": "user", "content": [{"text": "How are you?"}]}]}
CLAUDE: Final[dict[str, Any]] = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": QUESTION}
NOVA: Final = "us.amazon.nova-micro-v1:0"
SONNET: Final = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
WITH_USAGE: Final[dict[str, Any]] = {"stream": True, "stream_options": {"include_usage": True}}


class Api(NamedTuple):
    """One API: the path and body of its requests, plain and streamed, and what is recorded."""

    path: str
    body: dict[str, Any]
    api: str
    model: str
    provider: str
    stream_path: str = ""
    stream_body: dict[str, Any] = {"stream": True}  # noqa: RUF012


APIS: dict[str, Api] = {
    "chat": Api(
        "/v1/chat/completions", {"model": "m-1", "messages": QUESTION}, "chat_completions", "m-1", "unknown",
        stream_body=WITH_USAGE,
    ),
    "azure": Api(
        "/openai/deployments/d-1/chat/completions?api-version=2024-10-21", {"messages": QUESTION}, "chat_completions",
        "d-1", "unknown", stream_body=WITH_USAGE,
    ),
    "responses": Api("/v1/responses", {"model": "m-1", "input": "How are you?"}, "responses", "m-1", "unknown"),
    "messages": Api(
        "/v1/messages", {"model": "m-1", "max_tokens": 64, "messages": QUESTION}, "messages", "m-1", "anthropic"
    ),
    "gemini": Api(
        "/v1beta/models/gemini-2.5-flash:generateContent", GEMINI, "generate_content", "gemini-2.5-flash", "gcp.gemini",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", {},
    ),
    "vertex": Api(
        "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash:generateContent", GEMINI,
        "generate_content", "gemini-2.5-flash", "gcp.vertex_ai",
        "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse", {},
    ),
    "claude on vertex": Api(
        "/v1/projects/p/locations/l/publishers/anthropic/models/claude-x:rawPredict", CLAUDE, "messages", "claude-x",
        "anthropic", "/v1/projects/p/locations/l/publishers/anthropic/models/claude-x:streamRawPredict",
    ),
    "converse": Api(
        f"/model/{NOVA}/converse", CONVERSE, "converse", NOVA, "aws.bedrock", f"/model/{NOVA}/converse-stream", {}
    ),
    "invoke": Api(
        f"/model/{SONNET}/invoke", CLAUDE, "messages", SONNET, "aws.bedrock",
        f"/model/{SONNET}/invoke-with-response-stream", {},
    ),
    "cohere": Api("/v2/chat", {"model": "m-1", "messages": QUESTION}, "cohere_chat", "m-1", "cohere"),
    "ollama": Api(
        "/api/chat", {"model": "m-1", "messages": QUESTION, "stream": False}, "ollama_chat", "m-1", "ollama",
        stream_body={"stream": None},
    ),
}  # fmt: skip
