"""Interactions: requests, answers and streams of `interactions`. An answer is a list of steps.

`total_output_tokens` excludes thoughts, and `total_input_tokens` the tokens of hosted tools; the total is the sum of
all four counters. Until google-genai 2 the answer was `outputs`, a list of contents, with the events `content.*` and
`interaction.complete`.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, ClassVar, Final

from callspan.providers.base import Operation, ResponseInfo, parameters
from callspan.providers.error_kinds import error_in, error_info
from callspan.providers.finishing import finish_words, tool_finish
from callspan.providers.fold.blocks import Blocks
from callspan.providers.fold.entries import Entry
from callspan.providers.fold.merge import GrowingText, finished_copy
from callspan.providers.fold.usage_merge import UsageRule, merge_usage
from callspan.providers.google.usage import estimated
from callspan.providers.hosted_tools import is_of_application
from callspan.providers.media_parts import media
from callspan.providers.streamed_audio import BYTES, Audio
from callspan.providers.tool_runs import Runs, hosted_kinds, requested_kinds, with_runs
from callspan.providers.wire_json import (
    Json,
    count,
    detached,
    detached_object,
    flag,
    items,
    mapping,
    objects,
    text,
    word,
)
from callspan.record.call import FinishWord, Outcome, Request, Response
from callspan.record.codec import json_text
from callspan.record.finish_reasons import CONTENT_FILTER
from callspan.record.messages import (
    Conversation,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
    tool_name,
)
from callspan.record.usage import Usage, checked_usage

_CONTENT: Final = frozenset({"model", "stream", "input", "system_instruction", "tools", "generation_config"})
_ENDS: Final = frozenset({"completed", "failed", "cancelled", "incomplete", "requires_action", "requires_continuation"})
"""The states of a finished stream."""
_LAST: Final = frozenset({"interaction.completed", "interaction.complete"})
"""The types of the event after which nothing follows."""
_UNDER_WAY: Final = "in_progress"
_OUTCOMES: Final[dict[str, Outcome]] = {
    _UNDER_WAY: "in_progress", "failed": "error", "cancelled": "cancelled",
}  # fmt: skip
_STEPS, _OUTPUTS = "steps", "outputs"
_ANSWER: Final = frozenset({_STEPS, _OUTPUTS, "usage", "status"})
_INCOMPLETE: Final = "incomplete"
_MODALITIES: Final = ("text", "image", "audio")
_TEXT_DELTAS: Final = {"text": "text", "arguments_delta": "arguments"}
"""The field of a step's text by the type of its deltas."""
_PARTIAL_ARGUMENTS: Final = "partial_arguments"
"""The name of that field in the deltas of google-genai 2.0."""
_TYPE: Final = "event_type"
_CONTENT_EVENTS: Final = "content."
_STOP: Final = ".stop"
_CALL, _TOOL = "_call", "_tool"
"""How the types of steps end that call a tool: `google_search_call`, `mcp_server_tool_call`."""
_BEGUN_BY: Final = {
    "thought_summary": "thought", "thought_signature": "thought", "arguments_delta": "function_call",
}  # fmt: skip
"""The types of steps by the types of their deltas, where they differ."""
_SUMMARY, _ANNOTATIONS = "thought_summary", "text_annotation_delta"
_THOUGHTS: Final = ("total_thought_tokens", "total_reasoning_tokens")
"""The counter of thoughts, and its name until google-genai 1.56."""
_MEDIA: Final = ("image", "audio", "video", "document")


