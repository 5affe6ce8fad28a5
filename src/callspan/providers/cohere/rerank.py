"""Reranking: the relevance of documents to a query, in Cohere's form, which others follow."""

from __future__ import annotations

from callspan.providers.base import Operation
from callspan.providers.cohere.base import CohereEndpoint
from callspan.providers.openai.usage import of_input_only, usage_of
from callspan.providers.wire_json import detached, items, mapping, objects, text
from callspan.record.codec import encode_json
from callspan.record.messages import Conversation, Message, Part, Text
from callspan.record.usage import Usage


class Rerank(CohereEndpoint):
    """`/v1/rerank` and `/v2/rerank`. Stateless."""

    operation: Operation = "rerank"
    content = frozenset({"model", "query", "documents"})
    answer = frozenset({"results", "data"})

    def _message_count(self, body: dict[str, object]) -> int | None:
        return len(items(body, "documents")) or None

    def _usage(self, body: object) -> Usage | None:
        """Return the billed units, or the tokens of other providers, of which some state only the total."""
        if mapping(body, "meta") is not None:
            return super()._usage(body)
        return of_input_only(usage_of(body))

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the query and the documents as a user message, and each result as JSON. Either body may be None."""
        query = text(request, "query")
        asked = [query, *map(_document, items(request, "documents"))] if query else []
        results: list[object] = [*objects(response, "results")] or [*objects(response, "data")]
        ranked: list[Part] = [Text(text=encode_json(detached(result)).decode()) for result in results]
        return Conversation(
            input=[Message(role="user", parts=[Text(text=words) for words in asked])] if asked else [],
            output=[Message(role="assistant", parts=ranked)] if ranked else [],
        )


def _document(document: object) -> str:
    """Return the text of a document, or all its fields as JSON."""
    only = text(document, "text") if isinstance(document, dict) and document.keys() <= {"text", "id"} else None
    return document if isinstance(document, str) else only or encode_json(detached(document)).decode()
