"""Chat completions: what requests and answers of `/chat/completions` mean."""

from __future__ import annotations

from typing import Final

from callspan.providers.base import Api, Operation, ResponseFacts
from callspan.providers.copies import detached
from callspan.providers.openai.asked import asked
from callspan.providers.openai.chat_messages import answered_message, asked_message
from callspan.providers.openai.chat_stream import ChatAccumulator
from callspan.providers.openai.choices import choice_facts, in_order
from callspan.providers.wire import objects
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
        return asked(body, self.message_key)

    def accumulator(self) -> ChatAccumulator:
        """Return a fresh accumulator for one stream."""
        return ChatAccumulator()

    def facts(self, body: object) -> ResponseFacts:
        """Return what a whole or folded answer states. Total."""
        return choice_facts(body)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return what was said; either side may be None or anything else."""
        said = [] if response is None else [answered_message(choice) for choice in in_order(response)]
        if not isinstance(request, dict):
            return Conversation(output=said)
        messages = request.get("messages")
        if not isinstance(messages, list):
            messages = [messages] if isinstance(messages, str | dict) else []
        return Conversation(
            input=[asked_message(message) for message in messages],
            output=said,
            tools=[detached(tool) for key in _TOOLS if key in request for tool in objects(request, key)],
        )
