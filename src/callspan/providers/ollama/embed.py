"""Embeddings, `/api/embed` and the older `/api/embeddings`. Vectors are never read."""

from __future__ import annotations

from callspan.providers.base import Operation
from callspan.providers.ollama.chat import OllamaEndpoint
from callspan.providers.openai.parts import prompt_messages
from callspan.providers.wire_json import dig
from callspan.record.apis import Field
from callspan.record.messages import Conversation


class Embed(OllamaEndpoint):
    """Both ways to embed. Stateless."""

    operation: Operation = "embeddings"
    answer = (Field("embeddings", "array"), Field("embedding", "array"))
    finishes = False

    def conversation(self, request: object, response: object) -> Conversation:  # noqa: ARG002 - vectors say nothing
        """Return the embedded texts as user messages; there is no output."""
        return Conversation(input=prompt_messages(dig(request, "input") or dig(request, "prompt")))
