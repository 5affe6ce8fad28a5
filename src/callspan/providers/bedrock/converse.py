"""Converse: requests, answers and event streams of Bedrock's Converse API, and of Nova's models, which speak it too.

An event is `{"<type>": payload}`, as botocore yields it. `metadata` with the usage comes last, after `messageStop`. The
model is in the path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

from callspan.providers.base import Operation, ResponseInfo, parameters
from callspan.providers.bedrock.parts import conversation, tools
from callspan.providers.bedrock.usage import usage, usage_of_openai
from callspan.providers.error_kinds import error_info
from callspan.providers.finishing import answer_info
from callspan.providers.fold.blocks import Blocks
from callspan.providers.fold.merge import finished_copy, grow, is_json
from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.media_parts import one_base64
from callspan.providers.tool_runs import Runs, hosted_kinds, requested_kinds, with_runs
from callspan.providers.wire_json import Json, detached, mapping, objects, text, word
from callspan.record.call import ErrorInfo, Request, Response
from callspan.record.messages import Conversation, tool_name
from callspan.record.usage import Usage

_CONTENT: Final = frozenset(
    {"messages", "system", "toolConfig", "inferenceConfig", "modelId", "promptVariables", "serviceTier"}
)
_NAMES: Final = {
    "maxTokens": "max_tokens", "max_new_tokens": "max_tokens", "topP": "top_p", "topK": "top_k",
    "stopSequences": "stop_sequences", "guardrailConfig": "guardrail_config",
    "performanceConfig": "performance_config", "requestMetadata": "request_metadata", "outputConfig": "output_config",
    "additionalModelRequestFields": "additional_model_request_fields",
    "additionalModelResponseFieldPaths": "additional_model_response_field_paths",
}  # fmt: skip
_ANSWER: Final = frozenset({"output", "stopReason", "usage"})
_OPENAI: Final = re.compile(r"(^|[./])openai\.")
"""In the ids of OpenAI's models, which may begin with a region or an ARN."""
_PADDING: Final = "p"
"""The field of each event with letters without meaning."""
_EXCEPTION: Final = "Exception"
_TOOL: Final = "toolUse"
_ID: Final = "toolUseId"
_HOSTED: Final = "server_tool_use"
"""The `type` of a call that the provider runs."""
_NAMED: Final = frozenset({_ID, "format", "name", "type"})
"""What a tool or a file is, which a piece may repeat."""
_SOURCE: Final = "source"
"""The object with the bytes of a file."""
_BASE64: Final = ("bytes", "redactedContent")
"""Members whose pieces are each padded by themselves."""
_KINDS: Final = {"reasoningContent": "reasoning", "citation": "text"}
"""The kinds of blocks by the members of their pieces, where they differ."""


