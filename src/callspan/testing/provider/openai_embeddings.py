"""Embeddings: one vector for each input, as numbers or packed.

Wire reference: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

from callspan.testing.provider.answer import Answer, Wire
from callspan.testing.provider.openai_family import OPENAI, with_usage
from callspan.testing.provider.script import Json

_DIMENSIONS = 8


def _input_count(value: object) -> int:
    """A list of tokens is one input, a list of texts or of token lists is several."""
    return len(value) if isinstance(value, list) and value and not isinstance(value[0], int) else 1


def _vector(answer: Answer) -> Sequence[float]:
    if answer.reply.embedding is not None:
        return answer.reply.embedding
    requested = answer.request.body.get("dimensions")
    size = requested if isinstance(requested, int) else _DIMENSIONS
    return [1 / (position + 1) for position in range(size)]


def _embeddings(answer: Answer) -> Json:
    vector = _vector(answer)
    packed = answer.request.body.get("encoding_format") == "base64"
    shown = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if packed else list(vector)
    body: dict[str, object] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": shown}
            for index in range(_input_count(answer.request.body.get("input")))
        ],
        "model": answer.model,
    }
    tokens = answer.reply.input_tokens
    return with_usage(body, answer.reply, {"prompt_tokens": tokens, "total_tokens": tokens})


EMBEDDINGS = Wire(OPENAI, _embeddings)
"""`POST /v1/embeddings`."""
