"""Call page: one call in full: identity, times, attempts, usage, messages, errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.padding import Padding
from rich.text import Text as RichText

from callspan.cli.calls import outcome_text
from callspan.cli.safe_text import clean, clean_lines
from callspan.cli.screen import Screen, styled
from callspan.formatting import UNKNOWN, count, duration, local_time, money
from callspan.record.call import Attempt, CallRecord
from callspan.record.codec import encode_json
from callspan.record.messages import Media, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from callspan.record.usage import Usage
from callspan.stores.aggregates import model_of

_LABEL_WIDTH: Final = 12
_ROLE_STYLES: Final = {"system": "magenta", "user": "blue", "assistant": "green", "tool": "cyan"}


def print_call(screen: Screen, call: CallRecord) -> None:
    """Print the whole call; recorded text is cleaned."""
    heading = styled((f"{call.operation} {model_of(call) or UNKNOWN}", "bold cyan"), "  ")
    heading.append_text(outcome_text(call))
    screen.text(heading)
    for label, value in _facts(call):
        screen.line((f"{label:<{_LABEL_WIDTH}}", "dim"), value)
    if call.error is not None:
        screen.line((f"{'error':<{_LABEL_WIDTH}}", "dim"), (f"{call.error.kind}: {call.error.type}", "red"))
        if call.error.message:
            screen.print(Padding(RichText(clean_lines(call.error.message), style="red"), (0, 0, 0, _LABEL_WIDTH)))
    if len(call.attempts) > 1:
        for attempt in call.attempts:
            screen.line((f"{f'attempt {attempt.number}':<{_LABEL_WIDTH}}", "dim"), _attempt(attempt))
    _print_conversation(screen, call)


def _facts(call: CallRecord) -> Iterator[tuple[str, str]]:
    place, timing = call.place, call.timing
    yield "call", call.call_id
    if place.session_id is not None:
        step = "" if place.timestep is None else f", step {place.timestep}"
        yield "session", f"{place.session_id} ({place.session_name or 'no name'}{step})"
    if call.trace_id is not None:
        yield "trace", f"{call.trace_id}  span {call.span_id}"
    yield "provider", f"{call.provider} {call.api} at {call.server_address or UNKNOWN}:{call.server_port or UNKNOWN}"
    first = "" if timing.first_token_ns is None else f", first token after {duration(timing.first_token_ns)}"
    yield "time", f"{local_time(timing.start_ns)}, took {duration(timing.duration_ns)}{first}"
    yield "tokens", _usage(call.usage)
    guess = ", estimated" if call.cost and call.cost.estimated else ""
    yield "cost", money(call.cost.usd if call.cost else None) + (f" by {call.cost.source}{guess}" if call.cost else "")
    if call.stream is not None:
        whole = "whole" if call.stream.complete else "not whole"
        yield "stream", f"ended by {call.stream.end}, {count(call.stream.chunks)} chunks, {whole}"
    reasons = [reason for reason in (call.response.finish_reasons if call.response else []) if reason]
    if reasons:
        yield "finished", ", ".join(reasons)
    if call.request.params:
        yield "parameters", encode_json(call.request.params).decode()
    for redaction in call.redactions:
        yield "left out", f"{redaction.what} ({redaction.why})"


def _usage(usage: Usage | None) -> str:
    if usage is None:
        return UNKNOWN
    parts = {
        "cached": usage.cache_read_tokens,
        "to cache": usage.cache_write_tokens,
        "reasoning": usage.reasoning_tokens,
    }
    known = [f"{count(number)} {name}" for name, number in parts.items() if number is not None]
    inner = f" (of them {', '.join(known)})" if known else ""
    return f"{count(usage.input_tokens)} in, {count(usage.output_tokens)} out{inner}"


def _attempt(attempt: Attempt) -> str:
    status = str(attempt.status) if attempt.status is not None else attempt.error_type or "no answer"
    wait = "" if attempt.planned_wait_s is None else f", then waited {duration(attempt.planned_wait_s * 1e9)}"
    request = f", request {attempt.request_id}" if attempt.request_id else ""
    return f"{status} at {duration(attempt.start_ns)}{wait}{request}"


def _print_conversation(screen: Screen, call: CallRecord) -> None:
    conversation = call.conversation
    if conversation is None:
        return
    if conversation.tools:
        names = ", ".join(_tool_name(tool) for tool in conversation.tools)
        screen.line((f"{'tools':<{_LABEL_WIDTH}}", "dim"), names)
    turns = [Message(role="system", parts=conversation.system)] if conversation.system else []
    for message in (*turns, *conversation.input):
        _print_message(screen, message, "")
    for message in conversation.output:
        _print_message(screen, message, "answer")


def _print_message(screen: Screen, message: Message, note: str) -> None:
    screen.print()
    role = message.role or "?"
    ended = f" {message.finish_reason}" if message.finish_reason else ""
    screen.line((role, f"bold {_ROLE_STYLES.get(role, '')}"), (f" {note}{ended}".rstrip(), "dim"))
    for part in message.parts:
        screen.print(Padding(RichText(clean_lines(_part(part))), (0, 0, 0, 2)))


def _part(part: Part) -> str:
    match part:
        case Text(text=text):
            return text
        case Refusal(text=text):
            return f"(refused) {text}"
        case Reasoning(text=text):
            return f"(thinking) {text or 'sealed'}"
        case ToolCall():
            cut = " (cut off)" if part.incomplete else ""
            return f"{part.name or 'tool'}({part.arguments or ''}){cut}"
        case ToolResult(content=content):
            mark = "(error) " if part.is_error else ""
            return mark + (content if isinstance(content, str) else encode_json(content).decode())
        case Media():
            where = part.url or part.file_id or part.sha256 or "inline"
            return f"({part.modality} {part.mime or ''} {where[:80]})"
        case _:
            return encode_json(part).decode()


def _tool_name(tool: object) -> str:
    names: Sequence[object] = ()
    if isinstance(tool, dict):
        inner = tool.get("function")
        names = (tool.get("name"), inner.get("name") if isinstance(inner, dict) else None, tool.get("type"))
    return clean(next((name for name in names if isinstance(name, str)), "?"))
