"""The facts callspan read from an exchange, by an endpoint adapter or from a finished record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from callspan.records import (
    CallRecord,
    Conversation,
    ErrorInfo,
    Message,
    Part,
    Reasoning,
    Refusal,
    Request,
    Response,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from tests.wire.facts import Facts, Tool
from tests.wire.oracle import ROLES, SETTINGS, TOOL_ROLES

CALLER_RUNS = {"function", "custom"}
ORDERED = {"responses", "messages"}
ORDER: dict[type, str] = {Text: "text", Reasoning: "reasoning", ToolCall: "tool_call", ToolResult: "tool_result"}
P = TypeVar("P", bound=Part)
COUNTERS = (
    "input_tokens", "output_tokens", "total_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "reasoning_tokens", "input_audio_tokens", "input_text_tokens", "input_image_tokens",
    "output_audio_tokens", "output_text_tokens", "output_image_tokens", "accepted_prediction_tokens",
    "rejected_prediction_tokens", "web_search_requests", "web_fetch_requests", "cost_usd",
)  # fmt: skip


def read_from_record(record: CallRecord, conversation: Conversation) -> Facts:
    """Return the facts that a finished record and its typed messages state."""
    facts = Facts(api=record.api)
    _take_request(facts, record.request)
    _take_conversation(facts, conversation)
    _take_error(facts, record.error)
    if record.response is not None:
        _take_response(facts, record.response)
    _take_usage(facts, record.usage)
    return facts


def _take_request(facts: Facts, request: Request) -> None:
    facts.stream = request.stream
    facts.request_model = request.model
    facts.message_count = request.message_count
    facts.tool_names = tuple(request.tool_names or ())
    facts.request_params = tuple((key, request.params[key]) for key in SETTINGS if request.params.get(key) is not None)


def _take_response(facts: Facts, response: Response) -> None:
    facts.response_id = response.id
    facts.response_model = response.model
    facts.created = response.created
    facts.status = response.status
    facts.finish_reasons = tuple(response.finish_reasons)
    facts.service_tier = response.service_tier
    facts.system_fingerprint = response.system_fingerprint


def _take_usage(facts: Facts, usage: Usage | None) -> None:
    for name in COUNTERS if usage is not None else ():
        setattr(facts, name, getattr(usage, name))


def _take_error(facts: Facts, error: ErrorInfo | None) -> None:
    if error is not None:
        facts.error_type, facts.error_code = error.type, error.code
        facts.error_param, facts.error_message = error.param, error.message


def _take_conversation(facts: Facts, conversation: Conversation) -> None:
    facts.system_texts = tuple(part.text for part in conversation.system if isinstance(part, Text) and part.text)
    if facts.api in ROLES:
        facts.request_roles = tuple(message.role for message in conversation.input)
    facts.request_texts = tuple(
        part.text
        for message in conversation.input
        if message.role not in TOOL_ROLES
        for part in _of(message, Text)
        if part.text
    )
    answers = [message for message in conversation.output if message.role != "user"]
    facts.choices = len(answers) or None
    texts = [tuple(part.text for part in _of(message, Text) if part.text) for message in answers]
    facts.texts = tuple(texts) if any(texts) else ()
    parts = [part for message in answers for part in message.parts]
    if facts.api in ORDERED:
        facts.order = tuple(ORDER[type(part)] for part in parts if type(part) in ORDER and part != Text(text=""))
    facts.refusals = tuple(part.text for part in parts if isinstance(part, Refusal) and part.text)
    thoughts = [part for part in parts if isinstance(part, Reasoning)]
    facts.reasoning = tuple(part.text for part in thoughts if part.text is not None)
    facts.signatures = tuple(part.signature for part in thoughts if part.signature is not None)
    facts.sealed = tuple(part.sealed for part in thoughts if part.sealed is not None)
    facts.tool_calls = _tools(parts, lambda kind: kind in CALLER_RUNS)
    facts.hosted_tools = _tools(parts, lambda kind: kind not in CALLER_RUNS)
    facts.tool_results = tuple(part.id for part in parts if isinstance(part, ToolResult) and part.id is not None)
    written = [part for part in parts if isinstance(part, Text)]
    facts.annotations = sum(len(part.annotations or []) for part in written) or None
    facts.logprobs = sum(_tokens(part.logprobs) for part in written) or None


def _of(message: Message, kind: type[P]) -> list[P]:
    return [part for part in message.parts if isinstance(part, kind)]


def _tools(parts: list[Part], wanted: Callable[[str], bool]) -> tuple[Tool, ...]:
    calls = [part for part in parts if isinstance(part, ToolCall) and wanted(part.tool_type)]
    return tuple(Tool(call.id, call.name, call.arguments, call.tool_type) for call in calls)


def _tokens(logprobs: Any) -> int:
    if isinstance(logprobs, dict):
        return len(logprobs.get("content") or logprobs.get("tokens") or [])
    return len(logprobs) if isinstance(logprobs, list) else 0
