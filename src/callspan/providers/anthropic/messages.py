"""The Messages endpoint, on every platform: requests and responses of `/v1/messages`, their usage and errors.

Which entries of `usage.iterations` the top-level counters of `usage` leave out is known from the SDK's types for two
kinds; the rest follows from the numbers:

- `compaction`: "tokens are not included in the top-level `usage` fields" (`BetaUsage.iterations`);
- `advisor_message`: another model's "sub-inference" (`BetaAdvisorMessageIterationUsage`): in recorded answers the top
  level is the sum of the `message` entries, without it;
- `message`: the turns of a loop of server tools, which the top level sums up, or models that declined;
- `fallback_message`: "the terminal entry of a fallback-served turn", in place of the last `message`
  (`BetaFallbackMessageIterationUsage`).

Of a chain of models the top level has either all, or the last ones: those of the model that gave the answer. Of that
model the SDK's middleware lists only the last iteration (`_serving_iteration_entry`).
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from callspan.conversion import converter
from callspan.fail_open import ours
from callspan.providers.anthropic.parts import conversation
from callspan.providers.anthropic.stream import MessageAccumulator
from callspan.providers.base import Api, Operation, ResponseInfo
from callspan.providers.error_kinds import error_info
from callspan.providers.wire_json import (
    UNFIT,
    Count,
    count,
    detached,
    detached_object,
    items,
    mapping,
    objects,
    of_type,
    text,
    word,
)
from callspan.record.call import ErrorInfo, Request, Response
from callspan.record.codec import encode_json
from callspan.record.messages import Conversation, tool_name
from callspan.record.usage import Usage, UsageIteration, usage_of_iteration, with_added

_NO_PARAMS: Final = frozenset({"model", "stream", "messages", "system", "tools", "mcp_servers"})
"""Fields that are content, kept elsewhere, or secret (authorization tokens of MCP servers)."""

_MANAGEMENT: Final = "context_management"
_MAX_PARAM_BYTES: Final = 4096
_SERVED: Final = "fallback_message"
_SAMPLED: Final = ("message", _SERVED)
_MOST: Final = 256
"""More entries than that are no chain of models."""
_TRUNCATED: Final = frozenset({"max_tokens", "model_context_window_exceeded"})
_MESSAGE_FIELDS: Final = frozenset({"content", "stop_reason"})

_Count: TypeAlias = Count | None


class Messages:
    """The Messages API. Satisfies `callspan.providers.base.Endpoint`; has no state."""

    api: Api = "messages"
    operation: Operation = "chat"
    path: str = "/v1/messages"
    message_key: str = "messages"
    accumulator = MessageAccumulator

    def request(self, body: object) -> Request:
        """Return model, stream, parameters and counts of a request; large parameters stay only in its body."""
        if not isinstance(body, dict):
            return Request()
        messages = body.get("messages")
        return Request(
            model=word(body, "model"),
            stream=body.get("stream") is True,
            params=parameters(body, _NO_PARAMS),
            message_count=len(messages) if isinstance(messages, list) else None,
            tool_names=_tool_names(body) if isinstance(body.get("tools"), list) else None,
            # Only requests that ask for it have any: others need not be searched.
            compacted=_MANAGEMENT in body and any(_has_compaction(message) for message in objects(body, "messages")),
            continues=word(body["thread"], "previous_message_id") if "thread" in body else None,
        )

    def response_info(self, body: object) -> ResponseInfo:
        """Return the info of a complete or folded response."""
        return response_info(body)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, typed. Either may be None."""
        return conversation(request, response)


def _has_compaction(message: object) -> bool:
    """Return whether a message has a summary of earlier ones; a summary without text has failed."""
    block = of_type(message.get("content"), "compaction") if isinstance(message, dict) else None
    return block is not None and bool(block.get("content"))


def parameters(body: dict[Any, object], content: frozenset[str]) -> dict[str, object]:
    """Return a request's parameters, except its content and large ones."""
    return {key: detached(value) for key, value in body.items() if key not in content and _is_small(value)}


