"""Legacy completions: requests and responses of `/completions`."""

from __future__ import annotations

from callspan.providers.base import Operation, ResponseInfo
from callspan.providers.fold.chat import CompletionFold
from callspan.providers.openai.base import OpenAIEndpoint
from callspan.providers.openai.chat import choices_info, in_order
from callspan.providers.openai.parts import prompt_messages
from callspan.providers.wire_json import detached, dig, text, word
from callspan.record.messages import Conversation, Message, Part, Text


class Completions(OpenAIEndpoint):
    """The legacy completions endpoint. Stateless."""

    operation: Operation = "text_completion"
    message_key = "prompt"
    accumulator = CompletionFold

    def response_info(self, body: object) -> ResponseInfo:
        """Return the info of a complete or folded response. Total."""
        return choices_info(body)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return each prompt as a user's message and each choice as an assistant's."""
        return Conversation(
            input=prompt_messages(dig(request, "prompt")),
            output=[_answer(choice) for choice in in_order(response)],
        )


def _answer(choice: dict[str, object]) -> Message:
    completion = text(choice, "text")
    logprobs = choice.get("logprobs")
    parts: list[Part] = [Text(text=completion, logprobs=detached(logprobs) if logprobs else None)] if completion else []
    return Message(role="assistant", parts=parts, finish_reason=word(choice, "finish_reason"))
