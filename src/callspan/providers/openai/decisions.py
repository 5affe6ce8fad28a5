"""Decisions: requests and responses of `/decisions`: questions about an input, and typed answers.

The questions are one more user message after the input, each as its JSON; so is each answer.
"""

from __future__ import annotations

from callspan.providers.base import Api, Operation, ResponseInfo
from callspan.providers.json_readers import dig, items, text
from callspan.providers.openai.parts import prompt_messages
from callspan.providers.openai.response import SingleBody, choices_info, read_request
from callspan.providers.openai.responses import item_messages
from callspan.record.call import Request
from callspan.record.codec import encode_json
from callspan.record.messages import Conversation, Message, Part, Refusal, Text


class Decisions:
    """The decisions endpoint. Stateless."""

    api: Api = "decisions"
    operation: Operation = "decisions"
    path = "/decisions"
    message_key = "input"

    def request(self, body: object) -> Request:
        """Return model, parameters and counts of a request, without its body. Total."""
        return read_request(body, self.message_key)

    def accumulator(self) -> SingleBody:
        """Return a fresh accumulator."""
        return SingleBody("answers")

    def response_info(self, body: object) -> ResponseInfo:
        """Return model, usage and error of an answer; one question that was declined makes it a refusal. Total."""
        refused = any(text(answer, "type") == "refusal" for answer in items(body, "answers"))
        return choices_info(body, refused=refused, holds="answers")

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the input with the questions about it, and the answers; either side may be None."""
        given = dig(request, "input")
        about = item_messages(given) if isinstance(given, list) else prompt_messages(given)
        questions: list[Part] = [Text(text=_json(question)) for question in items(request, "questions")]
        answers = [_answer(answer) for answer in items(response, "answers")]
        return Conversation(
            input=[*about, Message(role="user", parts=questions)] if questions else about,
            output=[Message(role="assistant", parts=answers)] if answers else [],
        )


def _answer(answer: object) -> Part:
    """Return an answer as a part; a declined question has only its name."""
    return Refusal(text=_json(answer)) if text(answer, "type") == "refusal" else Text(text=_json(answer))


def _json(value: object) -> str:
    return encode_json(value).decode()
