"""The clients of cohere, ollama and mistralai: one span and one record for each request to a model, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import pytest
from tests.support.calls import the_call

from callspan.testing import Capture, ScriptedProvider

cohere: Any = pytest.importorskip("cohere", reason="cohere is not installed")
ollama: Any = pytest.importorskip("ollama", reason="ollama is not installed")
mistralai: Any = pytest.importorskip("mistralai.client", reason="mistralai is not installed")

pytestmark = pytest.mark.usefixtures("no_settings")
QUESTION: Final[list[Any]] = [{"role": "user", "content": "How are you?"}]
ASK: Final[dict[str, Any]] = {"model": "m", "messages": QUESTION}
ANSWER: Final[dict[str, Any]] = {
    "text": "I am well.", "reasoning": "Hm.", "input_tokens": 20, "output_tokens": 9, "tool_calls": [{"name": "look"}],
}  # fmt: skip


class Row(NamedTuple):
    """A request by a client, and what its record has."""

    send: Callable[[ScriptedProvider], Any]
    api: str
    provider: str
    finish: list[str | None]
    tokens: tuple[int | None, int | None] = (20, 9)
    text: str | None = "I am well."
    answer: Mapping[str, Any] = {}
    """What its answer has in place of the usual."""


def of_cohere(provider: ScriptedProvider) -> Any:
    return cohere.ClientV2("key", base_url=provider.cohere_url, max_retries=0)


def of_cohere_v1(provider: ScriptedProvider) -> Any:
    return cohere.Client("key", base_url=provider.cohere_url)


def of_ollama(provider: ScriptedProvider) -> Any:
    return ollama.Client(provider.ollama_url)


def of_mistral(provider: ScriptedProvider) -> Any:
    return mistralai.Mistral(api_key="key", server_url=provider.mistral_url)


async def _async_cohere(provider: ScriptedProvider) -> None:
    client = cohere.AsyncClientV2("key", base_url=provider.cohere_url)
    async for _ in client.chat_stream(**ASK):
        continue


async def _async_ollama(provider: ScriptedProvider) -> None:
    async for _ in await ollama.AsyncClient(provider.ollama_url).chat(**ASK, stream=True):
        continue


ROWS: Final = {
    "cohere": Row(lambda p: of_cohere(p).chat(**ASK), "cohere_chat", "cohere", ["TOOL_CALL"]),
    "cohere stream": Row(lambda p: list(of_cohere(p).chat_stream(**ASK)), "cohere_chat", "cohere", ["TOOL_CALL"]),
    "cohere async": Row(lambda p: asyncio.run(_async_cohere(p)), "cohere_chat", "cohere", ["TOOL_CALL"]),
    "cohere v1": Row(lambda p: of_cohere_v1(p).chat(model="m", message="Hi"), "cohere_chat_v1", "cohere", ["COMPLETE"]),
    "cohere v1 stream": Row(
        lambda p: list(of_cohere_v1(p).chat_stream(model="m", message="Hi")), "cohere_chat_v1", "cohere", ["COMPLETE"]
    ),
    "cohere embeddings": Row(
        lambda p: of_cohere(p).embed(model="m", texts=["a"], input_type="search_query", embedding_types=["float"]),
        "cohere_embed", "cohere", [], (20, None), None,
    ),
    "cohere ranking": Row(
        lambda p: of_cohere(p).rerank(model="m", query="q", documents=["a"]), "rerank", "cohere", [], (None, None),
        "1 [0] a",
    ),
    "ollama": Row(lambda p: of_ollama(p).chat(**ASK), "ollama_chat", "ollama", ["stop"]),
    "ollama stream": Row(lambda p: list(of_ollama(p).chat(**ASK, stream=True)), "ollama_chat", "ollama", ["stop"]),
    "ollama async": Row(lambda p: asyncio.run(_async_ollama(p)), "ollama_chat", "ollama", ["stop"]),
    "ollama generate": Row(lambda p: of_ollama(p).generate("m", "Hi"), "ollama_generate", "ollama", ["stop"]),
    "ollama embeddings": Row(lambda p: of_ollama(p).embed("m", "a"), "ollama_embed", "ollama", [], (20, None), None),
    "mistralai": Row(lambda p: of_mistral(p).chat.complete(**ASK), "chat_completions", "mistral_ai", ["tool_calls"]),
    "mistralai stream": Row(
        lambda p: list(of_mistral(p).chat.stream(**ASK)), "chat_completions", "mistral_ai", ["stop"], (None, None),
        answer={"tool_calls": []},  # Mistral does not stream them in pieces
    ),
    "mistralai code": Row(
        lambda p: of_mistral(p).fim.complete(model="m", prompt="def "), "fim_completions", "mistral_ai", ["tool_calls"]
    ),
    "mistralai agent": Row(
        lambda p: of_mistral(p).agents.complete(agent_id="a", messages=QUESTION), "chat_completions", "mistral_ai",
        ["tool_calls"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_request_is_one_span_and_one_record(name: str, provider: ScriptedProvider, seen: Capture) -> None:
    row = ROWS[name]
    provider.reply(**ANSWER | row.answer)
    row.send(provider)
    record = the_call(seen)
    assert (record.api, record.provider, record.outcome) == (row.api, row.provider, "success")
    assert record.sdk.partition("/")[0] == name.partition(" ")[0]
    assert record.request.model == (None if "agent" in name else "m")
    assert record.response.finish_reasons == row.finish
    usage = record.usage
    assert (None if usage is None else usage.input_tokens, None if usage is None else usage.output_tokens) == row.tokens
    assert record.text == row.text
    attributes = seen.spans[0].attributes or {}
    assert attributes["gen_ai.provider.name"] == row.provider
    assert attributes.get("gen_ai.usage.input_tokens") == row.tokens[0]


FAILED: Final = {
    "cohere": (lambda p: of_cohere(p).chat(**ASK), {"status": 429}, "rate_limit"),
    "cohere stream": (lambda p: list(of_cohere(p).chat_stream(**ASK)), {"error_after": 2}, "unknown"),
    "ollama": (lambda p: of_ollama(p).chat(**ASK), {"status": 404}, "not_found"),
    "ollama stream": (lambda p: list(of_ollama(p).chat(**ASK, stream=True)), {"error_after": 2}, "unknown"),
    "mistralai": (lambda p: of_mistral(p).chat.complete(**ASK), {"status": 401}, "auth"),
}


@pytest.mark.parametrize("name", FAILED)
def test_failure_has_kind_status_and_message(name: str, provider: ScriptedProvider, seen: Capture) -> None:
    send, failure, kind = FAILED[name]
    provider.reply(**ANSWER, message="no more", **failure)
    try:
        send(provider)
    except Exception as error:  # noqa: BLE001 - each SDK has classes of its own
        assert "no more" in str(error)
    record = the_call(seen)
    assert (record.outcome, record.error.kind, record.error.message) == ("error", kind, "no more")
    assert record.error.status == failure.get("status")
