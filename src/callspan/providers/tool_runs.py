"""Tool runs: the tools of the provider that a request names, and the numbers of their runs that an answer states.

Their prices are not known here. A tool of an unknown type is one of the provider's, so that none is free by mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

from callspan.providers.hosted_tools import is_of_application
from callspan.providers.wire_json import count, items, mapping, objects, text
from callspan.record.call import Request
from callspan.record.usage import Usage
from callspan.record.wire_fields import APPLICATION_TOOLS, REQUESTED_TOOLS

Runs: TypeAlias = dict[str, int | None]
"""Numbers of runs by tool; None for an unknown number."""
WEB_SEARCH: Final = "web_search"
_EARLIER_SEARCH: Final = "web_search_preview"
"""OpenAI's earlier tool, which runs as `web_search_call` too; its fee depends on the model."""
_X_SEARCH: Final = "x_search"
_OTHER: Final = "other"
"""A type that is no keyword, and so may be text of the application."""
_KEYWORD: Final = re.compile(r"(?=.{1,48}\Z)[a-z]+(?:[_:][a-z0-9]+){0,6}")
_DATE: Final = re.compile(r"_[0-9]{4}_?[0-9]{2}_?[0-9]{2}\Z")
_REQUESTED_OF_APPLICATION: Final = APPLICATION_TOOLS | REQUESTED_TOOLS
_BUILT_IN: Final = "builtin_function"
"""Moonshot's type of its own tools, which have a function's form and a name such as `$web_search`."""
NO_RUNS: Final = frozenset(
    {
        "message", "reasoning", "compaction", "additional_tools", "mcp_list_tools", "mcp_approval_request",
        "mcp_approval_response",
    }
)  # fmt: skip
"""Types of items in the Responses API that are no runs of tools, besides outputs."""
_SEARCHED: Final = frozenset({"search_results", "citations", "search_info", "web_search"})
"""Keys of answers with what a search found: Perplexity, Baidu, DashScope, Z.ai."""
_EXECUTED: Final = "executed_tools"
_NOTES: Final = "annotations"
"""Keys of a message that may show runs; most messages have an empty list of annotations."""
_SEARCH_COUNTERS: Final = ("num_requests",)
_OF_USAGE: Final = {"image_gen": "image_generation"}
"""Names in `tool_usage` of tools that have another one as items."""
_COUNTED_IN_USAGE: Final = frozenset({WEB_SEARCH, "web_fetch"})
"""Tools of Messages. Its usage counts their runs."""
_CONTAINER: Final = "container"
_IN_CONTAINER: Final = "code_execution"
"""Part of the names of tools of Messages that run in a container."""
_HOUR: Final = "1h"
_KEPT_AN_HOUR: Final = re.compile(rb'"ttl"\s*:\s*"1h"')
"""In JSON; within a text of the application its quotes are escaped."""


def requested_kinds(tools: object) -> list[str] | None:
    """Return the types of a request's tools that its provider may run, without their dates; None without such tools."""
    if not tools:  # as in most requests
        return None
    return hosted_kinds(kind for tool in objects({"tools": tools}, "tools") for kind in _declared_types(tool))


def hosted_kinds(declared_types: Iterable[object]) -> list[str] | None:
    """Return those of the types of tools that a provider may run, without their dates; None without such tools."""
    return sorted(set(map(_keyword, declared_types)) - _REQUESTED_OF_APPLICATION) or None


def _declared_types(tool: dict[str, object]) -> list[str]:
    """Return the type of a tool; in Gemini's form, `{"google_search": {}}`, an object may have several."""
    declared_type = text(tool, "type")
    if declared_type is None:
        return ["custom"] if "name" in tool or "function" in tool else list(tool)
    return [(text(tool, "function", "name") or "").removeprefix("$") if declared_type == _BUILT_IN else declared_type]


def _keyword(declared_type: object) -> str:
    """Return a type without its date if it is a keyword of an API."""
    kind = _DATE.sub("", declared_type) if isinstance(declared_type, str) else ""
    return kind if _KEYWORD.fullmatch(kind) else _OTHER


def with_runs(usage: Usage | None, runs: Runs) -> Usage | None:
    """Return the usage with the runs of hosted tools that an answer states beside it; the same object without runs."""
    return msgspec.structs.replace(usage, hosted_tools=runs) if usage is not None and runs else usage


