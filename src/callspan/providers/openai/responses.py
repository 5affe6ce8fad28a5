"""The Responses API: requests and responses of `/responses`, and their items as typed parts and messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from callspan.providers.base import Operation, ResponseInfo
from callspan.providers.finishing import answer_info
from callspan.providers.fold.entries import Entries, Entry
from callspan.providers.fold.events import EventFold, EventTarget
from callspan.providers.hosted_tools import is_of_application
from callspan.providers.media_parts import media
from callspan.providers.openai.base import OpenAIEndpoint, response_error, unix_time
from callspan.providers.openai.parts import parts_of
from callspan.providers.openai.usage import usage_of
from callspan.providers.wire_json import (
    Json,
    count,
    detached,
    dig,
    flag,
    integer,
    items,
    mapping,
    objects,
    of_type,
    text,
    word,
)
from callspan.record.call import Outcome, Request, Response
from callspan.record.codec import json_text
from callspan.record.finish_reasons import APPROVAL, TOOL_CALLS
from callspan.record.media_reference import stated_mime
from callspan.record.messages import (
    Conversation,
    Message,
    Part,
    Reasoning,
    ToolCall,
    ToolResult,
    UnknownPart,
    role_of_item,
)

_COMPLETED: Final = "completed"
_COMPACTION: Final = "compaction"
_CACHE_HIT: Final = "cache_hit"
_UNDER_WAY: Final = ("in_progress", "queued")
_OUTCOMES: Final[dict[str, Outcome]] = {**dict.fromkeys(_UNDER_WAY, "in_progress"), "cancelled": "cancelled"}
_Fields: TypeAlias = dict[str, object]
_ARGUMENTS: Final = ("arguments", "input", "action", "actions", "operation", "code", "queries")
"""Fields with the arguments in items of tool calls; the first present one is used."""
_OUTPUTS: Final = ("output", "tools", "result")
"""Fields with the result in items of tool outputs."""
_UNENDED: Final = ("incomplete", "in_progress", "queued", "calling", "searching", "interpreting", "generating")
"""The states of items of tool calls that have not ended."""
_CALL: Final = "_call"
_MCP: Final = "mcp"
_ENDS_OF_MCP: Final = ("output", "error")
_REQUEST_OF_APPROVAL: Final = "mcp_approval_request"
_LISTED: Final = "mcp_list_tools"
_RESULT: Final = "_output"
_NOT_EXTRA: Final = frozenset({"type", "id", "call_id", "name", "incomplete"})

_NAMED: Final = ("function", "custom_tool")
_TYPES: Final = {"custom_tool": "custom"}
"""Types of tools with other names in other APIs."""

_ITEM: Final = (("output", "output_index"),)
CONTENT: Final = (*_ITEM, ("content", "content_index"))
_SUMMARY: Final = (*_ITEM, ("summary", "summary_index"))
_TEXTS: Final = {
    "output_text": (CONTENT, "text", ("message", "output_text")),
    "audio.transcript": (CONTENT, "text", ("message", "output_text")),
    "refusal": (CONTENT, "refusal", ("message", "refusal")),
    "reasoning_text": (CONTENT, "text", ("reasoning", "reasoning_text")),
    "reasoning_summary_text": (_SUMMARY, "text", ("reasoning", "summary_text")),
    "function_call_arguments": (_ITEM, "arguments", ("function_call",)),
    "mcp_call_arguments": (_ITEM, "arguments", ("mcp_call",)),
    "custom_tool_call_input": (_ITEM, "input", ("custom_tool_call",)),
    "code_interpreter_call_code": (_ITEM, "code", ("code_interpreter_call",)),
}
_COMMANDS: Final = "shell_call_command"
"""The streamed commands of a shell call, until they are in its `action`."""
_ENDS: Final = frozenset(f"response.{end}" for end in ("completed", "incomplete", "failed", "cancelled", "done"))
"""Types of the last event; `done`, of OpenRouter, is of any status."""
_END_OF_ITEM: Final = re.compile(r"response\.(\w+)\.(completed|failed)")
"""Events that only by their type say how a tool of the provider ended: the type of its item, and its state."""


class ResponsesFold(EventFold):
    """Folds the events of a response, and merges its items with the terminal event's; the more complete one wins."""

    entries = "output"
    starts = frozenset({"response.created"})
    ends = _ENDS
    usage_rule = "last of each"
    carrying: ClassVar = frozenset({"grow"})
    defaults: ClassVar = {"object": "response", "output": []}
    targets: ClassVar = {
        **{
            f"response.{status}": EventTarget((), "response", "", "begin")
            for status in ("created", "queued", "in_progress")
        },
        **{end: EventTarget((), "response", "", "done") for end in _ENDS},
        None: EventTarget((), "", "", "done"),
        "response.output_item.added": EventTarget(_ITEM, "item", "", "begin"),
        "response.output_item.done": EventTarget(_ITEM, "item", "", "done"),
        **{
            f"response.{part}.{step}": EventTarget(lists, "part", "", "whole")
            for part, lists in (("content_part", CONTENT), ("reasoning_summary_part", _SUMMARY))
            for step in ("added", "done")
        },
        **{
            f"response.{text}.delta": EventTarget(at, "delta", name, "grow", kinds)
            for text, (at, name, kinds) in _TEXTS.items()
        },
        **{
            f"response.{text}.done": EventTarget(at, name, name, "whole", kinds)
            for text, (at, name, kinds) in _TEXTS.items()
        },
        "response.output_text.annotation.added": EventTarget(
            CONTENT, "annotation", "annotation", "grow", ("message", "output_text")
        ),
        "response.shell_call_command.delta": EventTarget(
            (*_ITEM, (_COMMANDS, "command_index")), "delta", "text", "grow", ("shell_call", "")
        ),
        "response.shell_call_output_content.delta": EventTarget(
            (*_ITEM, ("output", "command_index")), "delta", "", "grow"
        ),
        "response.image_generation_call.partial_image": EventTarget(
            _ITEM, "partial_image_b64", "result", "last", ("image_generation_call",)
        ),
    }

    def _take(self, event: Json, update: Json, kind: object) -> bool:
        if isinstance(kind, str) and kind not in self.targets and (end := _END_OF_ITEM.fullmatch(kind)) is not None:
            self._end_item(event, *end.groups())
        return super()._take(event, update, kind)

    def _end_item(self, event: Json, kind: str, status: str) -> None:
        """Take the state of an item, if it is known and no event has stated all of it."""
        listed, identity = self._body.get(self.entries), word(event, "item_id")
        if isinstance(listed, Entries):
            entry = listed.ended(integer(event, "output_index"), identity, kind)
            if entry is not None and not entry.is_done:
                entry.fields["status"], entry.settled = status, True

    def _finished(self, entry: Entry, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        commands = [text(command, "text") or "" for command in items(fields, _COMMANDS)]
        fields.pop(_COMMANDS, None)
        if entry.is_done:
            return fields
        if commands:
            fields["action"] = {**(mapping(fields, "action") or {}), "commands": commands}
        item = {"type": "message", **fields}
        if item["type"] == "message":
            item.setdefault("role", "assistant")
        if self._final.get("status") == "completed" and item.get("status") == "in_progress" and not _is_hosted(item):
            item["status"] = "completed"
        return super()._finished(entry, item)

    def _is_cut(self, entry: Entry, fields: Json) -> bool:
        may_run = self._final.get("status") != "completed" or _is_hosted(fields)
        return not entry.settled and may_run and str(fields["type"]).endswith(_CALL)


def _is_hosted(item: Json) -> bool:
    """Return whether the provider runs the tool of an item, which may then outlast the response."""
    tool, separator, _ = str(item["type"]).rpartition(_CALL)
    return bool(separator) and not is_of_application(tool, item)


class Responses(OpenAIEndpoint):
    """The Responses endpoint. Stateless."""

    operation: Operation = "chat"
    accumulator = ResponsesFold

    def request(self, body: object) -> Request:
        """Return model, stream, parameters and counts of a request, without its body. Total."""
        request = super().request(body)
        if not isinstance(body, dict):
            return request
        if of_type(body.get("input"), _COMPACTION) is not None:
            request = msgspec.structs.replace(request, compacted=True)
        if "previous_response_id" in body or "conversation" in body:
            request = msgspec.structs.replace(
                request, continues=word(body, "previous_response_id"), conversation_id=_conversation_id(body)
            )
        return request

    def response_info(self, body: object) -> ResponseInfo:
        """Return the info of a complete or folded response. Total.

        The finish reason is the reason of an incomplete response, `waiting for approval` or `tool_calls` for a
        completed one that requests an approval or the application's tools, else its final status.
        """
        fields = body if isinstance(body, dict) else {}
        status, output = word(fields, "status"), fields.get("output")
        is_response = isinstance(output, list) or status is not None
        reason = _reason(fields) if is_response else None
        background = fields.get("background") is True
        diagnostics = mapping(fields, "prompt_cache_diagnostics")
        response = Response(
            id=word(fields, "id"),
            model=word(fields, "model"),
            created=unix_time(fields, "created_at", "created"),
            finish_reasons=[reason] if is_response else [],
            service_tier=word(fields, "service_tier"),
            system_fingerprint=word(fields, "system_fingerprint"),
            status=status,
            completed=unix_time(fields, "completed_at") if background else None,
            tools_unlisted=_has_failed_list(output),
            compacted=of_type(output, _COMPACTION) is not None,
            prompt_cache_miss=_prompt_cache_miss(diagnostics),
            prompt_cache_missed_tokens=count(diagnostics, "cache_missed_tokens"),
            prompt_cache_reusable_tokens=count(diagnostics, "comparison_reusable_tokens"),
        )
        error = response_error(body)
        info = answer_info(
            response, (reason,), usage_of(body), error, recognized=is_response, refused=_has_refusal(output)
        )
        if status == "cancelled":  # no failure
            info = msgspec.structs.replace(info, error=error)
        if not background:
            return info
        return msgspec.structs.replace(
            info,
            background=True,
            continues=word(fields, "previous_response_id"),
            conversation_id=_conversation_id(fields),
            outcome=_OUTCOMES.get(status or ""),
        )

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies; either may be None or any JSON."""
        output = [] if response is None else _output(response)
        if not isinstance(request, dict):
            return Conversation(output=output)
        instructions = request.get("instructions")  # items if a stored prompt is used
        return Conversation(
            system=item_parts(instructions) if isinstance(instructions, list) else parts_of(instructions),
            input=_input(request.get("input")),
            output=output,
            tools=list(map(detached, objects(request, "tools"))) if "tools" in request else [],
        )


class ResponseFetch(Responses):
    """A request for an existing response; its operation is not inference."""

    operation: Operation = "fetch_response"


def _conversation_id(body: object) -> str | None:
    """Return the conversation id in a request or response, given as text or in an object."""
    return word(body, "conversation") or word(dig(body, "conversation"), "id")


def _prompt_cache_miss(diagnostics: object) -> str | None:
    """Return the reason of a miss, or why there is no diagnosis; None for a hit."""
    kind = word(diagnostics, "type")
    return None if kind == _CACHE_HIT else word(diagnostics, "reason") or kind


def _reason(body: object) -> str | None:
    status, reason = word(body, "status"), word(dig(body, "incomplete_details"), "reason")
    if reason or status != _COMPLETED:
        return reason or (None if status in _UNDER_WAY else status)
    output = items(body, "output")
    if of_type(output, _REQUEST_OF_APPROVAL) is not None:
        return APPROVAL
    return TOOL_CALLS if requests_tools(output) else status


def _has_refusal(output: object) -> bool:
    """Return whether a part of an output item is a refusal."""
    for item in output if isinstance(output, list) else ():
        content = item.get("content") if isinstance(item, dict) else None
        if of_type(content, "refusal") is not None:
            return True
    return False


def _has_failed_list(output: object) -> bool:
    """Return whether the tools of an MCP server could not be listed."""
    return any(map(_is_failed_list, output if isinstance(output, list) else ()))


def _is_failed_list(item: object) -> bool:
    is_list = text(item, "type") == _LISTED
    return is_list and (dig(item, "error") is not None or text(item, "status") == "failed")


def _input(value: object) -> list[Message]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [Message(role="user", parts=parts_of(value))]
    return item_messages(items(value) if isinstance(value, list) else [value])


def _output(response: object) -> list[Message]:
    """Return one message: the Responses API has one choice. A compaction repeats the user's messages before it."""
    echoed: list[object] = []
    output: list[object] = []
    for item in items(response, "output"):
        is_echo = isinstance(item, dict) and item.get("role") == "user"
        (echoed if is_echo else output).append(item)
    if not echoed and not output:
        return []
    message = Message(role="assistant", parts=item_parts(output), finish_reason=_reason(response))
    return [*item_messages(echoed), message] if echoed else [message]


def item_messages(items: Iterable[object]) -> list[Message]:
    """Return items as messages: consecutive items of the assistant form one, each tool output is another."""
    messages: list[Message] = []
    for item in items:
        role, parts, name = _item(item)
        last = messages[-1] if messages else None
        if last is not None and last.role == role == "assistant":
            messages[-1] = Message(role=role, parts=[*last.parts, *parts])
        else:
            messages.append(Message(role=role, parts=parts, name=name))
    return messages


def item_parts(items: Iterable[object]) -> list[Part]:
    """Return the parts of output items, in their order."""
    return [part for item in items for part in _item(item)[1]]


def requests_tools(output: Iterable[object]) -> bool:
    """Return whether output items request a tool of the application: a call without its output."""
    requested_ids, answered_ids = set(), set()
    for item in output:
        kind = text(item, "type") or ""
        if kind.endswith(_CALL) and is_of_application(kind.removesuffix(_CALL), item):
            requested_ids.add(text(item, "call_id"))
        elif kind.endswith(_RESULT):
            answered_ids.add(text(item, "call_id"))
    return bool(requested_ids - answered_ids)


def _item(item: object) -> tuple[str, list[Part], str | None]:
    """Return role, parts and name of one item of any kind."""
    if isinstance(item, str):
        return "user", parts_of(item), None
    if not isinstance(item, dict):
        return "unknown", [UnknownPart(data=detached(item))], None
    fields: _Fields = item
    kind = text(fields, "type") or ("message" if "role" in fields or "content" in fields else "")
    if kind == "message":
        return text(fields, "role") or "user", parts_of(fields.get("content")), text(fields, "name") or None
    if kind in _READERS:
        return "assistant", _READERS[kind](fields), None
    if kind.endswith(_RESULT):
        return "tool", [_result(fields, kind)], None
    if kind.endswith(_CALL):
        return "assistant", [_call(fields, kind.removesuffix(_CALL))], None
    return text(fields, "role") or role_of_item(kind), [UnknownPart(data=detached(fields))], None


def _reasoning(item: _Fields) -> list[Part]:
    """Return summary and content as separate parts, with the sealed payload in the first."""
    passages = [_joined(item, "summary"), _joined(item, "content")]
    texts: list[str | None] = [passage for passage in passages if passage] or [None]
    sealed, signature = text(item, "encrypted_content") or None, text(item, "signature") or None
    first = Reasoning(text=texts[0], sealed=sealed, signature=signature)
    return [first, *(Reasoning(text=passage) for passage in texts[1:])]


def _joined(item: _Fields, key: str) -> str:
    return "\n\n".join(passage for part in objects(item, key) if (passage := text(part, "text")))


def _call(item: _Fields, tool_type: str) -> ToolCall:
    at = next((key for key in _ARGUMENTS if item.get(key) is not None), None)
    extra = {
        key: detached(value)
        for key, value in item.items()
        if key not in _NOT_EXTRA and key != at and value is not None and (key, value) != ("status", "completed")
    }
    return ToolCall(
        id=text(item, "call_id") or text(item, "id") or None,
        name=text(item, "name") or (None if tool_type in _NAMED else tool_type),
        arguments=json_text(None if at is None else item[at]),
        tool_type=_TYPES.get(tool_type, tool_type),
        is_of_application=is_of_application(tool_type, item),
        incomplete=flag(item, "incomplete") is True or _is_running(item, tool_type),
        extra=extra or None,
    )


def _is_running(item: _Fields, tool_type: str) -> bool:
    """Return whether a call has not ended; the state of a call of an MCP server may be stated only by its result."""
    status = text(item, "status")
    if status is None and tool_type == _MCP:
        return all(item.get(name) is None for name in _ENDS_OF_MCP)
    return status in _UNENDED


def _image_call(item: _Fields) -> list[Part]:
    """Return the image separately from its tool call."""
    picture = media("image", item.get("result"), part=item, mime=stated_mime(item))
    call = _call({key: value for key, value in item.items() if key != "result"}, "image_generation")
    return [call] if picture is None else [call, picture]


def _result(item: _Fields, kind: str) -> ToolResult:
    tool_type = kind.removesuffix(_RESULT).removesuffix(_CALL)
    content = next((item[name] for name in _OUTPUTS if name in item), None)
    return ToolResult(
        id=text(item, "call_id") or text(item, "id") or None,
        content=detached(content),
        is_error=True if text(item, "status") == "failed" else None,
        tool_type=_TYPES.get(tool_type, tool_type),
        is_of_application=is_of_application(tool_type, item),
    )


_READERS: Final[dict[str, Callable[[_Fields], list[Part]]]] = {
    "reasoning": _reasoning,
    "image_generation_call": _image_call,
    "program": lambda item: [_call(item, "program")],
}
