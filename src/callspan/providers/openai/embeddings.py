"""Embeddings: what requests and answers of `/embeddings` mean. Vectors are never read."""

from __future__ import annotations

from callspan.providers.base import Api, Operation, ResponseFacts
from callspan.providers.openai.asked import asked
from callspan.providers.openai.choices import choice_facts
from callspan.providers.openai.prompts import prompt_messages
from callspan.providers.openai.whole import WholeBody
from callspan.providers.wire import dig
from callspan.record.call import Request
from callspan.record.messages import Conversation


class Embeddings:
    """The embeddings endpoint. Stateless."""

    api: Api = "embeddings"
    operation: Operation = "embeddings"
    path = "/embeddings"
    message_key = "input"

    def request(self, body: object) -> Request:
        """Return model, parameters and counts of a request, without its body. Total."""
        return asked(body, self.message_key)

    def accumulator(self) -> WholeBody:
        """Return a fresh accumulator."""
        return WholeBody("data")

    def facts(self, body: object) -> ResponseFacts:
        """Return model, usage and error of an answer. Total."""
        return choice_facts(body)

    def conversation(self, request: object, response: object) -> Conversation:  # noqa: ARG002 - vectors say nothing
        """Return the texts that were embedded as messages of a user; there is no output."""
        return Conversation(input=prompt_messages(dig(request, "input")))