def _is_small(value: object) -> bool:
    """Return whether a parameter is kept next to the body; null means absent."""
    if isinstance(value, bool | int | float):
        return True
    return value is not None and len(encode_json(value)) <= _MAX_PARAM_BYTES


def _tool_names(body: object) -> list[str]:
    return [name for tool in objects(body, "tools") if (name := tool_name(tool))]


class _Written(msgspec.Struct):
    ephemeral_5m_input_tokens: _Count = None
    ephemeral_1h_input_tokens: _Count = None


class _Spent(msgspec.Struct):
    thinking_tokens: _Count = None


class _Ran(msgspec.Struct):
    web_search_requests: _Count = None
    web_fetch_requests: _Count = None


class _Counted(msgspec.Struct):
    """A `usage` object in the API's own shape."""

    input_tokens: _Count = None
    output_tokens: _Count = None
    cache_read_input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None
    cache_creation: _Written | None = None
    output_tokens_details: _Spent | None = None
    server_tool_use: _Ran | None = None


_convert_counted: Final = converter(_Counted)
_NONE_WRITTEN: Final = _Written()


def response_info(body: object) -> ResponseInfo:
    """Return identity, stop reason, usage and error of a complete or folded body; accepts any JSON."""
    reason, error, is_message = word(body, "stop_reason"), error_in(body), _is_message(body)
    counted = mapping(body, "usage")
    return ResponseInfo(
        response=Response(
            id=word(body, "id"),
            model=word(body, "model"),
            finish_reasons=[reason] if is_message else [],
            service_tier=text(counted, "service_tier"),
        ),
        usage=usage(counted),
        error=error,
        truncated=reason in _TRUNCATED,
        refused=reason == "refusal",
        compacted=_is_compacted(body),
        recognized=is_message or error is not None,
    )


def _is_compacted(body: object) -> bool:
    """Return whether the provider has replaced earlier messages by a summary, or removed some."""
    if not isinstance(body, dict):
        return False
    return _has_compaction(body) or (_MANAGEMENT in body and bool(items(body[_MANAGEMENT], "applied_edits")))


def usage(counted: dict[str, object] | None) -> Usage | None:
    """Return a `usage` object as `Usage`, or None if there is none.

    Anthropic's `input_tokens` excludes tokens read from and written to the cache; callspan's includes them, and
    all counters include the `iterations` that Anthropic's leave out.
    """
    if not counted:
        return None
    copy: dict[str, object]
    try:
        read, copy = _convert_counted(counted), msgspec.to_builtins(counted)
    except ours(*UNFIT):
        read, copy = _counted_one_by_one(counted), detached_object(counted)
    found = _usage(read, copy)
    return with_iterations(found, counted["iterations"]) if counted.get("iterations") else found


def _usage(read: _Counted, raw: dict[str, object]) -> Usage:
    written, spent, ran = read.cache_creation or _NONE_WRITTEN, read.output_tokens_details, read.server_tool_use
    by_life = written.ephemeral_5m_input_tokens, written.ephemeral_1h_input_tokens
    write = read.cache_creation_input_tokens
    if write is None and by_life != (None, None):
        write = (by_life[0] or 0) + (by_life[1] or 0)
    fresh, output = read.input_tokens, read.output_tokens
    total_input = None if fresh is None else fresh + (read.cache_read_input_tokens or 0) + (write or 0)
    return Usage(
        input_tokens=total_input,
        output_tokens=output,
        total_tokens=None if total_input is None or output is None else total_input + output,
        cache_read_tokens=read.cache_read_input_tokens,
        cache_write_tokens=write,
        cache_write_5m_tokens=by_life[0],
        cache_write_1h_tokens=by_life[1],
        reasoning_tokens=None if spent is None else spent.thinking_tokens,
        web_search_requests=None if ran is None else ran.web_search_requests,
        web_fetch_requests=None if ran is None else ran.web_fetch_requests,
        raw=raw,
    )