class InteractionFold:
    """Joins the events of an interaction."""

    usage_rule: ClassVar[UsageRule] = "last whole"

    def __init__(self) -> None:
        self._body: Json = {}
        self.ended = False
        """True once the event was received after which nothing follows."""
        self._steps = Blocks()
        self._has_outputs = False
        """Whether they are contents instead, as in the older form."""
        self._has_failed = False
        self._audio: dict[Entry, tuple[str | None, Audio]] = {}
        """Type and size of a step's sound if its bytes are not kept, as on a websocket."""

    @property
    def complete(self) -> bool:
        """True once the interaction has ended, waits for its application, or an error has ended it."""
        return self._has_failed or self._is_whole

    @property
    def _is_whole(self) -> bool:
        return word(self._body, "status") in _ENDS

    def add(self, event: object) -> bool:
        """Fold in one event; return True if it carried content."""
        if not isinstance(event, dict):
            return False
        interaction = event.get("interaction")
        for counted in (_running_usage(event), mapping(interaction, "usage")):
            if counted is not None:
                self._body["usage"] = merge_usage(self._body.get("usage") or {}, counted, self.usage_rule)
        if isinstance(interaction, dict):
            self.ended = word(event, "event_type") in _LAST
            fields = {key: value for key, value in interaction.items() if value is not None and key != "usage"}
            self._body.update(detached_object(fields))
        elif word(event, "status") is not None:
            self._body["status"] = event["status"]
        if (error := event.get("error")) is not None:
            self._body["error"] = detached(error)
            self._has_failed = event.get(_TYPE) == "error"
        return self._add_to_step(event)

    def _add_to_step(self, event: Json) -> bool:
        stated_index, delta, kind = event.get("index"), event.get("delta"), word(event, _TYPE) or ""
        index = stated_index if type(stated_index) is int else None
        if isinstance(start := event.get("step") or event.get("content"), dict):
            self._has_outputs = "step" not in event
            step = self._steps.begin(index, word(start, "id"), word(start, "type")).fields
            step.update(detached_object({key: value for key, value in start.items() if key not in step}))
        elif kind.endswith(_STOP):
            self._steps.stop(index)
        if not isinstance(delta, dict):
            return False
        self._has_outputs = self._has_outputs or kind.startswith(_CONTENT_EVENTS)
        entry = self._steps.grow(index, word(delta, "id"), _step_of(kind, word(delta, "type") or ""))
        if BYTES in delta:
            self._audio.setdefault(entry, (word(delta, "mime_type"), Audio()))[1].add(delta)
            return True
        return _grow(entry.fields, delta)

    def body(self) -> Json | None:
        """Return the interaction so far; None if nothing was received."""
        if not self._body and not self._steps:
            return None
        body: Json = {**self._body}
        name = _OUTPUTS if self._has_outputs else _STEPS
        if self._steps and not body.get(name):
            body[name] = list(map(self._step, self._steps.in_order()))
        return body if self._is_whole else {**body, _INCOMPLETE: True}

    def _step(self, entry: Entry) -> Json:
        """Return a copy of a step, with a reference to its sound."""
        step: Json = finished_copy(entry.fields)
        if entry in self._audio:
            mime, audio = self._audio[entry]
            sound = {"type": "audio", "mime_type": mime, "data": audio.reference({"type": mime})}
            step["content"] = [*items(step, "content"), sound]
        return step


def _step_of(event: str, delta: str) -> str:
    """Return the type of the step that a delta of this type belongs to."""
    is_itself = event.startswith(_CONTENT_EVENTS) or delta.endswith(("_call", "_result"))
    return _BEGUN_BY.get(delta, delta if is_itself else "model_output")


def _running_usage(event: Json) -> Json | None:
    """Return the usage so far, which any event may state beside its data."""
    metadata = mapping(event, "metadata")
    return mapping(metadata, "total_usage") or mapping(metadata, "usage")


def _grow(step: Json, delta: Json) -> bool:
    """Add a delta to its step: a piece of a text, a signature, or a whole part."""
    kind = delta.get("type")
    name = _TEXT_DELTAS.get(kind) if isinstance(kind, str) else None
    piece = None if name is None else delta.get(name, delta.get(_PARTIAL_ARGUMENTS))
    if name is not None and isinstance(piece, str):
        _text_of(_open_text(step) if name == "text" else step, name).add(piece)
        return piece != ""
    if kind == _SUMMARY:
        step.setdefault("summary", []).append(detached(delta.get("content")))
    elif kind == _ANNOTATIONS:
        _open_text(step).setdefault("annotations", []).extend(map(detached, items(delta, "annotations")))
        return False
    elif (signature := delta.get("signature")) is not None and delta.keys() <= {"type", "signature"}:
        step["signature"] = detached(signature)
        return False
    elif kind == step.get("type"):
        _merge(step, delta)
    else:
        step.setdefault("content", []).append(detached_object(delta))
    return True


def _merge(step: Json, delta: Json) -> None:
    """Add the fields of a call, a result or a content to its beginning."""
    for key, value in delta.items():
        held = step.get(key)
        step[key] = [*held, *detached(value)] if isinstance(held, list) and isinstance(value, list) else detached(value)


def _text_of(holder: Json, name: str) -> GrowingText:
    """Return a text that grows, after what its beginning has stated."""
    held = holder.get(name)
    if type(held) is not GrowingText:
        begun, held = held, GrowingText()
        if isinstance(begun, str):
            held.add(begun)
        holder[name] = held
    return held


