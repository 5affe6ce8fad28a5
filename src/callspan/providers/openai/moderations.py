"""Moderations: requests and responses of `/moderations`, which has no usage and is free."""

from __future__ import annotations

from callspan.providers.base import Api, Operation, ResponseInfo
from callspan.providers.json_readers import dig, items
from callspan.providers.openai.parts import parts_of, prompt_messages
from callspan.providers.openai.response import SingleBody, choices_info, read_request
from callspan.record.call import Request
from callspan.record.codec import encode_json
from callspan.record.messages import Conversation, Message, Text


class Moderations:
    """The moderations endpoint. Stateless."""

    api: Api = "moderations"
    operation: Operation = "moderation"
    path = "/moderations"
    message_key = "input"

    def request(self, body: object) -> Request:
        """Return model, parameters and counts of a request, without its body. Total."""
        return read_request(body, self.message_key)

    def accumulator(self) -> SingleBody:
        """Return a fresh accumulator."""
        return SingleBody("results")

    def response_info(self, body: object) -> ResponseInfo:
        """Return id, model and error of an answer. Flagged input is no refusal: the call succeeded. Total."""
        return choices_info(body, holds="results")

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the moderated texts and images, and each result as its JSON; either side may be None.

        A list of parts is one input of several, a list of texts is several inputs.
        """
        results = [Text(text=encode_json(result).decode()) for result in items(response, "results")]
        return Conversation(
            input=_inputs(dig(request, "input")),
            output=[Message(role="assistant", parts=[*results])] if results else [],
        )


def _inputs(given: object) -> list[Message]:
    if isinstance(given, list) and any(isinstance(part, dict) for part in given):
        return [Message(role="user", parts=parts_of(given))]
    return prompt_messages(given)
