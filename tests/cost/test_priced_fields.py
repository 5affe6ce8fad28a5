"""Every field of usage, tool and item that the SDKs and the recorded exchanges have is priced, free, or named.

A field in none of these tables is one of a later version: whoever adds it here decides what it costs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel
from tests.support.bodies import endpoint
from tests.support.scale import FULL, scaled
from tests.support.sdks import is_read
from tests.wire import corpus

from callspan.cost.counters import COUNTED, FREE, unpriced_fields
from callspan.cost.tools import FREE_TOOLS
from callspan.providers.tool_runs import requested_kinds, runs_in, runs_in_message
from callspan.record.vocabulary import HOSTED_TOOLS
from callspan.records import Usage

SDKS: Final = ("openai", "anthropic", "groq")
NAMED: Final = {
    "paused_seconds": "a rate of its own, for which a session has no cost",
    "requests": "Anthropic's statistics of an organisation",
    "uncached_input_tokens": "Anthropic's statistics of an organisation",
    "list_cost": "the list price of a session of one of Anthropic's agents, a running total",
    "cost": "a stated cost that is partial, or in another currency; else it is the cost",
    "estimated_cost": "a stated cost",
    "cost_details": "parts of a stated cost",
    "server_tool_use_details.tool_calls_executed": "tools at OpenRouter, each with its own price",
    "server_tool_use_details.tool_calls_requested": "tools at OpenRouter, each with its own price",
    "prompt_tokens_details.video_tokens": "no list has a price for video",
    "is_byok": "the provider behind the gateway charges too",
}
"""Fields of usage that make a cost an estimate, with the reason. A path includes those below it."""
MAIN: Final = {
    "openai": ("chat.chat_completion", "completion", "responses.response", "images_response"),
    "anthropic": ("message", "beta.beta_message", "raw_message_delta_event"),
    "groq": ("chat.chat_completion", "chat.chat_completion_chunk"),
}  # fmt: skip
"""Modules of answers that are read on each change; at full scale it is all of them."""
CHARGED: Final = {
    "browser_search", "code_execution", "code_interpreter", "file_search", "image_generation", "program",
    "programmatic_tool_calling", "shell", "web_search", "web_search_preview",
}  # fmt: skip
"""Tools with a fee by run, by time or in tokens of another model."""


def modules(sdk: str) -> Iterator[Any]:
    if not FULL and not is_read(sdk):
        pytest.skip(f"this {sdk} is not the version that docs/records.md names")
    root = import_module(f"{sdk}.types")
    names = [found.name for found in walk_packages(root.__path__, f"{root.__name__}.")] if FULL else []
    for name in names or [f"{root.__name__}.{name}" for name in MAIN[sdk]]:
        yield import_module(name)


def fields(sdk: str, *names: str) -> Iterator[tuple[str, Any]]:
    """Yield name and type of each field with one of these names."""
    for module in modules(sdk):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from ((name, kind.model_fields[name].annotation) for name in names if name in kind.model_fields)


def leaves(kind: Any, path: tuple[str, ...] = (), above: tuple[Any, ...] = ()) -> Iterator[str]:
    """Yield the paths of the numbers, texts and flags within a type."""
    if get_origin(kind) is not None:
        inner = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
        yield from (leaf for one in inner for leaf in leaves(one, path, above) if get_origin(kind) is not Literal)
        if get_origin(kind) is Literal:
            yield ".".join(path)
    elif isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in above:
        for name, field in kind.model_fields.items():
            yield from leaves(field.annotation, (*path, field.alias or name), (*above, kind))
    elif kind in (int, float, str, bool):
        yield ".".join(path)


def is_named(path: str) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in NAMED)


def is_known(path: str) -> bool:
    return path in COUNTED or path in FREE or is_named(path)


@pytest.mark.parametrize("sdk", SDKS)
def test_usage_field_is_priced_free_or_named(sdk: str) -> None:
    found = {leaf for _, kind in fields(sdk, "usage") for leaf in leaves(kind)}
    assert found
    assert {path for path in found if not is_known(path)} == set()


@pytest.mark.parametrize("part", range(scaled(1, 4)))
def test_recorded_usage_field_is_priced_free_or_named(part: int) -> None:
    exchanges = (*corpus.load(), *corpus.beside())
    found = {path for exchange in exchanges[part :: scaled(1, 4)] for path in stated_in(exchange)}
    assert found
    assert {path for path in found if not is_known(path)} == set()


def stated_in(exchange: corpus.Exchange) -> Iterator[str]:
    for whole in bodies(exchange):
        for one in objects(whole):
            if isinstance(one.get("usage"), dict):
                yield from (path for path, value in members(one["usage"], "") if value is not None)


def bodies(exchange: corpus.Exchange) -> Iterator[object]:
    if exchange.stream:
        yield from corpus.chunks(exchange.body)
        return
    try:
        yield json.loads(exchange.body)
    except ValueError:
        return


def objects(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(member)


def members(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from members(member, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for member in value:
            yield from members(member, path)
    else:
        yield path, value


def nested(path: str, value: object) -> dict[str, Any]:
    name, _, rest = path.partition(".")
    return {name: nested(rest, value) if rest else value}


def body_with(path: str) -> dict[str, Any]:
    """Return an answer whose usage has this field besides the tokens that it may be a part of."""
    usage = nested(path, 7)
    group, _, rest = path.partition(".")
    if group.endswith("_details") and rest.partition(".")[2]:
        usage[group] |= {"cached_tokens": 9, "cache_write_tokens": 9}
    return {"usage": {"input_tokens": 90, "output_tokens": 90} | usage}


@pytest.mark.parametrize("path", sorted(path for path in COUNTED if not path.startswith("iterations.")))
def test_priced_field_is_read(path: str) -> None:
    """By the adapter of one of the APIs that state it."""
    body = body_with(path)
    apis = ("responses", "messages", "transcriptions", "cohere_chat", "converse", "interactions", "generate_content")
    bodies = {"generate_content": {"usageMetadata": body["usage"]}}
    readings = [endpoint(api).response_info(bodies.get(api, body)).usage for api in apis]
    readings.append(endpoint("invoke_model").response_info({"amazon-bedrock-invocationMetrics": body["usage"]}).usage)
    generated = [{"generated_text": "", "details": {"generated_tokens": 7, **body["usage"]}}]
    readings.append(endpoint("text_generation").response_info(generated).usage)
    assert any(usage is not None and getattr(usage, COUNTED[path]) is not None for usage in readings)


@pytest.mark.parametrize("path", ["a_new_counter", "prompt_tokens_details.new_tokens", "seconds", "new.list.counter"])
def test_unread_field_is_named(path: str) -> None:
    """Even one that another API has."""
    usage = endpoint("chat_completions").response_info(body_with(path)).usage
    assert unpriced_fields(usage) == [path]
    for nothing in (0, None, "", 0.0, False, []):
        assert unpriced_fields(Usage(raw=nested(path, nothing))) == []
    assert unpriced_fields(Usage(raw=nested(path, [7, {"x": 1}]))) == [path, f"{path}.x"]


def test_hostile_usage_has_a_short_reason() -> None:
    assert len(unpriced_fields(Usage(raw={f"field{number}": 1 for number in range(1000)}))) == 9


@pytest.mark.parametrize("sdk", ["openai"])
def test_tool_usage_entry_is_a_run(sdk: str) -> None:
    found = {leaf for _, kind in fields(sdk, "tool_usage") for leaf in leaves(kind)}
    assert found
    for path in found - {"web_search.num_requests"}:
        assert runs_in({"tool_usage": nested(path, 7)}) != {}, path
        assert runs_in({"tool_usage": nested(path, 0)}) == {}, path


def kinds(sdk: str, place: str) -> set[str]:
    """Return the types of the members of a union, which may be a type of requests or of answers."""
    if not FULL and not is_read(sdk):
        pytest.skip(f"this {sdk} is not the version that docs/records.md names")
    module, _, name = place.rpartition(".")
    return set(stated_types(getattr(import_module(f"{sdk}.types.{module}"), name)))


def stated_types(kind: Any) -> Iterator[str]:
    if get_origin(kind) is Literal:
        yield from (one for one in get_args(kind) if isinstance(one, str))
    elif get_origin(kind) is not None:
        for one in get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind):
            yield from stated_types(one)
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from stated_types(kind.model_fields["type"].annotation)
    elif isinstance(kind, type):
        yield from stated_types(get_type_hints(kind).get("type"))


TOOLS: Final = (
    ("openai", "responses.tool.Tool"),
    ("openai", "chat.chat_completion_tool_union_param.ChatCompletionToolUnionParam"),
    ("anthropic", "tool_union_param.ToolUnionParam"),
    ("anthropic", "beta.beta_tool_union_param.BetaToolUnionParam"),
    ("groq", "chat.chat_completion_tool_param.ChatCompletionToolParam"),
)


@pytest.mark.parametrize(("sdk", "place"), TOOLS)
def test_requested_tool_is_the_applications_charged_or_free(sdk: str, place: str) -> None:
    found = kinds(sdk, place)
    hosted = {kind for one in found for kind in requested_kinds([{"type": one}]) or []}
    assert found
    assert hosted - CHARGED - FREE_TOOLS.keys() == set()
    assert hosted - HOSTED_TOOLS == set(), "unknown at a reduced content level"


def test_answer_item_is_no_run_charged_or_free() -> None:
    found = kinds("openai", "responses.response_output_item.ResponseOutputItem")
    ran = {tool for one in found for tool in runs_in({"output": [{"type": one}]})}
    assert {"message", "web_search_call"} < found
    assert ran - CHARGED - FREE_TOOLS.keys() == set()


def test_message_tool_is_counted_charged_or_free() -> None:
    kind = import_module("anthropic.types.beta.beta_server_tool_use_block").BetaServerToolUseBlock
    names = get_args(kind.model_fields["name"].annotation)
    usage = {"server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 1}}
    blocks = [{"type": "server_tool_use", "name": name} for name in names]
    ran = {tool for block in blocks for tool in runs_in_message({"content": [block], "usage": usage})}
    assert "web_search" in names
    assert ran - {"container"} - FREE_TOOLS.keys() == set()


@pytest.mark.parametrize("kind", ["", "a text of the user", "sk-ant-1", "x" * 99])
def test_tool_of_unknown_type_is_named_without_its_text(kind: str) -> None:
    assert requested_kinds([{"type": kind}]) == ["other"]
    assert runs_in({"output": [{"type": f"{kind}_call"}]}) == {"other": 1}
    assert runs_in_message({"content": [{"type": "server_tool_use", "name": kind}]}) == {"other": 1}


@pytest.mark.parametrize("tools", [None, {}, "x", 7, [None, 7, "x"], [{}], [{"type": None, "name": "own"}]])
def test_application_tools_are_not_provider_tools(tools: object) -> None:
    assert requested_kinds(tools) is None
