"""Legacy completions: requests, responses and streams of `/completions`."""

from __future__ import annotations

from typing import Any

from callspan.providers.base import Api, Operation, ResponseInfo
from callspan.providers.openai.base import OpenAIEndpoint
from callspan.providers.openai.chat import choices_info, finish_reason, in_order
from callspan.providers.openai.chat_choice import add_logprobs, choice_index
from callspan.providers.openai.chat_stream import ChunkHeader
from callspan.providers.openai.parts import prompt_messages
from callspan.providers.wire_json import StringBuilder, detached, dig, overlay, text
from callspan.record.messages import Conversation, Message, Part, Text


class _Choice:
    __slots__ = ("extra", "finish_reason", "index", "logprobs", "text")

    def __init__(self, index: int) -> None:
        self.index = index
        self.text = StringBuilder()
        self.finish_reason: str | None = None
        self.logprobs: dict[str, Any] | None = None
        self.extra: dict[str, Any] = {}

    def take(self, choice: dict[str, Any]) -> bool:
        for key, value in choice.items():
            if key not in ("index", "text", "finish_reason", "logprobs"):
                overlay(self.extra, {key: value})
        self.finish_reason = finish_reason(choice.get("finish_reason")) or self.finish_reason
        if isinstance(logprobs := choice.get("logprobs"), dict):
            self.logprobs = add_logprobs(self.logprobs, logprobs)
        fragment = choice.get("text")
        if isinstance(fragment, str):
            self.text.add(fragment)
        return isinstance(fragment, str) and fragment != ""

    def body(self) -> dict[str, Any]:
        known = {"index": self.index, "text": self.text.joined(), "finish_reason": self.finish_reason}
        return {**known, "logprobs": detached(self.logprobs), **detached(self.extra)}


class CompletionAccumulator:
    """Folds chunks of legacy completions into the `text_completion` body of a response without streaming."""

    __slots__ = ("_bare", "_came", "_choices", "_envelope", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._bare = False
        self._came = False
        self._envelope = ChunkHeader()
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: object) -> bool:
        """Fold in one chunk; True if it carried text."""
        if not isinstance(chunk, dict):
            return False
        self._came = True
        self._envelope.take(chunk)
        carried = False
        choices = chunk.get("choices")
        if choices is None and isinstance(value := chunk.get("value"), str):
            # Writer streams plain texts.
            self._bare = True
            choices = [{"index": 0, "text": value}]
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                carried = self._choice(choice, position).take(choice) or carried
                self.complete = all(known.finish_reason for known in self._choices.values())
        return carried

    @property
    def terminated(self) -> bool:
        """True if complete; streams of plain texts have neither finish reasons nor `[DONE]`."""
        return self.complete or self._bare

    def body(self) -> dict[str, object] | None:
        """Return the `text_completion` so far; None if no chunk was received."""
        if not self._came:
            return None
        choices = [self._choices[index].body() for index in sorted(self._choices)]
        return self._envelope.body("text_completion", choices)

    def _choice(self, choice: dict[str, Any], position: int) -> _Choice:
        index = choice_index(choice, position)
        if index not in self._choices:
            self._choices[index] = _Choice(index)
        return self._choices[index]


class Completions(OpenAIEndpoint):
    """The legacy completions endpoint. Stateless."""

    api: Api = "completions"
    operation: Operation = "text_completion"
    path = "/completions"
    message_key = "prompt"
    accumulator = CompletionAccumulator

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
    return Message(role="assistant", parts=parts, finish_reason=finish_reason(choice.get("finish_reason")))
