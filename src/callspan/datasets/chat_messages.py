"""Chat messages: converts a call of any API, with its tool definitions, to the format of chat completions.

Parts that this format cannot represent are counted in `dropped`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from callspan.joining.same_message import atom_of, encoded
from callspan.providers.wire_json import text as text_at
from callspan.records import (
    CallRecord,
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
    encode_json,
    parse_arguments,
    tool_name,
)

ChatMessage: TypeAlias = dict[str, object]
Dropped: TypeAlias = Counter[str]

_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})
_OTHER_ROLES: Final = {"model": "assistant", "human": "user", "ai": "assistant"}
_TEXTS: Final = frozenset({"text", "input_text", "output_text"})
_JSON: Final = "json"
_BLOCKS: Final = frozenset({"text", _JSON, "image", "document", "video", "searchResult"})
"""The only field of each block of a result in Bedrock's form."""
_DEFINITION_FIELDS: Final = ("name", "description", "parameters", "strict")
_DEFINED: Final = ("function", "custom")
"""Kinds of tools that the application runs; chat completions have the definition under this name."""
UNRECORDED_HISTORY: Final = "history only the provider remembers"
_UNKNOWN: Final = {"compaction": "compactions", "item_reference": UNRECORDED_HISTORY}
"""What parts of unknown kind are counted as, by their type."""
_AUDIO: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


class ChatCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call in the format of chat completions."""

    prompt: list[ChatMessage]
    prefill: ChatMessage | None = None
    """The last message of the assistant that the model continued, which was sent after the prompt."""
    generated: ChatMessage
    """What the model answered."""
    answer: ChatMessage
    """The same, after the prefill."""
    tools: list[dict[str, object]]
    parallel_tool_calls: bool | None = None


def choices_of(conversation: Conversation) -> list[Message]:
    """Return the output, without the user's messages, which a compaction repeats in it."""
    return [message for message in conversation.output if message.role != "user"]


def chat_call(call: CallRecord, dropped: Dropped, *, reasoning: bool = False) -> ChatCall | None:
    """Return a call as chat messages; None if it has no answer or no recorded content.

    `reasoning` includes reasoning as `reasoning_content` of assistant messages.
    """
    conversation = call.conversation
    if conversation is None or not (choices := choices_of(conversation)):
        return None
    if len(choices) > 1:
        dropped["other choices of one answer"] += len(choices) - 1
    writer = _Writer(dropped, reasoning=reasoning)
    prompt = [*writer.instructions(conversation), *writer.messages(conversation.input)]
    answers = writer.messages(choices[:1])
    generated: ChatMessage = answers[0] if answers else {"role": "assistant", "content": ""}
    chat = ChatCall(
        prompt=prompt,
        generated=generated,
        answer=generated,
        tools=chat_tools(conversation.tools, dropped),
        parallel_tool_calls=_parallel(call),
    )
    return continuing(chat, prompt) if call.api == "messages" else chat


def continuing(chat: ChatCall, prompt: list[ChatMessage]) -> ChatCall:
    """Return a call with this prompt. If its last message is the assistant's, the model continues it.

    For calls of Anthropic's API, where models continue such a message.
    """
    prefill = prompt[-1] if prompt else {}
    if prefill.get("role") != "assistant" or not isinstance(prefill["content"], str):
        return msgspec.structs.replace(chat, prompt=prompt)
    answer = {**prefill, **chat.generated, "content": f"{prefill['content']}{chat.generated['content'] or ''}"}
    return msgspec.structs.replace(chat, prompt=prompt[:-1], prefill=prefill, answer=answer)


def canonical(message: ChatMessage) -> bytes:
    """Return what a message is compared by: clients write an answer anew when they send it back."""
    role = str(message["role"])
    atoms = [atom_of(role, part) for part in _parts(message)]
    return encoded([role, *filter(None, atoms)])


def _parts(message: ChatMessage) -> Iterator[Part]:
    content, calls, refusal = message.get("content"), message.get("tool_calls"), message.get("refusal")
    if message["role"] == "tool":
        yield ToolResult(content=content)
    else:
        for item in content if isinstance(content, list) else [{"text": content or ""}]:
            text = text_at(item, "text")
            yield UnknownPart(data=item) if text is None else Text(text=text)
    if isinstance(refusal, str):
        yield Refusal(text=refusal)
    for call in calls if isinstance(calls, list) else ():
        fields = call.get("function") or call.get("custom")
        yield ToolCall(name=fields["name"], arguments=fields.get("arguments", fields.get("input")))