def runs_in(body: dict[str, object]) -> Runs:
    """Return the runs of hosted tools that an answer in OpenAI's form states outside of its usage, by tool."""
    runs: Runs = {}
    for item in objects(body, "output") if "output" in body else ():
        _add(runs, _tool_of_item(item))
    if WEB_SEARCH in runs and any(map(_is_earlier_search, objects(body, "tools"))):
        runs[_EARLIER_SEARCH] = runs.pop(WEB_SEARCH)
    for choice in items(body, "choices"):
        message = choice.get("message") if isinstance(choice, dict) else None
        if isinstance(message, dict) and (message.get(_EXECUTED) or message.get(_NOTES)):
            _add_of_message(runs, message)
    if not _SEARCHED.isdisjoint(body) and any(body.get(name) for name in _SEARCHED):
        runs.setdefault(WEB_SEARCH, None)
    if "tool_usage" in body:
        _add_of_usage(runs, mapping(body, "tool_usage") or {})
    return runs


def _is_earlier_search(tool: dict[str, object]) -> bool:
    return (text(tool, "type") or "").startswith(_EARLIER_SEARCH)


def _add(runs: Runs, tool: str | None) -> None:
    if tool is not None:
        runs[tool] = (runs.get(tool) or 0) + 1


def _tool_of_item(item: dict[str, object]) -> str | None:
    """Return the tool that ran, of an item of the Responses API; None for one of the application or no run."""
    kind = text(item, "type") or "message"
    tool = kind.removesuffix("_call")
    if kind in NO_RUNS or kind.endswith("_output") or is_of_application(tool, item):
        return None
    return _X_SEARCH if tool == "custom_tool" else _keyword(tool)


def _add_of_message(runs: Runs, message: dict[str, object]) -> None:
    """Add the runs of Groq's systems, and a search that only its citations show."""
    for tool in objects(message, _EXECUTED):
        _add(runs, _keyword(text(tool, "type")))
    if any(text(note, "type") == "url_citation" for note in objects(message, _NOTES)):
        runs.setdefault(WEB_SEARCH, None)


def _add_of_usage(runs: Runs, tool_usage: dict[str, object]) -> None:
    """Add the tools that only `tool_usage` counts, in a unit of their own such as the tokens of an image."""
    for name, counters in tool_usage.items():
        tool = _OF_USAGE.get(name, _keyword(name))
        skipped = _SEARCH_COUNTERS if tool == WEB_SEARCH else ()
        if tool not in runs and any(states_any(member) for key, member in _members(counters) if key not in skipped):
            runs[tool] = None


def _members(counters: object) -> Iterator[tuple[str, object]]:
    yield from counters.items() if isinstance(counters, dict) else [("", counters)]


def states_any(counters: object) -> bool:
    """Return whether a value is a number other than 0, or contains one."""
    if isinstance(counters, dict):
        return any(map(states_any, counters.values()))
    if isinstance(counters, list):
        return any(map(states_any, counters))
    return isinstance(counters, int | float) and not isinstance(counters, bool) and counters != 0


def runs_in_message(body: dict[str, object]) -> Runs:
    """Return the runs of hosted tools in an answer of Messages that its usage does not count.

    A container is charged by its hours, not by the runs of code in it.
    """
    runs: Runs = {}
    for block in items(body, "content"):
        if isinstance(block, dict) and block.get("type") == "server_tool_use":
            tool = _keyword(block.get("name"))
            if _IN_CONTAINER in tool:
                runs[_CONTAINER] = 1
            elif count(body, "usage", "server_tool_use", f"{tool}_requests") is None or tool not in _COUNTED_IN_USAGE:
                _add(runs, tool)
    if mapping(body, _CONTAINER) is not None:
        runs[_CONTAINER] = 1
    return runs


def with_cache_ttl(request: Request) -> Request:
    """Return the request with the lifetime of what it writes to the prompt cache, if a part of it asks for an hour."""
    is_hour = _KEPT_AN_HOUR.search(bytes(request.body)) is not None
    return msgspec.structs.replace(request, cache_ttl=_HOUR) if is_hour else request
