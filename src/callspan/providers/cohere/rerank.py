"""Reranking: the relevance of documents to a query, in Cohere's form, which others follow."""

from __future__ import annotations

from callspan.providers.base import Operation
from callspan.providers.cohere.base import CohereEndpoint
from callspan.providers.openai.usage import of_input_only, usage_of
from callspan.providers.wire_json import detached, integer, items, mapping, number, objects, text
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
        """Return the billed units, or the tokens of other providers; some state only the total."""
        if mapping(body, "meta") is not None:
            return super()._usage(body)
        return of_input_only(usage_of(body))

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the documents, the query and the ranking as messages. Either body may be None."""
        query, documents = text(request, "query"), list(map(_document, items(request, "documents")))
        results = [*objects(response, "results")] or [*objects(response, "data")]
        asked = [("documents", documents), (None, [query] if query else [])]
        return Conversation(
            input=[
                Message(role="user", name=name, parts=[Text(text=words) for words in texts])
                for name, texts in asked
                if texts
            ],
            output=[Message(role="assistant", parts=[_ranked(result, documents) for result in results])]
            if results
            else [],
        )


def _ranked(result: dict[str, object], documents: list[str]) -> Part:
    """Return one result: its score, the place of the document in the request, and its text."""
    index, score = integer(result, "index"), number(result, "relevance_score")
    score = number(result, "score") if score is None else score
    returned = result.get("document")
    words = _document(returned) if returned is not None else ""
    if not words and index is not None and 0 <= index < len(documents):
        words = documents[index]
    stated = (None if score is None else f"{score:.6g}", None if index is None else f"[{index}]", words)
    return Text(text=" ".join(filter(None, stated)))


def _document(document: object) -> str:
    """Return the text of a document, or all its fields as JSON."""
    only = text(document, "text") if isinstance(document, dict) and document.keys() <= {"text", "id"} else None
    return document if isinstance(document, str) else only or encode_json(detached(document)).decode()
