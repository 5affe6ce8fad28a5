"""Chat completions and legacy completions: requests, responses, their choices, and their messages as typed parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from callspan.providers.base import Operation
from callspan.providers.finishing import STOP_REASON
from callspan.providers.fold.accounts import normal
from callspan.providers.fold.chat import ChatFold, CompletionFold
from callspan.providers.hosted_tools import is_of_application
from callspan.providers.media_parts import media
from callspan.providers.openai.base import OpenAIEndpoint, in_order
from callspan.providers.openai.parts import list_or_none, parts_of, prompt_messages
from callspan.providers.wire_json import detached, dig, flag, mapping, objects, text, word
from callspan.record.codec import json_text
from callspan.record.media_reference import stated_mime
from callspan.record.messages import (
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)

_REASONING: Final = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
_RESULTS: Final = ("tool", "function")
_PLAIN: Final = frozenset({"role", "content", "name"})
_BARE: Final = 2
_CALL_FIELDS: Final = frozenset({"id", "type", "function", "custom", "index", "incomplete"})


class ChatCompletions(OpenAIEndpoint):
    """The chat endpoint of OpenAI and compatible servers. Stateless."""

    operation: Operation = "chat"
    message_key = "messages"
    accumulator = ChatFold

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies; either may be None or any JSON."""
        output = [] if response is None else list(map(response_message, in_order(response)))
        if not isinstance(request, dict):
            return Conversation(output=output)
        if mime := stated_mime(request.get("audio")):
            output = [_with_mime(message, mime) for message in output]
        messages = request.get("messages")
        if not isinstance(messages, list):
            messages = [messages] if isinstance(messages, str | dict) else []
        return Conversation(
            input=list(map(request_message, messages)),
            output=output,
            tools=_tools(request) if "tools" in request or "functions" in request else [],
        )


def _tools(request: dict[str, object]) -> list[object]:
    return [detached(tool) for key in ("tools", "functions") for tool in objects(request, key)]


def request_message(message: object) -> Message:
    """Return one message of a request, from any JSON."""
    if isinstance(message, str):
        return Message(role="user", parts=parts_of(message))
    # Nearly every message of a long history has only a role and a text.
    if type(message) is dict and len(message) == _BARE:
        role, content = message.get("role"), message.get("content")
        if type(role) is str and type(content) is str and role and content and role not in _RESULTS:
            return Message(role=role, parts=[Text(text=content)])
    fields = mapping(message)
    if fields is None:
        return Message(role="unknown", parts=[UnknownPart(data=detached(message))])
    whose = text(fields, "role") or "unknown"
    parts: list[Part] = [_tool_result(fields, whose)] if whose in _RESULTS else _parts(fields)
    return Message(role=whose, parts=parts, name=text(fields, "name") or None)


def response_message(choice: dict[str, object]) -> Message:
    """Return the message of one choice."""
    message = choice.get("message")
    fields = message if isinstance(message, dict) else {}
    parts = _parts(fields)
    reason, logprobs = choice.get("finish_reason" if "finish_reason" in choice else STOP_REASON), choice.get("logprobs")
    if logprobs and isinstance(logprobs, dict) and any(logprobs.values()):
        at = next((at for at, part in enumerate(parts) if isinstance(part, Text)), None)
        if at is not None:
            parts[at] = msgspec.structs.replace(parts[at], logprobs=detached(logprobs))
    return Message(
        role=role if isinstance(role := fields.get("role"), str) and role else "assistant",
        parts=parts,
        name=name if isinstance(name := fields.get("name"), str) and name else None,
        finish_reason=reason if isinstance(reason, str) and reason else None,
    )


def _with_mime(message: Message, mime: str) -> Message:
    """Return a message with the type of its sound, which only the request states."""
    parts = [
        msgspec.structs.replace(part, mime=part.mime or mime)
        if isinstance(part, Media) and part.modality == "audio"
        else part
        for part in message.parts
    ]
    return msgspec.structs.replace(message, parts=parts)


def _parts(fields: dict[str, object]) -> list[Part]:
    """Return the parts of `message_parts`, without a generator for messages with only a text."""
    content = fields.get("content")
    if not isinstance(content, str):
        return list(message_parts(fields))
    for key, value in fields.items():
        if value and key not in _PLAIN:
            return list(message_parts(fields))
    return [Text(text=content)] if content else []


def message_parts(fields: dict[str, object]) -> Iterator[Part]:
    """Yield the parts of a message: reasoning, content, refusal, tool calls, audio, images."""
    yield from _reasoning(fields)
    yield from _content(fields)
    if refusal := text(fields, "refusal"):
        yield Refusal(text=refusal)
    calls = [_tool_call(call) for call in objects(fields, "tool_calls")]
    yield from calls
    yield from _legacy_call(fields, calls)
    for tool in objects(fields, "executed_tools"):
        yield _hosted_call(tool)
    audio = mapping(fields, "audio")
    if audio and any(audio.values()):
        yield from _spoken(audio)
    yield from parts_of(fields.get("images"))


