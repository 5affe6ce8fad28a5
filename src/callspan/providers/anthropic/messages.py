"""The Messages endpoint, on every platform: requests and responses of `/v1/messages`, their usage and errors.

`usage.iterations` lists model runs within the server. The top level of `usage` sums the runs of the answering model. It
excludes compactions ("tokens are not included in the top-level `usage` fields", `BetaUsage.iterations`) and advisors,
which use another model (`BetaAdvisorMessageIterationUsage`). It also excludes models that declined before it, which are
charged if they had written something ("refusals and fallback" in Anthropic's documentation): the call has the usage of
the final answer, marked as estimated, since the SDK's own middleware lists other requests in the same way.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, Final

import msgspec

from callspan.providers.anthropic.parts import conversation
from callspan.providers.base import Operation, ResponseInfo, parameters
from callspan.providers.error_kinds import error_in, error_info
from callspan.providers.finishing import GUARDRAIL, INTERVENED, answer_info
from callspan.providers.fold.entries import Entry
from callspan.providers.fold.events import BLOCK, EventFold, EventTarget
from callspan.providers.fold.merge import is_json
from callspan.providers.stated_cost import stated_cost
from callspan.providers.tool_runs import requested_kinds, runs_in_message, with_runs
from callspan.providers.wire_json import (
    Json,
    count,
    detached_object,
    dig,
    items,
    mapping,
    objects,
    of_type,
    text,
    word,
)
from callspan.record.call import ErrorInfo, Request, Response
from callspan.record.messages import Conversation, tool_name
from callspan.record.usage import Usage, UsageIteration, checked_usage, usage_of_iteration, with_added

_NO_PARAMS: Final = frozenset({"model", "stream", "messages", "system", "tools", "mcp_servers"})
"""Fields that are content, kept elsewhere, or secret (authorization tokens of MCP servers)."""

_MANAGEMENT: Final = "context_management"
_SAMPLED: Final = "message"
_SERVED: Final = "fallback_message"
"""The run of the model that answered after others had declined."""
_MAX_ITERATIONS: Final = 256
"""Limit on the entries that are read."""
_MESSAGE_FIELDS: Final = frozenset({"content", "stop_reason"})


class MessageFold(EventFold):
    """Joins the events of a message."""

    entries = "content"
    starts = frozenset({"message_start"})
    ends = frozenset({"message_stop"})
    usage_rule = "last of each"
    defaults: ClassVar = {"type": "message", "role": "assistant", "content": []}
    targets: ClassVar = {
        "message_start": EventTarget((), "message", "", "begin"),
        "message": EventTarget((), "", "", "done"),
        "content_block_start": EventTarget(BLOCK, "content_block", "", "begin"),
        "content_block_stop": EventTarget(BLOCK, "", "", "stop"),
        "text_delta": EventTarget(BLOCK, "text", "text", "grow", ("text",)),
        "thinking_delta": EventTarget(BLOCK, "thinking", "thinking", "grow", ("thinking",)),
        "input_json_delta": EventTarget(BLOCK, "partial_json", "partial_json", "grow", ("tool_use",)),
        "citations_delta": EventTarget(BLOCK, "citation", "citation", "grow", ("text",)),
        "signature_delta": EventTarget(BLOCK, "", "", "last", ("thinking",)),
        "compaction_delta": EventTarget(BLOCK, "", "", "last", ("compaction",)),
        "message_delta": EventTarget((), "delta", "", "last", has_body_fields=True),
        "message_stop": EventTarget((), "delta", "", "last", has_body_fields=True),
    }

    def body(self) -> Json | None:
        """Return the message so far, with `error` if one was received; only the error if nothing else was."""
        body = super().body()
        for block in body["content"] if body is not None and isinstance(body.get("content"), list) else ():
            model = text(block, "to", "model") if text(block, "type") == "fallback" else None
            if body is not None and model:
                body["model"] = model
        return body

    def _finished(self, entry: Entry, fields: Any) -> Any:
        if not isinstance(fields, dict) or not (input_json := fields.pop("partial_json", "")):
            return super()._finished(entry, fields)
        if is_json(input_json):
            fields["input"] = json.loads(input_json)
        else:
            fields |= {"input": input_json, "incomplete": True}
        return fields


class Messages:
    """The Messages API. Satisfies `callspan.providers.base.Endpoint`; has no state."""

    operation: Operation = "chat"
    accumulator = MessageFold

    def __init__(self, api: str) -> None:
        self.api = api

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
            hosted_tools=requested_kinds(body["tools"]) if "tools" in body else None,
            # Only requests that enable compaction have any; others need not be searched.
            compacted=_MANAGEMENT in body and any(_has_compaction(message) for message in objects(body, "messages")),
            continues=word(body["thread"], "previous_message_id") if "thread" in body else None,
        )

    def response_info(self, body: object) -> ResponseInfo:
        """Return identity, stop reason, usage and error of a complete or folded body; accepts any JSON."""
        reason, is_message, blocked = word(body, "stop_reason"), False, False
        if isinstance(body, dict):
            is_message, blocked = not _MESSAGE_FIELDS.isdisjoint(body), body.get(GUARDRAIL) == INTERVENED
        counters, missed = mapping(body, "usage"), dig(body, "diagnostics", "cache_miss_reason")
        response = Response(
            id=word(body, "id"),
            model=word(body, "model"),
            finish_reasons=[reason] if is_message else [],
            service_tier=text(counters, "service_tier"),
            compacted=_is_compacted(body),
            prompt_cache_miss=None if missed is None else word(missed, "type"),
            prompt_cache_missed_tokens=None if missed is None else count(missed, "cache_missed_input_tokens"),
        )
        tokens, error = _with_runs(usage(counters), body), response_error(body)
        return answer_info(response, (reason,), tokens, error, recognized=is_message, refused=blocked)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, typed. Either may be None."""
        return conversation(request, response)