class ConverseFold:
    """Joins the events of a stream. Only tools have a start; the last event before the counters closes all blocks."""

    usage_rule: ClassVar[UsageRule] = "last whole"

    def __init__(self) -> None:
        self._body: Json = {}
        self._role: str | None = None
        self._blocks = Blocks()
        self.terminated = False
        """Whether the last event was received."""

    @property
    def ended(self) -> bool:
        """True once the counters were received, which come last."""
        return self.terminated

    @property
    def complete(self) -> bool:
        """True once the model has stopped."""
        return "stopReason" in self._body

    def add(self, event: object) -> bool:
        """Fold in one event; return True if it carried content."""
        has_content = False
        for kind, payload in event.items() if isinstance(event, dict) else ():
            if isinstance(payload, dict) and isinstance(kind, str):
                handler = self._handlers.get(kind)
                if handler is not None:
                    has_content = handler(self, payload) or has_content
                elif kind.endswith(_EXCEPTION):
                    self._body["error"] = {"type": kind, "message": text(payload, "message")}
        return has_content

    def _started(self, payload: Json) -> bool:
        self._role = word(payload, "role")
        return False

    def _begun(self, payload: Json) -> bool:
        start = mapping(payload, "start") or {}
        kind, member = next(iter(start.items()), (None, None))
        block = self._blocks.begin(_index(payload), _identity(member), kind).fields
        for key, value in start.items():
            block[key] = {**detached(value), **(mapping(block, key) or {})} if isinstance(value, dict) else value
        return _TOOL in start

    def _grown(self, payload: Json) -> bool:
        has_content, index = False, _index(payload)
        for key, value in (mapping(payload, "delta") or {}).items():
            block = self._blocks.grow(index, _identity(value), _KINDS.get(key, key)).fields
            has_content = _grow(block, key, value) or has_content
        return has_content

    def _stopped(self, payload: Json) -> bool:
        self._blocks.stop(_index(payload))
        return False

    def _noted(self, payload: Json) -> bool:
        self._body.update({key: detached(item) for key, item in payload.items() if key != _PADDING})
        return False

    def _ended(self, payload: Json) -> bool:
        self.terminated = True
        return self._noted(payload)

    def body(self) -> Json | None:
        """Return the body so far; None if nothing was received."""
        if not (self._body or self._blocks or self._role):
            return None
        content = [
            _finished(block.fields, is_open=block.is_open and not self.complete) for block in self._blocks.in_order()
        ]
        if not content and not self._role:
            return detached(self._body)
        message = {"role": self._role or "assistant", "content": content}
        return {"output": {"message": message}, **detached(self._body)}

    _handlers: ClassVar[dict[str, Callable[[ConverseFold, Json], bool]]] = {
        "messageStart": _started,
        "contentBlockStart": _begun,
        "contentBlockDelta": _grown,
        "contentBlockStop": _stopped,
        "messageStop": _noted,
        "metadata": _ended,
    }


def _index(payload: Json) -> int | None:
    index = payload.get("contentBlockIndex")
    return index if type(index) is int else None


def _identity(member: object) -> str | None:
    """Return the id of a tool, which its start states, and perhaps its pieces."""
    return word(member, _ID) if isinstance(member, dict) else None  # most pieces are texts


def _grow(block: Json, key: str, value: object) -> bool:
    """Add a member of a delta to its block; return True if it carried content."""
    if key == "reasoningContent":
        return _grow_reasoning(_member(block, key), value)
    if key == "citation":
        block.setdefault("citations", []).append(detached(value))
    elif isinstance(value, str):
        return grow(block, key, value)
    elif isinstance(value, list):
        _member(block, key).setdefault("content", []).extend(detached(value))
    elif isinstance(value, dict):
        holder = _member(block, key)
        pieces = [
            _put(holder, name, item) for name, item in value.items() if name not in _NAMED or not holder.get(name)
        ]
        return any(pieces)
    return False


def _grow_reasoning(thought: Json, delta: object) -> bool:
    """Add a piece of a thought; its text and signature are one level deeper in a complete body."""
    has_content = False
    for key, value in delta.items() if isinstance(delta, dict) else ():
        holder = _member(thought, "reasoningText") if key in ("text", "signature") else thought
        has_content = _put(holder, key, value) or has_content
    return has_content


def _put(holder: Json, key: str, value: object) -> bool:
    if isinstance(value, str):
        return grow(holder, key, value)
    if key == _SOURCE and isinstance(value, dict):
        pieces = [_put(_member(holder, key), name, item) for name, item in value.items()]
        return any(pieces)
    holder[key] = detached(value)
    return False


def _member(holder: Json, key: str) -> Json:
    member = holder.get(key)
    if not isinstance(member, dict):
        member = holder[key] = {}
    return member


def _finished(block: Json, *, is_open: bool) -> Json:
    """Return a block as in a complete body."""
    finished: Json = finished_copy({key: value for key, value in block.items() if key != "type"})
    _join_bytes(finished)
    use = finished.get(_TOOL)
    if isinstance(use, dict):
        _finish_input(use, is_open=is_open)
    if "citations" in finished:
        content = [{"text": finished.pop("text", "")}]
        return {"citationsContent": {"content": content, "citations": finished.pop("citations")}, **finished}
    return finished


