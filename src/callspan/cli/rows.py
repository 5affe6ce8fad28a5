"""Rows: records flattened for lists; the field names are the stable `--json` output."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final, TypeAlias

from callspan.formatting import iso
from callspan.record.call import CallRecord
from callspan.record.messages import Message, Reasoning, Refusal, Text, ToolCall
from callspan.stores.aggregates import model_of
from callspan.stores.base import SessionSummary

Row: TypeAlias = dict[str, object]

_OUTPUT_CHARACTERS: Final = 200
_NS_PER_MS: Final = 1e6
_SHORTEST: Final = 13
"""Length of the timestamp at the start of a time-ordered id."""


def call_row(call: CallRecord) -> Row:
    """Return a call as `callspan calls --json` prints it; None is unknown."""
    error, usage, response = call.error, call.usage, call.response
    return {
        "call_id": call.call_id,
        "session_id": call.place.session_id,
        "session_name": call.place.session_name,
        "timestep": call.place.timestep,
        "timestep_id": call.place.timestep_id,
        "trace_id": call.trace_id,
        "span_id": call.span_id,
        "response_id": response.id if response else None,
        "request_id": call.request_id,
        "batch_id": call.batch_id,
        "custom_id": call.custom_id,
        "user": call.user,
        "metadata": call.metadata,
        "start": iso(call.timing.start_ns),
        "start_ns": call.timing.start_ns,
        "provider": call.provider,
        "api": call.api,
        "operation": call.operation,
        "model": model_of(call),
        "response_model": response.model if response else None,
        "outcome": call.outcome,
        "error_type": error.type if error else None,
        "error_kind": error.kind if error else None,
        "error_message": error.message if error else None,
        "http_status": _status(call),
        "retries": call.retries,
        "rate_limited": call.rate_limited,
        "stream": call.request.stream,
        "stream_end": call.stream.end if call.stream else None,
        "unrecognized": response is not None and response.unrecognized,
        "finish_reasons": response.finish_reasons if response else [],
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cache_read_tokens": usage.cache_read_tokens if usage else None,
        "reasoning_tokens": usage.reasoning_tokens if usage else None,
        "cost_usd": amount(call.cost.usd if call.cost else None),
        "duration_ms": _ms(call.timing.duration_ns),
        "first_token_ms": _ms(call.timing.first_token_ns),
        "server_ms": _ms(call.timing.server_ns),
        "output": output_text(call),
    }


def session_row(summary: SessionSummary) -> Row:
    """Return a session as `callspan sessions --json` prints it; None is unknown."""
    session = summary.session
    return {
        "session_id": session.session_id,
        "name": session.name,
        "user_id": session.user_id,
        "group_id": session.group_id,
        "task_id": session.task_id,
        "experiment": session.experiment,
        "start": iso(session.start_ns),
        "start_ns": session.start_ns,
        "end_ns": session.end_ns,
        "duration_ms": _ms(session_duration_ns(summary)),
        "outcome": session.outcome,
        "success": session.success,
        "reward": summary.reward,
        "rewards": summary.rewards,
        "timesteps": summary.timesteps,
        "calls": summary.calls,
        "errors": summary.errors,
        "events": summary.events,
        "models": summary.models,
        "input_tokens": summary.input_tokens,
        "output_tokens": summary.output_tokens,
        "cost_usd": amount(summary.cost_usd),
        "metadata": session.metadata,
        "trace_id": session.trace_id,
    }


def amount(usd: Decimal | None) -> str | None:
    """Return the exact decimal as text, without an exponent; None for None."""
    return None if usd is None else format(usd, "f")


def session_duration_ns(summary: SessionSummary) -> int | None:
    """Return a session's duration, up to its last record if it has not ended; None if its start is unknown."""
    start, end = summary.session.start_ns, summary.session.end_ns or summary.last_ns
    return None if start is None or end is None else max(0, end - start)


def output_text(call: CallRecord) -> str | None:
    """Return a short form of a call's output: its text, else its tool calls; None if it was not recorded."""
    conversation = call.conversation
    if conversation is None:
        return None
    pieces = [piece for message in conversation.output for piece in short_texts(message)]
    return " ".join(pieces)[:_OUTPUT_CHARACTERS] or None


def short_texts(message: Message) -> Iterator[str]:
    """Yield the parts of a message as short text: text as it is, tool calls as `name(arguments)`."""
    for part in message.parts:
        match part:
            case Text(text=text) | Refusal(text=text):
                yield text
            case ToolCall():
                yield f"{part.name or 'tool'}({part.arguments or ''})"
            case Reasoning():
                continue
            case _:
                yield f"<{type(part).__name__.lower()}>"


def short_ids(ids: Iterable[str], besides: Iterable[str] = ()) -> dict[str, str]:
    """Return a prefix of each id, 13 characters or longer, that is unique among `ids` and `besides`."""
    wanted = set(ids)
    lengths = dict.fromkeys(sorted(wanted.union(besides)), _SHORTEST)
    for one, following in itertools.pairwise(lengths):
        common = next((at for at, (a, b) in enumerate(zip(one, following, strict=False)) if a != b), len(one))
        for near in (one, following):
            lengths[near] = max(lengths[near], common + 2)
    return {one: one[: lengths[one]].rstrip("-") for one in wanted}


def _status(call: CallRecord) -> int | None:
    if call.error is not None and call.error.status is not None:
        return call.error.status
    return call.attempts[-1].status if call.attempts else None


def _ms(ns: int | None) -> float | None:
    return None if ns is None else round(ns / _NS_PER_MS, 3)
