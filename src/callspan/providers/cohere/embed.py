"""Embeddings of texts and images, in both versions. Vectors are never read."""

from __future__ import annotations

from callspan.providers.base import Operation
from callspan.providers.cohere.base import CohereEndpoint
from callspan.providers.media_parts import media
from callspan.providers.openai.parts import parts_of, prompt_messages
from callspan.providers.wire_json import items, objects
from callspan.record.messages import Conversation, Message


class Embed(CohereEndpoint):
    """`/v1/embed` and `/v2/embed`. Stateless."""

    operation: Operation = "embeddings"
    content = frozenset({"model", "texts", "images", "inputs"})
    answer = frozenset({"embeddings", "response_type"})

    def _message_count(self, body: dict[str, object]) -> int | None:
        return sum(len(items(body, name)) for name in ("texts", "images", "inputs")) or None

    def conversation(self, request: object, response: object) -> Conversation:  # noqa: ARG002 - vectors say nothing
        """Return what was embedded as user messages; there is no output."""
        images = [image for source in items(request, "images") if (image := media("image", source)) is not None]
        return Conversation(
            input=[
                *prompt_messages(items(request, "texts") or None),
                *(Message(role="user", parts=[image]) for image in images),
                *(Message(role="user", parts=parts_of(entry.get("content"))) for entry in objects(request, "inputs")),
            ]
        )
