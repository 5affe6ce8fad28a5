"""Run: a model of Workers AI, which is in the path, asked for a text.

An answer is in `result`, beside what Cloudflare's API has in all of its answers. Older models state the text in
`response` and whole tool calls without ids; newer ones state choices, as do the chunks of their streams.
"""

from __future__ import annotations

from typing import ClassVar, Final

from callspan.providers.base import ResponseInfo
from callspan.providers.fold.chat import ChatFold
from callspan.providers.fold.merge import GrowingText
from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.openai.chat import ChatCompletions
from callspan.providers.openai.parts import prompt_messages
from callspan.providers.wire_json import Json, detached, dig, mapping, objects, text, word
from callspan.record.call import Request
from callspan.record.codec import json_text
from callspan.record.messages import Conversation

_CHOICES: Final = "choices"
_RESPONSE: Final = "response"
_CALLS: Final = "tool_calls"
_RESULT: Final = "result"
_PADDING: Final = "p"
"""The field of an event that only hides the length of its text."""


class RunFold:
    """Joins the events of either form: texts, of other fields the last value."""

    usage_rule: ClassVar[UsageRule] = "last of each"

    def __init__(self) -> None:
        self._chat: ChatFold | None = None
        self._text = GrowingText()
        self._result: Json = {}

    @property
    def complete(self) -> bool:
        """True once the last event was received, which states the usage, or each choice has a finish reason."""
        return "usage" in self._result if self._chat is None else self._chat.complete

    def add(self, event: object) -> bool:
        """Fold in one event; return True if it carried content."""
        if not isinstance(event, dict):
            return False
        if self._chat is None and _CHOICES in event:
            self._chat = ChatFold()
        if self._chat is not None:
            return self._chat.add(event)
        piece = text(event, _RESPONSE)
        if piece is not None:
            self._text.add(piece)
        others = {key: detached(value) for key, value in event.items() if key not in (_RESPONSE, _PADDING)}
        self._result |= {key: value for key, value in others.items() if value or key not in self._result}
        return bool(piece or event.get(_CALLS))

    def body(self) -> Json | None:
        """Return the body so far; None if nothing was received."""
        if self._chat is not None:
            result = self._chat.body()
            return None if result is None else {_RESULT: result}
        stated = self._text.text()
        result = {**({_RESPONSE: stated} if stated else {}), **detached(self._result)}
        if "error" in result or "errors" in result:
            return result
        return {_RESULT: result} if result else None


class Run(ChatCompletions):
    """`ai/run/{model}`. Stateless."""

    accumulator = RunFold  # type: ignore[assignment] # of the same protocol

    def request(self, body: object) -> Request:
        """Return stream, parameters and counts of a request, whose model is in its path."""
        return super().request(_asked(body))

    def response_info(self, body: object) -> ResponseInfo:
        """Return id, finish reasons, usage and error of a complete or folded body; accepts any JSON."""
        return super().response_info(_answer(body))

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, typed. Either may be None."""
        conversation = super().conversation(request, None if response is None else _answer(response))
        prompt = dig(request, "prompt")
        if prompt is None or conversation.input:
            return conversation
        return Conversation(input=prompt_messages(prompt), output=conversation.output, tools=conversation.tools)


def _asked(body: object) -> object:
    """Return a request without its prompt, which is no parameter."""
    return {key: value for key, value in body.items() if key != "prompt"} if isinstance(body, dict) else body


def _answer(body: object) -> object:
    """Return an answer as one of chat completions."""
    result = mapping(body, _RESULT)
    if result is None or _CHOICES in result:
        return body if result is None else result
    if _RESPONSE not in result and _CALLS not in result:
        return body
    said = result.get(_RESPONSE)
    content = said if said is None or isinstance(said, str) else json_text(said)  # as of a schema
    calls = [_call(call) for call in objects(result, _CALLS)]
    message = {"role": "assistant", "content": content, **({_CALLS: calls} if calls else {})}
    return {**result, _CHOICES: [{"index": 0, "message": message}]}


def _call(call: dict[str, object]) -> dict[str, object]:
    """Return a tool call as one of chat completions."""
    if mapping(call, "function") is not None:
        return call
    named = {"name": word(call, "name"), "arguments": call.get("arguments")}
    return {**{key: value for key, value in call.items() if key not in named}, "type": "function", "function": named}
