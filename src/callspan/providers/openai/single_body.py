"""Endpoints that never stream: embeddings, decisions, moderations."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from callspan.providers.base import Operation, ResponseInfo
from callspan.providers.fold.last import LastBody
from callspan.providers.media_parts import media_by_kind
from callspan.providers.openai.base import OpenAIEndpoint
from callspan.providers.openai.parts import parts_of, prompt_messages
from callspan.providers.openai.responses import item_messages
from callspan.providers.openai.usage import of_input_only, usage_of
from callspan.providers.wire_json import dig, items, mapping, objects, text
from callspan.record.codec import encode_json
from callspan.record.messages import Conversation, Message, Part, Refusal, Text
from callspan.record.usage import Usage


class SingleBodyEndpoint(OpenAIEndpoint):
    """The base of these endpoints."""

    def accumulator(self) -> LastBody:
        """Return a fresh accumulator."""
        return LastBody(mapping)


def _input_usage(body: object) -> Usage | None:
    """Return the usage of embeddings. Voyage, Jina, MiniMax and others state only the total."""
    return of_input_only(usage_of(body))


class Embeddings(SingleBodyEndpoint):
    """Embeddings, `/embeddings`. Vectors are never read. Stateless."""

    operation: Operation = "embeddings"
    response_key = "data"
    _usage = staticmethod(_input_usage)

    def conversation(self, request: object, response: object) -> Conversation:  # noqa: ARG002 - vectors say nothing
        """Return what was embedded as user messages, vLLM's with their roles; there is no output."""
        embedded = prompt_messages(dig(request, "input"))
        for number, entry in enumerate(items(request, "input")):
            if isinstance(entry, dict) and (media_parts := media_by_kind(entry)):  # Jina
                texts: list[Part] = [Text(text=content)] if (content := text(entry, "text")) else []
                embedded[number] = Message(role="user", parts=[*texts, *media_parts])
        embedded += (
            Message(role=text(message, "role") or "user", parts=parts_of(message.get("content")))
            for message in objects(request, "messages")
        )
        return Conversation(input=embedded)


class Decisions(SingleBodyEndpoint):
    """Decisions, `/decisions`: questions about an input, with typed answers. Stateless.

    The questions form a user message after the input, each as JSON; each answer is JSON, too.
    """

    operation: Operation = "decisions"
    response_key = "answers"

    def response_info(self, body: object) -> ResponseInfo:
        """Return model, usage and error of an answer. One declined question makes it a refusal. Total."""
        info = super().response_info(body)
        declined = any(text(answer, "type") == "refusal" for answer in items(body, "answers"))
        response = msgspec.structs.replace(info.response, refused=declined)
        return msgspec.structs.replace(info, response=response)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the input with the questions about it, and the answers; either side may be None."""
        content = dig(request, "input")
        about = item_messages(content) if isinstance(content, list) else prompt_messages(content)
        questions: list[Part] = [_as_text(question) for question in items(request, "questions")]
        # A declined question has only its name.
        answers: list[Part] = [
            Refusal(text=_as_text(answer).text) if text(answer, "type") == "refusal" else _as_text(answer)
            for answer in items(response, "answers")
        ]
        return Conversation(
            input=[*about, Message(role="user", parts=questions)] if questions else about,
            output=_output(answers),
        )


class Moderations(SingleBodyEndpoint):
    """Moderations, `/moderations`, which are free and have no usage. Flagged input is no refusal. Stateless."""

    operation: Operation = "moderation"
    response_key = "results"

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the moderated texts and images, and each result as JSON; either side may be None.

        A list of parts is one input, a list of texts several.
        """
        content = dig(request, "input")
        is_one = isinstance(content, list) and any(isinstance(part, dict) for part in content)
        return Conversation(
            input=[Message(role="user", parts=parts_of(content))] if is_one else prompt_messages(content),
            output=_output([_as_text(result) for result in items(response, "results")]),
        )


def _as_text(value: object) -> Text:
    return Text(text=encode_json(value).decode())


def _output(parts: Sequence[Part]) -> list[Message]:
    return [Message(role="assistant", parts=[*parts])] if parts else []
