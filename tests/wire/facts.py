"""The facts that are compared: one table row per exchange, filled by the oracle and by what is under test.

`None` and the empty tuple mean that the wire does not state the fact. This module knows no wire format and
nothing of the code under test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool the model used."""

    id: str | None
    name: str | None
    arguments: str | None
    """The text the model wrote, exactly; of an input that is an object on the wire, canonical JSON."""
    kind: str = "function"
    is_object: bool = False
    """True where the wire gives the arguments as an object, so that their spelling as text is free."""


@dataclass(slots=True)
class Facts:
    """What one exchange states."""

    api: str | None = None
    stream: bool | None = None
    request_model: str | None = None
    request_params: tuple[tuple[str, object], ...] = ()
    """Scalar settings of the request, by the names of the wire."""
    message_count: int | None = None
    """Entries of the history that was sent; one string is one entry."""
    tool_names: tuple[str, ...] = ()
    """Tools offered to the model; one without a name by its type."""
    request_roles: tuple[str, ...] = ()
    """Roles of the messages sent, in order; instructions given apart from them are not among them."""
    request_texts: tuple[str, ...] = ()
    """Plain texts of those messages, in order."""
    system_texts: tuple[str, ...] = ()
    response_model: str | None = None
    response_id: str | None = None
    created: int | None = None
    status: str | None = None
    """Responses only."""
    finish_reasons: tuple[str | None, ...] = ()
    choices: int | None = None
    texts: tuple[tuple[str, ...], ...] = ()
    """For each choice its texts that are not empty, in order."""
    refusals: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    tool_calls: tuple[Tool, ...] = ()
    """Tools the caller is to run."""
    hosted_tools: tuple[Tool, ...] = ()
    """Tools the provider ran itself."""
    tool_results: tuple[str, ...] = ()
    """Ids of the calls whose results the answer holds."""
    order: tuple[str, ...] = ()
    """Kinds of the parts of an answer (text, reasoning, tool_call, tool_result) where the wire orders them."""
    annotations: int | None = None
    logprobs: int | None = None
    """Count of tokens that came with a log-probability."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_text_tokens: int | None = None
    input_image_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_text_tokens: int | None = None
    output_image_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None
    web_search_requests: int | None = None
    web_fetch_requests: int | None = None
    cost_usd: Decimal | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_param: str | None = None
    error_message: str | None = None


NAMES = tuple(each.name for each in fields(Facts))
TOOLS = ("tool_calls", "hosted_tools")


def differences(exchange: str, expected: Facts, got: Facts) -> list[str]:
    """Return a line for each fact that was understood in another way than the wire states it."""
    found = []
    for name in NAMES:
        wire, read = getattr(expected, name), getattr(got, name)
        if name in TOOLS and len(wire) == len(read):
            read = tuple(_spelled(one, other) for one, other in zip(wire, read, strict=True))
        if is_stated(wire) != is_stated(read) or (is_stated(wire) and (wire != read or type(wire) is not type(read))):
            found.append(f"{exchange} {name}: wire {shortened(wire)}, got {shortened(read)}")
    return found


def is_stated(value: object) -> bool:
    """Whether the wire states a fact. An empty text counts as a statement."""
    return value not in (None, ())


def _spelled(wire: Tool, read: Tool) -> Tool:
    """Return a tool that was read with its arguments in canonical JSON where the wire gave an object.

    A name or arguments that the wire does not state for a hosted tool are free: readers may name it.
    """
    arguments = canonical(read.arguments) if wire.is_object else read.arguments
    hosted = wire.kind not in {"function", "custom"}
    return Tool(
        id=read.id,
        name=wire.name if hosted and wire.name is None else read.name,
        arguments=wire.arguments if hosted and wire.arguments is None else arguments,
        kind=wire.kind if wire.kind == "hosted" and read.kind not in {"function", "custom"} else read.kind,
        is_object=wire.is_object,
    )


def canonical(text: str | None) -> str | None:
    """Return JSON text in one spelling; text that is no JSON stays as it is."""
    try:
        return None if text is None else json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return text


def shortened(value: object, most: int = 160) -> str:
    """Return a value for a report line."""
    text = repr(value)
    return text if len(text) <= most else text[: most // 2] + " … " + text[-most // 2 :]
