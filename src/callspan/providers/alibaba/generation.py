"""Generation: DashScope's own API, with messages and parameters in objects of their own, and the answer in `output`.

The events of a stream each have the text so far, or with `incremental_output` its next piece; they do not say which.
Wire reference: https://www.alibabacloud.com/help/en/model-studio/qwen-api-via-dashscope
"""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from callspan.providers.base import ResponseInfo
from callspan.providers.fold.chat import ChatFold
from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.openai.chat import ChatCompletions
from callspan.providers.openai.parts import prompt_messages
from callspan.providers.wire_json import Json, detached, dig, mapping, objects, text, word
from callspan.record.call import Request
from callspan.record.messages import Conversation

_REASON: Final = "finish_reason"
_UNFINISHED: Final = (None, "null")


class GenerationFold:
    """Joins events with the text so far, or with its next piece."""

    usage_rule: ClassVar[UsageRule] = "last of each"

    def __init__(self) -> None:
        self._pieces, self._others = ChatFold(), Json()
        self._latest: dict[int, Json] = {}
        """The last choice with each index."""
        self._is_text_so_far = True

    @property
    def complete(self) -> bool:
        """True once each choice has a finish reason."""
        return self._pieces.complete

    def add(self, event: object) -> bool:
        """Fold in one event; return True if it carried content."""
        if not isinstance(event, dict):
            return False
        self._others |= {key: detached(value) for key, value in event.items() if key != "output"}
        choices = _choices(event)
        for index, choice in enumerate(choices):
            before = _said(self._latest.get(index, {}))
            self._is_text_so_far &= all(new.startswith(old) for new, old in zip(_said(choice), before, strict=True))
            self._latest[index] = detached(choice)
        return self._pieces.add(
            {"choices": [{"index": at, **one, "delta": one["message"]} for at, one in enumerate(choices)]}
        )

    def body(self) -> Json | None:
        """Return the body so far; None if nothing was received."""
        if not (self._latest or self._others):
            return None
        joined = {"choices": [*self._latest.values()]} if self._is_text_so_far else self._pieces.body()
        return {"output": joined or {}, **detached(self._others)}


class Generation(ChatCompletions):
    """`/api/v1/services/aigc/text-generation/generation`. Stateless."""

    accumulator = GenerationFold  # type: ignore[assignment] # joins other events

    def request(self, body: object) -> Request:
        """Return model, parameters and counts of a request."""
        asked = {"model": dig(body, "model"), "messages": dig(body, "input", "messages")}
        return super().request({**(mapping(body, "parameters") or {}), **asked})

    def response_info(self, body: object) -> ResponseInfo:
        """Return id, finish reasons, usage and error of a complete or folded body; accepts any JSON."""
        return super().response_info(_as_chat(body))

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies; either may be None or any JSON."""
        asked, prompt = mapping(request, "input"), dig(request, "input", "prompt")
        conversation = super().conversation(asked, None if response is None else _as_chat(response))
        if conversation.input or not isinstance(prompt, str):
            return conversation
        return msgspec.structs.replace(conversation, input=prompt_messages(prompt))


def _choices(body: object) -> list[Json]:
    """Return the choices of an answer; of one with a text alone, as `result_format` says, that as a choice."""
    output = mapping(body, "output") or {}
    choices = [*objects(output, "choices")]
    if not choices and (said := text(output, "text")) is not None:
        choices = [{_REASON: word(output, _REASON), "message": {"role": "assistant", "content": said}}]
    return [
        {
            **choice,
            _REASON: None if choice.get(_REASON) in _UNFINISHED else choice[_REASON],
            "message": choice.get("message") or {},
        }
        for choice in choices
    ]


def _said(choice: Json) -> tuple[str, str]:
    message = mapping(choice, "message") or {}
    return text(message, "content") or "", text(message, "reasoning_content") or ""


def _as_chat(body: object) -> object:
    """Return an answer as a chat completion; an error as it is."""
    if mapping(body, "output") is None:
        return body
    return {"choices": _choices(body), "usage": dig(body, "usage")}