def _legacy_call(fields: dict[str, object], calls: list[ToolCall]) -> Iterator[ToolCall]:
    """Yield the one function of old models, which some gateways send beside the tool call that it is."""
    function_call = mapping(fields, "function_call")
    # Snowflake sends empty objects for absent fields.
    if not function_call or not any(function_call.values()):
        return
    legacy = ToolCall(name=text(function_call, "name") or None, arguments=json_text(function_call.get("arguments")))
    if (legacy.name, normal(legacy.arguments)) not in [(call.name, normal(call.arguments)) for call in calls]:
        yield legacy


def _reasoning(fields: dict[str, object]) -> Iterator[Part]:
    """Yield structured details, then plain fields with text that the details lack."""
    text_so_far = ""
    for detail in objects(fields, "reasoning_details"):
        thought = _detail(detail)
        text_so_far += thought.text or ""
        yield thought
    for block in objects(fields, "thinking_blocks"):
        for part in parts_of([block]):
            text_so_far += part.text or "" if isinstance(part, Reasoning) else ""
            yield part
    for key in _REASONING:
        plain = text(fields, key)
        if plain and _squeezed(plain) not in _squeezed(text_so_far):
            text_so_far += plain
            yield Reasoning(text=plain, signature=text(fields, "reasoning_signature") or None)
    # Gemini signs the complete turn.
    if signature := text(fields, "extra_content", "google", "thought_signature"):
        yield Reasoning(signature=signature)


def _detail(detail: dict[str, object]) -> Reasoning:
    return Reasoning(
        text=text(detail, "text") or text(detail, "summary") or None,
        signature=text(detail, "signature") or None,
        sealed=text(detail, "data") or None,
    )


def _squeezed(thought: str) -> str:
    return "".join(thought.split())


def _content(fields: dict[str, object]) -> Iterator[Part]:
    """Yield the content, with the message's annotations on its first text."""
    annotations = list_or_none(fields.get("annotations"))
    for part in parts_of(fields.get("content")):
        if annotations and isinstance(part, Text):
            yield Text(text=part.text, annotations=[*(part.annotations or ()), *annotations], logprobs=part.logprobs)
            annotations = None
        else:
            yield part


def _tool_call(call: dict[str, object]) -> ToolCall:
    kind = "custom" if mapping(call, "custom") and not mapping(call, "function") else "function"
    inner, tool_type = mapping(call, kind) or {}, text(call, "type") or kind
    extra = {key: detached(value) for key, value in call.items() if key not in _CALL_FIELDS and value is not None}
    return ToolCall(
        id=text(call, "id") or None,
        name=text(inner, "name") or None,
        arguments=json_text(inner.get("input" if kind == "custom" else "arguments")),
        tool_type=tool_type,
        is_of_application=is_of_application(tool_type, inner),
        incomplete=flag(call, "incomplete") is True,
        extra=extra or None,
    )


def _hosted_call(tool: dict[str, object]) -> ToolCall:
    kind = text(tool, "type") or "hosted"
    return ToolCall(
        name=text(tool, "name") or kind,
        arguments=json_text(tool.get("arguments")),
        tool_type=kind,
        is_of_application=is_of_application(kind, tool),
        extra={key: detached(value) for key, value in tool.items() if key not in ("type", "name", "arguments")} or None,
    )


def _tool_result(fields: dict[str, object], role: str) -> ToolResult:
    return ToolResult(
        id=text(fields, "tool_call_id") or None,
        content=detached(fields.get("content")),
        is_error=flag(fields, "is_error"),
        tool_type=role if role == "function" else "function",
    )


def _spoken(audio: dict[str, object]) -> Iterator[Part]:
    """Yield the transcript of a sound, and the sound."""
    transcript = text(audio, "transcript")
    if transcript:
        yield Text(text=transcript)
    sound = media("audio", dig(audio, "data"), part=audio, file_id=text(audio, "id") or None)
    if sound is not None or not transcript:
        yield UnknownPart(data={"audio": detached(audio)}) if sound is None else sound


class FillInTheMiddle(ChatCompletions):
    """Mistral's completion of code between a prompt and a suffix. It answers as chat does. Stateless."""

    operation: Operation = "text_completion"
    message_key = "prompt"

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the prompt as a user message, and the answers."""
        output = super().conversation(None, response).output
        return Conversation(input=prompt_messages(dig(request, "prompt")), output=output)


class Completions(OpenAIEndpoint):
    """The legacy completions endpoint. Stateless."""

    operation: Operation = "text_completion"
    message_key = "prompt"
    accumulator = CompletionFold

    def conversation(self, request: object, response: object) -> Conversation:
        """Return each prompt as a user's message and each choice as an assistant's, without an echo of the prompt."""
        prompts = prompt_messages(dig(request, "prompt"))
        echoed = prompts[0].text if len(prompts) == 1 and dig(request, "echo") is True else None
        return Conversation(input=prompts, output=[_answer(choice, echoed or "") for choice in in_order(response)])


def _answer(choice: dict[str, object], echoed: str) -> Message:
    completion = (text(choice, "text") or "").removeprefix(echoed)
    logprobs = choice.get("logprobs")
    parts: list[Part] = [Text(text=completion, logprobs=detached(logprobs) if logprobs else None)] if completion else []
    return Message(role="assistant", parts=parts, finish_reason=word(choice, "finish_reason"))
