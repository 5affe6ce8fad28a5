"""Endpoints that answer with a single body, never a stream: embeddings, decisions, moderations, searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from callspan.providers.base import Api, Operation, ResponseInfo
from callspan.providers.fold.last import LastBody
from callspan.providers.openai.base import OpenAIEndpoint, bare_info
from callspan.providers.openai.chat import choices_info
from callspan.providers.openai.parts import parts_of, prompt_messages
from callspan.providers.openai.responses import item_messages
from callspan.providers.wire_json import dig, items, mapping, text
from callspan.record.call import Request
from callspan.record.codec import encode_json
from callspan.record.messages import Conversation, Message, Part, Refusal, Text

STORE: Final = "vector_store_id"
"""The parameter that names the vector store."""


class SingleBodyEndpoint(OpenAIEndpoint):
    """The base of these endpoints."""

    holds: str
    """A key that every response has."""

    def accumulator(self) -> LastBody:
        """Return a fresh accumulator."""
        return LastBody(mapping)

    def response_info(self, body: object) -> ResponseInfo:
        """Return id, model, usage and error of an answer, as far as it states them. Total."""
        return choices_info(body, holds=self.holds)


class Embeddings(SingleBodyEndpoint):
    """Embeddings, `/embeddings`. Vectors are never read. Stateless."""

    api: Api = "embeddings"
    operation: Operation = "embeddings"
    path = "/embeddings"
    holds = "data"

    def conversation(self, request: object, response: object) -> Conversation:  # noqa: ARG002 - vectors say nothing
        """Return the embedded texts as user messages; there is no output."""
        return Conversation(input=prompt_messages(dig(request, "input")))


class Decisions(SingleBodyEndpoint):
    """Decisions, `/decisions`: questions about an input, with typed answers. Stateless.

    The questions are one more user message after the input, each as its JSON; so is each answer.
    """

    api: Api = "decisions"
    operation: Operation = "decisions"
    path = "/decisions"
    holds = "answers"

    def response_info(self, body: object) -> ResponseInfo:
        """Return model, usage and error of an answer; one question that was declined makes it a refusal. Total."""
        refused = any(text(answer, "type") == "refusal" for answer in items(body, "answers"))
        return choices_info(body, refused=refused, holds=self.holds)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the input with the questions about it, and the answers; either side may be None."""
        given = dig(request, "input")
        about = item_messages(given) if isinstance(given, list) else prompt_messages(given)
        questions: list[Part] = [_as_text(question) for question in items(request, "questions")]
        # A declined question has only its name.
        answers: list[Part] = [
            Refusal(text=_as_text(answer).text) if text(answer, "type") == "refusal" else _as_text(answer)
            for answer in items(response, "answers")
        ]
        return Conversation(
            input=[*about, Message(role="user", parts=questions)] if questions else about,
            output=_output("assistant", answers),
        )


class Moderations(SingleBodyEndpoint):
    """Moderations, `/moderations`, which have no usage and are free. Flagged input is no refusal. Stateless."""

    api: Api = "moderations"
    operation: Operation = "moderation"
    path = "/moderations"
    holds = "results"

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the moderated texts and images, and each result as its JSON; either side may be None.

        A list of parts is one input of several, a list of texts is several inputs.
        """
        given = dig(request, "input")
        is_one = isinstance(given, list) and any(isinstance(part, dict) for part in given)
        return Conversation(
            input=[Message(role="user", parts=parts_of(given))] if is_one else prompt_messages(given),
            output=_output("assistant", [_as_text(result) for result in items(response, "results")]),
        )


class VectorStoreSearch(SingleBodyEndpoint):
    """The search of a vector store, `/vector_stores/{id}/search`: the retrieval of the conventions.

    The id is only in the path. It is kept as the parameter `vector_store_id`.
    """

    api: Api = "vector_store_search"
    operation: Operation = "retrieval"
    path = "/vector_stores/{id}/search"
    message_key = "query"
    holds = "data"

    def __init__(self, store: str | None = None) -> None:
        """`store` is the id of the vector store; None: unknown."""
        self._store = store

    def request(self, body: object) -> Request:
        """Return parameters and counts of a request, without its body. Total."""
        request = super().request(body)
        if self._store is None:
            return request
        return msgspec.structs.replace(request, params={STORE: self._store, **request.params})

    def response_info(self, body: object) -> ResponseInfo:
        """Return the error of a response, which has no model and no usage. Total."""
        return bare_info(body, recognized=isinstance(body, dict) and self.holds in body)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the queries as user messages, and each document found as its JSON; either side may be None."""
        return Conversation(
            input=prompt_messages(dig(request, "query")),
            output=_output("tool", [_as_text(document) for document in items(response, "data")]),
        )


def _as_text(value: object) -> Text:
    return Text(text=encode_json(value).decode())


def _output(role: str, parts: Sequence[Part]) -> list[Message]:
    return [Message(role=role, parts=[*parts])] if parts else []