def _open_text(step: Json) -> Json:
    """Return the text of a step that grows: the step, if it is a text itself, or its last part."""
    if step.get("type") == "text":
        return step
    content = step.setdefault("content", [])
    if not content or not isinstance(content[-1], dict) or content[-1].get("type") != "text":
        content.append({"type": "text"})
    last: Json = content[-1]
    return last


class Interactions:
    """`POST /interactions`. Stateless."""

    operation: Operation = "generate_content"
    accumulator = InteractionFold

    def __init__(self, api: str) -> None:
        self.api = api

    def request(self, body: object) -> Request:
        """Return model or agent, parameters and counts of a request."""
        if not isinstance(body, dict):
            return Request()
        config, content = mapping(body, "generation_config") or {}, body.get("input")
        return Request(
            model=word(body, "model") or word(body, "agent"),
            stream=flag(body, "stream") is True,
            params={**parameters(body, _CONTENT), **parameters({**config}, ())},  # type: ignore[dict-item] # JSON
            message_count=len(content) if isinstance(content, list) else None,
            tool_names=[name for tool in objects(body, "tools") if (name := tool_name(tool))] or None,
            hosted_tools=requested_kinds(body.get("tools")),
            continues=word(body, "previous_interaction_id"),
        )

    def response_info(self, body: object) -> ResponseInfo:
        """Return identity, status, usage and error of an interaction; accepts any JSON."""
        stated, status = error_in(body) if isinstance(body, dict) else None, word(body, "status")
        error = error_info(body={"error": stated}) if stated else None
        tokens = _with_runs(usage(mapping(body, "usage")), body)
        background = self._is_background(body)
        return ResponseInfo(
            response=Response(
                id=word(body, "id"),
                model=word(body, "model") or word(body, "agent"),
                status=status,
                finish_reasons=[status] if status in _ENDS else [],
                finish=finish_words([_hidden_finish(body)]),
                service_tier=word(body, "service_tier"),
                truncated=status == "incomplete",
                refused=error is not None and error.kind == CONTENT_FILTER,
            ),
            background=background,
            continues=word(body, "previous_interaction_id") if background else None,
            outcome=_OUTCOMES.get(status or "") if background else None,
            usage=estimated(tokens) if tokens is not None and flag(body, _INCOMPLETE) else tokens,
            error=error,
            recognized=isinstance(body, dict) and (error is not None or not _ANSWER.isdisjoint(body)),
        )

    def _is_background(self, body: object) -> bool:
        """Return whether an answer, and no stream, ends while the interaction goes on."""
        return word(body, "status") == _UNDER_WAY and flag(body, _INCOMPLETE) is None

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, typed. Either may be None."""
        steps = (*objects(response, _STEPS), *objects(response, _OUTPUTS))
        output = [part for step in steps for part in _step(step)]
        ending = _hidden_finish(response) or word(response, "status")
        answer = [Message(role="assistant", parts=output, finish_reason=ending)] if output else []
        if not isinstance(request, dict):
            return Conversation(output=answer)
        instruction = text(request, "system_instruction")
        return Conversation(
            system=[Text(text=instruction)] if instruction else [],
            input=_input(request.get("input")),
            output=answer,
            tools=list(map(detached, items(request, "tools"))),
        )


class InteractionFetch(Interactions):
    """A request for an existing interaction; its operation is not inference."""

    operation: Operation = "fetch_response"

    def _is_background(self, body: object) -> bool:
        return word(body, "id") is not None and flag(body, _INCOMPLETE) is None


def _hidden_finish(body: object) -> FinishWord | None:
    """Return the word for an answer that is too long, or that waits for a function of the application's."""
    status, steps = word(body, "status"), [*objects(body, _STEPS), *objects(body, _OUTPUTS)]
    if status == "incomplete":
        return "length"
    return tool_finish(status, calls=bool(steps) and word(steps[-1], "type") == "function_call")


