"""Chat and generate: requests and answers of Ollama's own API. An answer is a stream unless the request forbids it."""

from __future__ import annotations

from typing import Any, Final

from callspan.providers.base import Operation, ResponseInfo, parameters
from callspan.providers.error_kinds import error_in, error_info
from callspan.providers.finishing import answer_info, finish_words, tool_finish
from callspan.providers.kinds import fits_any
from callspan.providers.media_parts import media
from callspan.providers.named_calls import CallNames, call_id
from callspan.providers.ollama.lines import LinesFold
from callspan.providers.ollama.usage import usage
from callspan.providers.wire_json import Json, count, detached, items, mapping, objects, text, word
from callspan.record.apis import Field
from callspan.record.call import FinishWord, Request, Response
from callspan.record.codec import json_text
from callspan.record.messages import Conversation, Message, Part, Reasoning, Text, ToolCall, ToolResult, tool_name

_CONTENT: Final = frozenset(
    {
        "model", "stream", "messages", "prompt", "input", "suffix", "system", "template", "context", "images", "tools",
        "options",
    }
)  # fmt: skip
_LIMIT: Final = "num_predict"
"""The option with the maximum number of tokens; not positive without one."""


class OllamaEndpoint:
    """Base of the adapters of Ollama's API."""

    operation: Operation
    answer: tuple[Field, ...]
    """The fields of an answer. Any of them identifies a body as an answer."""
    finishes = True
    """Whether answers have a finish reason."""

    def __init__(self, api: str) -> None:
        self.api = api

    def accumulator(self) -> LinesFold:
        """Return a fresh accumulator."""
        return LinesFold()

    def request(self, body: object) -> Request:
        """Return model, stream, parameters and counts of a request."""
        if not isinstance(body, dict):
            return Request()
        options: dict[Any, object] = {**(mapping(body, "options") or {})}
        if count(options, _LIMIT):
            options["max_tokens"] = options.pop(_LIMIT)
        return Request(
            model=word(body, "model"),
            stream=self.finishes and body.get("stream") is not False,
            params={**parameters(body, _CONTENT), **parameters(options, ())},
            message_count=len(items(body, "messages")) or None,
            tool_names=[name for tool in objects(body, "tools") if (name := tool_name(tool))]
            if items(body, "tools")
            else None,
        )

    def response_info(self, body: object) -> ResponseInfo:
        """Return model, finish reason, usage and error of a complete or folded body; accepts any JSON."""
        reason, error = word(body, "done_reason"), error_in(body) if isinstance(body, dict) else None
        is_answer = fits_any(body, self.answer)
        response = Response(
            model=word(body, "model"),
            finish_reasons=[reason] if is_answer and self.finishes else [],
            finish=finish_words([_hidden_finish(body)]),
        )
        stated = error_info(body={"error": error}) if error else None
        return answer_info(response, (reason,), usage(body), stated, recognized=is_answer)


class Chat(OllamaEndpoint):
    """`/api/chat`. Stateless."""

    operation: Operation = "chat"
    answer = (Field("message", "object"),)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, typed. Either may be None."""
        answer, ending = mapping(response, "message"), _hidden_finish(response) or word(response, "done_reason")
        return Conversation(
            input=_messages(request),
            output=[] if answer is None else [_message(answer, "assistant", ending)],
            tools=list(map(detached, items(request, "tools"))),
        )


class Generate(OllamaEndpoint):
    """`/api/generate`. Stateless."""

    operation: Operation = "text_completion"
    answer = (Field("response", "string"),)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the prompt with its images, and the answer. Either body may be None."""
        fields: Json = {"content": text(request, "prompt"), "images": [*items(request, "images")]}
        prompt = _message(fields, "user")
        system, thinking = text(request, "system"), text(response, "thinking")
        answered = _parts({"content": text(response, "response"), "thinking": thinking})
        reason = word(response, "done_reason")
        return Conversation(
            system=[Text(text=system)] if system else [],
            input=[prompt] if prompt.parts else [],
            output=[Message(role="assistant", parts=answered, finish_reason=reason)] if answered else [],
        )


def _hidden_finish(body: object) -> FinishWord | None:
    return tool_finish(word(body, "done_reason"), calls=bool(items(body, "message", "tool_calls")))


def _messages(request: object) -> list[Message]:
    """Return the messages of a request. Results without ids are paired with the calls before them."""
    messages: list[Message] = []
    names = CallNames()
    for fields in objects(request, "messages"):
        if text(fields, "role") == "tool":
            messages.append(Message(role="tool", parts=[_tool_result(fields, names)]))
        else:
            names = CallNames()
            messages.append(_message(fields, "user"))
    return messages


def _message(fields: Json, role: str, reason: str | None = None) -> Message:
    """Return one message; `role` is the default for a message without a role."""
    return Message(role=word(fields, "role") or role, parts=_parts(fields), finish_reason=reason)


def _parts(fields: Json) -> list[Part]:
    parts: list[Part] = []
    if thinking := text(fields, "thinking"):
        parts.append(Reasoning(text=thinking))
    if content := text(fields, "content"):
        parts.append(Text(text=content))
    parts += [image for source in items(fields, "images") if (image := media("image", source)) is not None]
    names = CallNames()
    return [*parts, *(_tool_call(call, names) for call in objects(fields, "tool_calls"))]


def _tool_call(call: Json, names: CallNames) -> ToolCall:
    function = mapping(call, "function") or {}
    name = word(function, "name")
    return ToolCall(
        id=call_id(word(call, "id"), name, names), name=name, arguments=json_text(function.get("arguments", {}))
    )


def _tool_result(fields: Json, names: CallNames) -> ToolResult:
    name = word(fields, "tool_name") or word(fields, "name")
    return ToolResult(
        id=call_id(word(fields, "tool_call_id"), name, names), content=detached(fields.get("content"))
    )  # fmt: skip
