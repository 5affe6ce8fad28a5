"""Chat completions: what requests and answers of `/chat/completions` mean."""

from __future__ import annotations

from typing import Final

from callspan.providers.base import Api, Operation, ResponseInfo
from callspan.providers.copies import detached
from callspan.providers.json_readers import objects
from callspan.providers.openai.chat_messages import request_message, response_message
from callspan.providers.openai.chat_stream import ChatAccumulator
from callspan.providers.openai.choices import choices_info, in_order
from callspan.providers.openai.request import read_request
from callspan.record.call import Request
from callspan.record.messages import Conversation

_TOOLS: Final = ("tools", "functions")


class ChatCompletions:
    """The chat endpoint of OpenAI and of everyone who speaks like it. Stateless."""

    api: Api = "chat_completions"
    operation: Operation = "chat"
    path = "/chat/completions"
    message_key = "messages"

    def request(self, body: object) -> Request:
        """Return model, stream, parameters and counts of a request, without its body. Total."""
        return read_request(body, self.message_key)

    def accumulator(self) -> ChatAccumulator:
        """Return a fresh accumulator for one stream."""
        return ChatAccumulator()

    def response_info(self, body: object) -> ResponseInfo:
        """Return what a whole or folded answer states. Total."""
        return choices_info(body)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies; either may be None or any JSON."""
        output = [] if response is None else [response_message(choice) for choice in in_order(response)]
        if not isinstance(request, dict):
            return Conversation(output=output)
        messages = request.get("messages")
        if not isinstance(messages, list):
            messages = [messages] if isinstance(messages, str | dict) else []
        return Conversation(
            input=[request_message(message) for message in messages],
            output=output,
            tools=[detached(tool) for key in _TOOLS if key in request for tool in objects(request, key)],
        )
