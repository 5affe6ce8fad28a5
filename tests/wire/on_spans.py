"""What a span has to say of a recorded exchange, in every vocabulary: the oracle's facts under the names of a table.

It imports nothing of the code under test, whose tables of attributes would otherwise be compared with themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.tables import table
from tests.wire.corpus import Exchange
from tests.wire.oracle import Facts, Json

ON_SPANS: Json = table(Path(__file__).with_name("on_spans.yaml"))
FACTS, FACTS_OF = ON_SPANS["facts"], ON_SPANS["facts of an endpoint"]
PARAMETERS, PARAMETERS_OF = ON_SPANS["parameters"], ON_SPANS["parameters of an endpoint"]
CONTENT = {
    "gen_ai.response.finish_reasons", "llm.finish_reason", "gen_ai.request.stream", "callspan.cost.usd",
    "gen_ai.request.choice.count", "gen_ai.request.stop_sequences", "llm.chat.stop_sequences",
    "gen_ai.request.reasoning.level", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions",
    "gen_ai.tool.definitions",
}  # fmt: skip
"""Attributes whose values are not the fact itself."""
CUT = "callspan.truncated_bytes"
Attributes = Mapping[str, Any]


def wrong_attributes(exchange: Exchange, facts: Facts, attributes: Attributes) -> Iterator[str]:
    """Yield each attribute that is not what the wire states, or is there though the wire states nothing."""
    wanted = {**scalars(exchange, facts), **derived(exchange, facts)}
    for name, want in wanted.items():
        got = attributes.get(name)
        got = [*got] if isinstance(got, tuple) else got
        if want != got:
            yield f"{name}: wire {want!r}, span {got!r}"
    if CUT not in attributes:
        yield from wrong_content(facts, attributes)


def scalars(exchange: Exchange, facts: Facts) -> Json:
    """Return what the attributes must be that have a fact or a parameter as it is."""
    request = exchange.request or {}
    named = {**FACTS, **FACTS_OF[exchange.endpoint]}
    sent = {**PARAMETERS, **PARAMETERS_OF.get(exchange.endpoint, {})}
    wanted = {name: facts.get(fact) for fact, names in named.items() for name in names}
    for parameter, names in sent.items():
        if request.get(parameter) is not None:
            wanted |= dict.fromkeys(names, request[parameter])
    return wanted


def derived(exchange: Exchange, facts: Facts) -> Json:
    """Return what the attributes must be that have a fact in another form."""
    request, reasons = exchange.request or {}, facts.get("finish_reasons") or [None]
    words = [ON_SPANS["finish reasons"].get(reason, reason) for reason in reasons]
    spelled = ["tool_call" if word == "tool_calls" else word for word in words]
    cost, count, stops = facts.get("cost_usd"), request.get("n"), request.get("stop") or request.get("stop_sequences")
    return {
        "gen_ai.response.finish_reasons": spelled if all(spelled) else None,
        "llm.finish_reason": "length" if "length" in words else next(filter(None, words), None),
        "gen_ai.request.stream": facts["stream"] or None,
        "callspan.cost.usd": None if cost is None else str(cost),
        "gen_ai.request.choice.count": None if count == 1 else count,
        "gen_ai.request.stop_sequences": [stops] if isinstance(stops, str) else stops,
    }


def wrong_content(facts: Facts, attributes: Attributes) -> Iterator[str]:
    """Yield each kind of content that a span shows otherwise than the wire states it."""
    answers = parts_of(attributes, "gen_ai.output.messages", but="user")  # which a compaction repeats
    shown = {
        "texts": of_type(answers, "text"),
        "reasoning": of_type(answers, "reasoning"),
        "tool_calls": [[one.get("id"), one.get("name")] for one in answers if one["type"] == "tool_call"],
        "request_texts": of_type(parts_of(attributes, "gen_ai.input.messages", but="tool"), "text"),
        "system_texts": of_type(json.loads(attributes.get("gen_ai.system_instructions", "[]")), "text"),
        "tool_names": [tool.get("name") for tool in json.loads(attributes.get("gen_ai.tool.definitions", "[]"))],
    }
    stated = {
        **{name: facts.get(name) or [] for name in shown},
        "texts": [*(text for texts in facts.get("texts") or () for text in texts), *(facts.get("refusals") or ())],
        "tool_calls": [
            *([call["id"], call["name"]] for call in facts.get("tool_calls") or ()),
            *([call["id"], call["kind"]] for call in facts.get("hosted_tools") or () if _is_of_client(call)),
        ],
    }
    yield from (f"{name}: wire {stated[name]!r}, span {got!r}" for name, got in shown.items() if got != stated[name])


def _is_of_client(call: Json) -> bool:
    """Return whether a tool search is the application's: only then it has the id of a call."""
    return call["kind"] == "tool_search" and str(call["id"]).startswith("call_")


def parts_of(attributes: Attributes, name: str, but: str = "") -> list[Json]:
    messages = json.loads(attributes.get(name, "[]"))
    return [part for message in messages if message["role"] != but for part in message["parts"]]


def of_type(parts: list[Json], kind: str) -> list[str]:
    return [part["content"] for part in parts if part["type"] == kind and part["content"]]


def classified() -> set[str]:
    """Return the attributes of the vocabularies about which something was decided."""
    tables: tuple[dict[str, list[str]], ...] = (FACTS, PARAMETERS, *FACTS_OF.values(), *PARAMETERS_OF.values())
    named = {name for table in tables for names in table.values() for name in names}
    return named | CONTENT | {name for names in ON_SPANS["not of the wire"].values() for name in names}


def facts_decided() -> set[str]:
    """Return the facts of the oracle about which something was decided."""
    of_endpoints = {fact for table in FACTS_OF.values() for fact in table}
    return {*FACTS, *of_endpoints, *ON_SPANS["content"], *ON_SPANS["record alone"]}