class _Writer:
    """Converts messages; tool calls without an id, and their results, get a new one."""

    def __init__(self, dropped: Dropped, *, reasoning: bool) -> None:
        self._dropped = dropped
        self._reasoning = reasoning
        self._new_ids = 0
        self._open: deque[str] = deque()

    def instructions(self, conversation: Conversation) -> list[ChatMessage]:
        parts = self._content(conversation.system)
        return [{"role": "system", "content": parts}] if parts else []

    def messages(self, messages: Iterable[Message]) -> list[ChatMessage]:
        return [chat_message for message in messages for chat_message in self._message(message)]

    def _message(self, message: Message) -> list[ChatMessage]:
        results = [self._result(part) for part in message.parts if isinstance(part, ToolResult)]
        tool_results = [result for result in results if result is not None]
        parts: list[Part] = [part for part in message.parts if not isinstance(part, ToolResult)]
        if message.parts and all(isinstance(part, UnknownPart) for part in parts):
            self._content(parts)  # counts them
            return tool_results
        role = self._role(message.role)
        return [
            *tool_results,
            self._assistant(message, parts) if role == "assistant" else self._plain(role, message, parts),
        ]

    def _role(self, role: str) -> str:
        chat_role = role if role in _ROLES else _OTHER_ROLES.get(role)
        if chat_role is None:
            self._dropped[f"role {role}"] += 1
        return chat_role or "user"

    def _plain(self, role: str, message: Message, parts: list[Part]) -> ChatMessage:
        content = self._content(parts)
        return {"role": role, "content": content, **({"name": message.name} if message.name else {})}

    def _assistant(self, message: Message, parts: list[Part]) -> ChatMessage:
        calls = [call for part in parts if isinstance(part, ToolCall) and (call := self._call(part)) is not None]
        content = self._content([part for part in parts if not isinstance(part, ToolCall | Reasoning | Refusal)], "")
        refusals = [part.text for part in parts if isinstance(part, Refusal)]
        thoughts = [part for part in parts if isinstance(part, Reasoning)]
        chat_message: ChatMessage = {"role": "assistant", "content": content or (None if calls or refusals else "")}
        if message.name:
            chat_message["name"] = message.name
        if refusals:
            chat_message["refusal"] = "\n".join(refusals)
        if calls:
            chat_message["tool_calls"] = calls
        if thoughts:
            self._think(chat_message, thoughts)
        return chat_message

    def _think(self, chat_message: ChatMessage, thoughts: list[Reasoning]) -> None:
        text = "\n\n".join(thought.text for thought in thoughts if thought.text)
        if self._reasoning and text:
            chat_message["reasoning_content"] = text
        elif text:
            self._dropped["reasoning"] += 1
        if any(thought.signature or thought.sealed for thought in thoughts):
            self._dropped["signatures of reasoning"] += 1

    def _call(self, part: ToolCall) -> dict[str, object] | None:
        if part.tool_type not in {"function", "custom"}:
            self._dropped[f"hosted tool call: {part.tool_type}"] += 1
            return None
        call_id = part.id or self._new_id()
        if part.extra:
            self._dropped["extra fields of tool calls"] += 1
        name, arguments = part.name or "", part.arguments or ""
        if part.tool_type == "custom":
            return {"id": call_id, "type": "custom", "custom": {"name": name, "input": arguments}}
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments or "{}"}}

    def _new_id(self) -> str:
        self._new_ids += 1
        self._open.append(f"call_{self._new_ids}")
        return self._open[-1]

    def _result(self, part: ToolResult) -> ChatMessage | None:
        if part.tool_type not in {"function", "custom"}:
            self._dropped[f"hosted tool result: {part.tool_type}"] += 1
            return None
        if part.is_error:
            self._dropped["error mark of a tool result"] += 1
        call_id = part.id or (self._open.popleft() if self._open else None)
        return {"role": "tool", "tool_call_id": call_id or "unknown", "content": self._result_content(part.content)}

    def _result_content(self, content: object) -> object:
        """Return the content of a tool result: one or several texts without images, or data as JSON."""
        if content is None or isinstance(content, str):
            return content or ""
        if not isinstance(content, list) or (content and not any(map(_is_part, content))):
            return encode_json(content).decode()
        texts: list[object] = []
        for item in content:
            fields = item if isinstance(item, dict) else {}
            if fields.get("type") in _TEXTS or fields.keys() == {"text"}:
                texts.append({"type": "text", "text": str(fields.get("text", ""))})
            elif fields.keys() == {_JSON}:
                texts.append({"type": "text", "text": encode_json(fields[_JSON]).decode()})
            else:
                self._dropped["part of a tool result that is no text"] += 1
        return _shortest(texts)

    def _content(self, parts: Iterable[Part], glue: str | None = None) -> object:
        """Return one text as a string, else a list of parts; `glue` joins several texts."""
        chat_parts = [chat_part for part in parts if (chat_part := self._part(part)) is not None]
        if glue is not None and all(part["type"] == "text" for part in chat_parts):
            return glue.join(str(part["text"]) for part in chat_parts)
        return _shortest(chat_parts)

    def _part(self, part: Part) -> dict[str, object] | None:
        match part:
            case Text(text=text):
                if part.annotations:
                    self._dropped["citations"] += 1
                return {"type": "text", "text": text}
            case Media():
                return content_part(part, self._dropped)
            case UnknownPart(data=data):
                self._dropped[_UNKNOWN.get(text_at(data, "type") or "", "parts of unknown kind")] += 1
            case _:
                self._dropped[f"{type(part).__name__} of a user"] += 1
        return None