def _join_bytes(fields: Json) -> None:
    """Join the pieces of files and of sealed thoughts, in place."""
    for key, value in fields.items():
        if isinstance(value, dict):
            _join_bytes(value)
        elif key in _BASE64 and isinstance(value, str):
            fields[key] = one_base64(value)


def _finish_input(use: Json, *, is_open: bool) -> None:
    """Parse the input of a tool, and mark one that is not whole."""
    written = use.get("input") or "{}"
    is_whole = isinstance(written, str) and is_json(written)
    use["input"] = json.loads(written) if is_whole else written
    if is_open or not is_whole:
        use["incomplete"] = True


class Converse:
    """`converse` and `converse_stream`. Stateless."""

    operation: Operation = "chat"
    accumulator = ConverseFold

    def __init__(self, api: str) -> None:
        self.api = api

    def of_model(self, model: str) -> Converse:
        """Return the adapter of calls of a model."""
        return ConverseOfOpenAI(self.api) if _OPENAI.search(model) is not None else self

    def request(self, body: object) -> Request:
        """Return parameters and counts of a request."""
        if not isinstance(body, dict):
            return Request()
        messages, tool_config = body.get("messages"), mapping(body, "toolConfig")
        defined = list(tools(body))
        return Request(
            params={**_parameters(body), **_parameters(mapping(body, "inferenceConfig") or {}), **_choices(body)},
            message_count=len(messages) if isinstance(messages, list) else None,
            tool_names=None if tool_config is None else [name for tool in defined if (name := tool_name(tool))],
            hosted_tools=requested_kinds(defined),
        )

    def response_info(self, body: object) -> ResponseInfo:
        """Return stop reason, usage and error of a complete or folded body; accepts any JSON."""
        reason, is_answer = word(body, "stopReason"), isinstance(body, dict) and not _ANSWER.isdisjoint(body)
        response = Response(
            model=text(body, "trace", "promptRouter", "invokedModelId") or None,
            finish_reasons=[reason] if is_answer else [],
            service_tier=text(body, "serviceTier", "type") or None,
        )
        usage = _with_runs(self._usage(mapping(body, "usage")), body)
        return answer_info(response, (reason,), usage, _error(body), recognized=is_answer)

    def _usage(self, counters: Json | None) -> Usage | None:
        return usage(counters)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, typed. Either may be None."""
        return conversation(request, response)


class ConverseOfOpenAI(Converse):
    """Converse with a model of OpenAI. Its input was seen to include what was cached. Stateless."""

    def _usage(self, counters: Json | None) -> Usage | None:
        return usage_of_openai(counters)


def _with_runs(tokens: Usage | None, body: object) -> Usage | None:
    """Return the usage with the runs of hosted tools, each of which is a block of the answer."""
    runs: Runs = {}
    for block in objects(body, "output", "message", "content"):
        if text(block, _TOOL, "type") == _HOSTED:
            for tool in hosted_kinds([text(block, _TOOL, "name")]) or ():
                runs[tool] = (runs.get(tool) or 0) + 1
    return with_runs(tokens, runs)


def _parameters(fields: Json) -> dict[str, object]:
    named = parameters(cast("dict[object, object]", fields), _CONTENT)
    return {_NAMES.get(key, key): value for key, value in named.items()}


def _choices(body: Json) -> dict[str, object]:
    """Return the tier and the choice of tools as words, as other APIs have them."""
    tier, choice = text(body, "serviceTier", "type"), mapping(body, "toolConfig", "toolChoice")
    chosen: Any = next(iter(choice), None) if choice else None
    if chosen == "tool":
        chosen = {"type": "tool", "name": text(choice, "tool", "name")}
    return {name: value for name, value in (("service_tier", tier), ("tool_choice", chosen)) if value}


def _error(body: object) -> ErrorInfo | None:
    """Return the error of an event, or of a body that has only a message."""
    if not isinstance(body, dict):
        return None
    error = mapping(body, "error")
    if error is None and _ANSWER.isdisjoint(body) and (message := text(body, "message") or text(body, "Message")):
        error = {"message": message, "type": text(body, "__type")}
    return None if error is None else error_info(body={"error": error})
