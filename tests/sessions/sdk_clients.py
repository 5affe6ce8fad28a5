"""Clients of every SDK that ask a scripted provider, and what they ask."""

from __future__ import annotations

import json
import warnings
from typing import Any, Final

import pytest

from callspan.testing import ScriptedProvider

MARKS: Final = [
    pytest.mark.usefixtures("no_settings", "no_clients_left"),
    pytest.mark.filterwarnings("ignore:Interactions usage is experimental:UserWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*This will be removed in a future release:DeprecationWarning"),
]
MESSAGES: Final[list[Any]] = [{"role": "user", "content": "Where is it?"}]
ASK: Final[dict[str, Any]] = {"model": "m", "messages": MESSAGES}
NOVA: Final = "us.amazon.nova-micro-v1:0"
CONVERSE: Final[dict[str, Any]] = {
    "modelId": NOVA, "messages": [{"role": "user", "content": [{"text": "Where is it?"}]}],
}  # fmt: skip
INVOKE: Final = {
    "modelId": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "body": json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": MESSAGES}),
}
HEAD: Final = {"id": "v1_a", "model": "m", "created": "2026-05-13T19:57:40Z", "updated": "2026-05-13T19:57:40Z"}
LOOK: Final = {"type": "function_call", "id": "call_1", "name": "look", "arguments": {"place": "east"}}
INTERACTION: Final = {**HEAD, "status": "completed", "steps": [LOOK]}
INTERACTION_EVENTS: Final[list[Any]] = [
    {"event_type": "interaction.created", "interaction": {**HEAD, "status": "in_progress"}},
    {"event_type": "step.start", "index": 0, "step": {**LOOK, "arguments": {}}},
    {"event_type": "step.delta", "index": 0, "delta": {"type": "arguments_delta", "arguments": '{"place": "east"}'}},
    {"event_type": "interaction.completed", "interaction": {**HEAD, "status": "completed"}},
]


EMBEDDINGS: Final = {
    "id": "e_1", "object": "list", "model": "m", "data": [{"object": "embedding", "embedding": [1.0], "index": 0}],
    "usage": {"prompt_tokens": 1, "total_tokens": 1, "completion_tokens": 0},
}  # fmt: skip


KEPT: Final[list[Any]] = []
"""The clients of a test, which some SDKs close once they are collected."""


def kept(client: Any) -> Any:
    KEPT.append(client)
    return client


def sdk(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of LiteLLM's import
        return pytest.importorskip(name, reason=f"{name} is not installed")


def of_openai(p: ScriptedProvider) -> Any:
    return sdk("openai").OpenAI(base_url=p.openai_url, api_key="k")


def of_anthropic(p: ScriptedProvider) -> Any:
    return sdk("anthropic").Anthropic(base_url=p.anthropic_url, api_key="k")


def of_google(p: ScriptedProvider) -> Any:
    return kept(sdk("google.genai").Client(api_key="k", http_options={"base_url": p.google_url}))


def of_bedrock(p: ScriptedProvider) -> Any:
    return sdk("boto3").client(
        "bedrock-runtime", endpoint_url=p.bedrock_url, region_name="us-east-1", aws_access_key_id="a",
        aws_secret_access_key="b",
    )  # fmt: skip


def of_mistral(p: ScriptedProvider) -> Any:
    return sdk("mistralai.client").Mistral(api_key="k", server_url=p.mistral_url)


def of_cohere(p: ScriptedProvider) -> Any:
    return sdk("cohere").ClientV2("k", base_url=p.cohere_url)


def of_cohere_v1(p: ScriptedProvider) -> Any:
    return sdk("cohere").Client("k", base_url=p.cohere_url)


def of_hugging_face(p: ScriptedProvider) -> Any:
    return kept(sdk("huggingface_hub").InferenceClient(base_url=p.openai_url, api_key="k"))


def of_ollama(p: ScriptedProvider) -> Any:
    return sdk("ollama").Client(host=p.ollama_url)