def _has_compaction(message: object) -> bool:
    """Return whether a message contains a summary of earlier ones. A summary without text is a failed one."""
    block = of_type(message.get("content"), "compaction") if isinstance(message, dict) else None
    return block is not None and bool(block.get("content"))


def _tool_names(body: object) -> list[str]:
    return [name for tool in objects(body, "tools") if (name := tool_name(tool))]


def _with_runs(usage: Usage | None, body: object) -> Usage | None:
    """Return the usage with the runs of hosted tools that it does not count."""
    runs = runs_in_message(body) if usage is not None and isinstance(body, dict) else {}
    return with_runs(usage, runs)


def _is_compacted(body: object) -> bool:
    """Return whether the provider replaced earlier messages with a summary or removed some."""
    if not isinstance(body, dict):
        return False
    return _has_compaction(body) or (_MANAGEMENT in body and bool(items(body[_MANAGEMENT], "applied_edits")))


def usage(counters: dict[str, object] | None) -> Usage | None:
    """Return a `usage` object as `Usage`; None for an empty one or without it.

    Anthropic's `input_tokens` excludes tokens read from and written to the cache; callspan's includes them, and
    all counters include the `iterations` that Anthropic's leave out.
    """
    if not counters:
        return None
    iterations = counters.get("iterations")
    tokens = _tokens({**counters, **_lifetimes(counters)} if iterations else counters)
    cost = stated_cost(counters, None)
    total_input, output = tokens["input_tokens"], tokens["output_tokens"]
    result = Usage(
        **tokens,
        total_tokens=None if total_input is None or output is None else total_input + output,
        reasoning_tokens=count(counters, "output_tokens_details", "thinking_tokens"),
        web_search_requests=count(counters, "server_tool_use", "web_search_requests"),
        web_fetch_requests=count(counters, "server_tool_use", "web_fetch_requests"),
        cost_usd=None if cost is None else cost.usd,
        cost_estimated=cost is not None and cost.estimated,
        raw=detached_object(counters),
    )
    result = checked_usage(result)
    return with_iterations(result, iterations) if iterations else result


def _lifetimes(counters: object) -> dict[str, object]:
    """Return `cache_creation` of the model that answered after others had declined, if it covers all writes.

    The last event of a stream states the writes anew, but not how long they are kept: the first event's lifetimes stay.
    """
    lifetimes = mapping(of_type(dig(counters, "iterations"), _SERVED), "cache_creation") or {}
    counts = [count(lifetimes, name) for name in lifetimes]
    is_whole = bool(counts) and sum(tokens or 0 for tokens in counts) == count(counters, "cache_creation_input_tokens")
    return {"cache_creation": lifetimes} if is_whole else {}


def _tokens(counters: object) -> dict[str, Any]:
    """Return the token counters by their names in `Usage` and `UsageIteration`."""
    short = count(counters, "cache_creation", "ephemeral_5m_input_tokens")
    long = count(counters, "cache_creation", "ephemeral_1h_input_tokens")
    cache_read, cache_write = count(counters, "cache_read_input_tokens"), count(counters, "cache_creation_input_tokens")
    if cache_write is None and (short, long) != (None, None):
        cache_write = (short or 0) + (long or 0)
    fresh, output = count(counters, "input_tokens"), count(counters, "output_tokens")
    total_input = None if fresh is None else fresh + (cache_read or 0) + (cache_write or 0)
    if fresh is None and output is None:
        # From servers that use OpenAI's names. Their input includes what was cached.
        total_input, output = count(counters, "prompt_tokens"), count(counters, "completion_tokens")
        cache_read = count(counters, "prompt_tokens_details", "cached_tokens") if cache_read is None else cache_read
    return {
        "input_tokens": total_input,
        "output_tokens": output,
        "cache_read_tokens": cache_read,
        "cache_write_tokens": cache_write,
        "cache_write_5m_tokens": short,
        "cache_write_1h_tokens": long,
    }


def response_error(body: object) -> ErrorInfo | None:
    """Return the error in a body, on its own or next to a partial message. `null` is no error."""
    error = error_in(body) if isinstance(body, dict) else None
    if not error:
        return None
    envelope = {"type": "error", "error": error, "request_id": text(body, "request_id")}
    return error_info(body=envelope)


def with_iterations(usage: Usage, listed: object) -> Usage:
    """Return the usage including the runs that the top level excludes."""
    entries = listed[:_MAX_ITERATIONS] if isinstance(listed, list) else []
    answering_model = text(of_type(entries, _SERVED), "model")
    is_partial = any(_is_declined(entry, answering_model) for entry in entries)
    runs = [
        UsageIteration(kind=kind, model=text(entry, "model") or None, **_tokens(entry))
        for entry in entries
        if (kind := text(entry, "type")) and kind not in (_SAMPLED, _SERVED)
    ]
    usage = msgspec.structs.replace(usage, iterations=runs, estimated=usage.estimated or is_partial)
    return with_added(usage, map(usage_of_iteration, runs))


def _is_declined(run: object, answering_model: str | None) -> bool:
    """Return whether a model other than the one that answered declined after some output; without any it is free."""
    is_other = text(run, "type") == _SAMPLED and text(run, "model") not in (None, answering_model)
    return answering_model is not None and is_other and bool(count(run, "output_tokens"))
