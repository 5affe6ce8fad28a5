"""Token ids, as servers of open models return them when requested with `return_token_ids` (vLLM): one made up per word.

Wire reference: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

from __future__ import annotations

from zlib import crc32

from callspan.testing.provider.answer import Answer, objects, words

_VOCABULARY = 150_000


def wanted(answer: Answer) -> bool:
    """Return whether the request asks for token ids."""
    return answer.request.body.get("return_token_ids") is True


def prompt_ids(answer: Answer) -> list[int]:
    """Return the ids of the prompt: of each message its role, its words and its end."""
    texts = [
        f"{message.get('role')}: {message.get('content')} ." for message in objects(answer.request.body.get("messages"))
    ]
    return [one for text in texts for one in completion_ids(text)]


def completion_ids(text: str | None) -> list[int]:
    """Return one id per word, the same for the same word."""
    return [crc32(word.encode()) % _VOCABULARY for word in words(text or "")]
