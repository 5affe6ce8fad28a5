"""Embeddings: requests and responses of `/embeddings`. Vectors are never read."""

from __future__ import annotations

from callspan.providers.base import Api, Operation, ResponseInfo
from callspan.providers.json_readers import dig
from callspan.providers.openai.parts import prompt_messages
from callspan.providers.openai.response import SingleBody, choices_info, read_request
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
        return read_request(body, self.message_key)

    def accumulator(self) -> SingleBody:
        """Return a fresh accumulator."""
        return SingleBody("data")

    def response_info(self, body: object) -> ResponseInfo:
        """Return model, usage and error of an answer. Total."""
        return choices_info(body, holds="data")

    def conversation(self, request: object, response: object) -> Conversation:  # noqa: ARG002 - vectors say nothing
        """Return the embedded texts as user messages; there is no output."""
        return Conversation(input=prompt_messages(dig(request, "input")))