def _is_part(item: object) -> bool:
    """Return whether an item of a tool result is a content part: an object with a type, or a Bedrock block."""
    return isinstance(item, dict) and ("type" in item or (len(item) == 1 and not _BLOCKS.isdisjoint(item)))


def _shortest(parts: list[object] | list[dict[str, object]]) -> object:
    """Return one text as a string, and no content as the empty string."""
    if not parts:
        return ""
    part = parts[0]
    if len(parts) == 1 and isinstance(part, dict) and part.get("type") == "text":
        return part["text"]
    return parts


def _parallel(call: CallRecord) -> bool | None:
    value = call.request.params.get("parallel_tool_calls")
    if isinstance(value, bool):
        return value
    choice = call.request.params.get("tool_choice")
    disabled = choice.get("disable_parallel_tool_use") if isinstance(choice, dict) else None
    return not disabled if isinstance(disabled, bool) else None


def flaw(messages: Sequence[ChatMessage]) -> str | None:
    """Return the first reason why these messages are no use to a trainer; None if they are valid.

    Every tool call must have its result before the next message, except in the last message; every tool result must
    have its call; every assistant message must have content, and so must a message of the user, if there are any.
    """
    questions = [message["content"] for message in messages if message["role"] == "user"]
    if questions and not any(questions):
        return "an empty question"  # for example an image without kept bytes
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            call_id = str(message["tool_call_id"])
            if call_id not in waiting:
                return "a tool result without its call"
            waiting.discard(call_id)
            continue
        if waiting:
            return "a tool call without its result"
        if message["role"] == "assistant":
            waiting = set(call_ids(message))
            if not waiting and not message.get("content") and not message.get("refusal"):
                return "an empty assistant message"
    return None if messages and messages[-1]["role"] == "assistant" else "no answer"


def call_ids(message: ChatMessage) -> list[str]:
    """Return the ids of a message's tool calls."""
    calls = message.get("tool_calls")
    return [str(call.get("id")) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def called_tools(message: ChatMessage) -> list[str]:
    """Return the names of the tools called in a message."""
    calls = message.get("tool_calls")
    return [tool_name(call) or "" for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def arguments_of(text: str) -> tuple[dict[str, object], bool]:
    """Return a tool call's arguments as an object, and whether they are valid."""
    arguments = parse_arguments(text or "{}")
    return (arguments, True) if isinstance(arguments, dict) else ({}, False)


def chat_tools(tools: list[object], dropped: Counter[str]) -> list[dict[str, object]]:
    """Return tool definitions in the format of chat completions; hosted tools are omitted and counted."""
    return [definition for tool in tools if (definition := _tool(tool, dropped)) is not None]


def _tool(tool: object, dropped: Counter[str]) -> dict[str, object] | None:
    if not isinstance(tool, dict):
        dropped["tool definition of unknown form"] += 1
        return None
    for kind in _DEFINED:
        if isinstance(tool.get(kind), dict):
            return {"type": kind, kind: tool[kind]}
    # The Messages API has another name for the schema, and `custom` for `function`.
    if "input_schema" in tool:
        tool = {**tool, "type": "function", "parameters": tool["input_schema"]}
    kind = tool.get("type") or ("function" if "parameters" in tool else "unknown")
    if kind == "function":
        return {
            "type": "function",
            "function": {key: tool[key] for key in _DEFINITION_FIELDS if tool.get(key) is not None},
        }
    if kind == "custom":
        return {"type": "custom", "custom": {key: value for key, value in tool.items() if key != "type"}}
    dropped[f"hosted tool: {kind}"] += 1
    return None


def content_part(media: Media, dropped: Dropped) -> dict[str, object] | None:
    """Return a medium as part of a chat message; None, and count it, if that is not possible."""
    url = media.url or (media.data and f"data:{media.mime};base64,{media.data}")
    if media.modality == "image" and url:
        detail = {"detail": media.detail} if media.detail else {}
        return {"type": "image_url", "image_url": {"url": url, **detail}}
    if media.modality == "audio" and (data := _base64_of(url)) and media.mime in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO[media.mime]}}
    if media.modality == "document" and media.file_id:
        return {"type": "file", "file": {"file_id": media.file_id}}
    if media.modality == "document" and _base64_of(url):
        name = {"filename": media.filename} if media.filename else {}
        return {"type": "file", "file": {**name, "file_data": url}}
    problem = "kept by reference only" if media.sha256 and not url else "of a kind chat messages cannot hold"
    dropped[f"{media.modality} {problem}"] += 1
    return None


def _base64_of(url: str | None) -> str | None:
    head, comma, data = (url or "").partition(",")
    return data if comma and head.startswith("data:") and head.endswith(";base64") else None