def _with_runs(tokens: Usage | None, body: object) -> Usage | None:
    """Return the usage with the runs of hosted tools: as it counts them itself, else one for each step or search."""
    runs: Runs = {}
    for step in (*objects(body, _STEPS), *objects(body, _OUTPUTS)):
        kind = word(step, "type") or ""
        hosted = hosted_kinds([kind.removesuffix(_CALL).removesuffix(_TOOL)]) if kind.endswith(_CALL) else None
        for tool in hosted or ():
            runs[tool] = (runs.get(tool) or 0) + (len(items(step, "arguments", "queries")) or 1)
    for counted in objects(body, "usage", "grounding_tool_count"):
        for tool in hosted_kinds([counted.get("type")]) or ():
            runs[tool] = count(counted, "count")
    return with_runs(tokens, runs)


def usage(counted: Json | None) -> Usage | None:
    """Return the `usage` of an interaction as inclusive counters; None without counters."""
    if not counted:
        return None
    sent, written = count(counted, "total_input_tokens"), count(counted, "total_output_tokens")
    thoughts = next((number for name in _THOUGHTS if (number := count(counted, name)) is not None), None)
    tokens = Usage(
        input_tokens=None if sent is None else sent + (count(counted, "total_tool_use_tokens") or 0),
        output_tokens=None if written is None and thoughts is None else (written or 0) + (thoughts or 0),
        total_tokens=count(counted, "total_tokens"),
        cache_read_tokens=count(counted, "total_cached_tokens"),
        reasoning_tokens=thoughts,
        raw=detached_object(counted),
        **_by_modality(counted, "input"),
        **_by_modality(counted, "output"),
    )
    return checked_usage(tokens)


def _by_modality(counted: Json, prefix: str) -> dict[str, Any]:
    details = {
        word(detail, "modality"): count(detail, "tokens") for detail in objects(counted, f"{prefix}_tokens_by_modality")
    }
    return {f"{prefix}_{name}_tokens": details[name] for name in _MODALITIES if details.get(name) is not None}


def _input(given: object) -> list[Message]:
    """Return the input: a text, parts of one message, or turns and steps."""
    if isinstance(given, str):
        return [Message(role="user", parts=[Text(text=given)])]
    entries = [entry for entry in (given if isinstance(given, list) else [given]) if isinstance(entry, dict)]
    if any("role" in entry or "steps" in entry for entry in entries):
        return [_turn(entry) for entry in entries]
    return [
        Message(role=role, parts=parts)
        for role, steps in groupby(entries, _role)
        if (parts := [part for step in steps for part in _step(step)])
    ]


def _role(step: Json) -> str:
    """Return the role of a step of the input: a history that the application keeps also has the model's steps."""
    kind = word(step, "type") or ""
    if kind == "function_result":
        return "tool"
    return "assistant" if kind in ("model_output", "thought") or kind.endswith(("_call", "_result")) else "user"


def _turn(turn: Json) -> Message:
    role, content = text(turn, "role") or "user", turn.get("content")
    if isinstance(content, str):
        return Message(role="assistant" if role == "model" else role, parts=[Text(text=content)])
    parts = [part for entry in objects(turn, "content") for part in _step(entry)]
    return Message(role="assistant" if role == "model" else role, parts=parts)


def _step(step: Json) -> list[Part]:
    """Return a step, or a part of one, as parts."""
    kind = word(step, "type") or ""
    if kind == "text":
        return [Text(text=written)] if (written := text(step, "text")) else []
    if kind == "thought":
        summary = step.get("summary")
        thought = (
            summary
            if isinstance(summary, str)
            else "".join(text(part, "text") or "" for part in objects(step, "summary"))
        )
        return [Reasoning(text=thought or None, signature=word(step, "signature"))]
    if kind in ("model_output", "user_input"):
        return [part for entry in objects(step, "content") for part in _step(entry)]
    if kind.endswith("_call"):
        hosted = kind.removesuffix("_call")
        name, arguments = word(step, "name") or hosted, json_text(step.get("arguments"))
        own = is_of_application(hosted, step)
        return [ToolCall(id=word(step, "id"), name=name, arguments=arguments, tool_type=hosted, is_of_application=own)]
    if kind.endswith("_result"):
        content = step.get("result") if "result" in step else step.get("content")
        return [
            ToolResult(
                id=word(step, "call_id"),
                content=detached(content),
                is_error=flag(step, "is_error"),
                tool_type=kind.removesuffix("_result"),
                is_of_application=is_of_application(kind.removesuffix("_result"), step),
            )
        ]
    if kind in _MEDIA:
        part = media(kind, step.get("data") or step.get("uri"), part=step, mime=word(step, "mime_type"))
        return [UnknownPart(data=detached(step)) if part is None else part]
    return [UnknownPart(data=detached(step))]