def _counted_one_by_one(counted: dict[str, object]) -> _Counted:
    """Return the counters of a `usage` object in which any value may be of another type."""
    written, spent, ran = map(counted.get, ("cache_creation", "output_tokens_details", "server_tool_use"))
    return _Counted(
        input_tokens=count(counted, "input_tokens"),
        output_tokens=count(counted, "output_tokens"),
        cache_read_input_tokens=count(counted, "cache_read_input_tokens"),
        cache_creation_input_tokens=count(counted, "cache_creation_input_tokens"),
        cache_creation=_Written(*(count(written, name) for name in _Written.__struct_fields__)),
        output_tokens_details=_Spent(count(spent, "thinking_tokens")),
        server_tool_use=_Ran(*(count(ran, name) for name in _Ran.__struct_fields__)),
    )


def _is_message(body: object) -> bool:
    return isinstance(body, dict) and not _MESSAGE_FIELDS.isdisjoint(body)


def error_in(body: object) -> ErrorInfo | None:
    """Return the error in a body, on its own or next to a partial message. `null` is no error."""
    error = body.get("error") if isinstance(body, dict) else None
    if not error and text(body, "type") != "error":
        return None
    whole = {"type": "error", "error": error, "request_id": text(body, "request_id")}
    return error_info(status=None, body=whole if error else body, exception=None, message=None, request_id=None)


def with_iterations(usage: Usage, listed: object) -> Usage:
    """Return the usage with its iterations, and with their tokens if the top level does not include them.

    Itself where all are turns of one model, which the top level sums up.
    """
    given = listed[:_MOST] if isinstance(listed, list) else []
    iterations = [_iteration(entry, kind) for entry in given if (kind := text(entry, "type"))]
    sampled = [iteration for iteration in iterations if iteration.kind in _SAMPLED]
    is_chain = any(one.kind == _SERVED for one in sampled) or len({one.model for one in sampled if one.model}) > 1
    if len(sampled) == len(iterations) and not is_chain and not _is_beside(sampled, usage):
        return usage
    beside = _declined(sampled, usage) if is_chain or _is_beside(sampled, usage) else 0
    marked = []
    for iteration in iterations:
        if iteration.kind in _SAMPLED:
            marked.append(msgspec.structs.replace(iteration, beside=beside > 0))
            beside -= 1
        else:
            marked.append(msgspec.structs.replace(iteration, beside=True))
    left_out = [usage_of_iteration(iteration) for iteration in marked if iteration.beside]
    return with_added(msgspec.structs.replace(usage, iterations=marked), left_out)


def _iteration(entry: object, kind: str) -> UsageIteration:
    read, write = count(entry, "cache_read_input_tokens"), count(entry, "cache_creation_input_tokens")
    fresh = count(entry, "input_tokens")
    return UsageIteration(
        kind=kind,
        model=text(entry, "model") or None,
        input_tokens=None if fresh is None else fresh + (read or 0) + (write or 0),
        output_tokens=count(entry, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_5m_tokens=count(entry, "cache_creation", "ephemeral_5m_input_tokens"),
        cache_write_1h_tokens=count(entry, "cache_creation", "ephemeral_1h_input_tokens"),
    )


def _is_beside(sampled: list[UsageIteration], usage: Usage) -> bool:
    """Return whether entries with a model ended in a refusal: then the top level has only the last of them."""
    return len(sampled) > 1 and bool(sampled[-1].model) and _sums(sampled[-1:]) == _of(usage)


def _declined(sampled: list[UsageIteration], usage: Usage) -> int:
    """Return how many of the first entries the top level does not include: those before the longest tail it equals."""
    total = _of(usage)
    return next((first for first in range(len(sampled)) if _sums(sampled[first:]) == total), max(0, len(sampled) - 1))


def _of(usage: Usage) -> tuple[int, int]:
    return usage.input_tokens or 0, usage.output_tokens or 0


def _sums(iterations: list[UsageIteration]) -> tuple[int, int]:
    return sum(one.input_tokens or 0 for one in iterations), sum(one.output_tokens or 0 for one in iterations)
