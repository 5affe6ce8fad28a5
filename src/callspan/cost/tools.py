"""Tools: the tools of the provider that a call has used, or may have used, and that are charged besides tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from callspan.record.call import CallRecord, removed_from

WEB_SEARCH: Final = "web_search"
_EARLIER_SEARCH: Final = "web_search_preview"
"""OpenAI's earlier tool, which runs instead of the other."""
_OPENAI: Final = frozenset({"openai", "azure.ai.openai", "aws.bedrock"})
_ANTHROPIC: Final = frozenset({"anthropic", "aws.bedrock", "gcp.vertex_ai", "azure.ai.inference"})
_GEMINI: Final = "gcp.gemini"
_GOOGLE: Final = frozenset({_GEMINI, "gcp.vertex_ai"})
FREE_TOOLS: Final[Mapping[str, frozenset[str]]] = {
    # "You only pay for tokens used when importing tool definitions or making tool calls" (OpenAI, MCP and connectors);
    # Anthropic's MCP connector has no price besides tokens.
    "mcp": _OPENAI | _ANTHROPIC,
    "mcp_toolset": _ANTHROPIC,
    # Neither price list has a fee for it: the tools that it finds are input tokens.
    "tool_search": _OPENAI | _ANTHROPIC,
    "tool_search_tool_bm25": _ANTHROPIC,
    "tool_search_tool_regex": _ANTHROPIC,
    # "No additional charges beyond standard token costs" (Anthropic, web fetch tool).
    "web_fetch": _ANTHROPIC,
    # Its tokens are an iteration of the usage, priced by its own model.
    "advisor": _ANTHROPIC,
    # "No additional charge for enabling code execution", "content retrieved from the URLs is counted as part of the
    # input tokens", "retrieved document tokens are charged as regular context tokens" (ai.google.dev/gemini-api/docs).
    "code_execution": _GOOGLE,
    "url_context": _GOOGLE,
    "file_search": frozenset({_GEMINI}),
    # What a server of the application's choice returns is input.
    **dict.fromkeys(("mcp_server", "mcp_servers"), _GOOGLE),
}
"""Tools without a fee per run, and the providers where this is so."""
_STATES_RUNS: Final = frozenset(
    {
        *((provider, "responses") for provider in (*_OPENAI, "x_ai")),  # an output item for each run
        *((provider, "messages") for provider in _ANTHROPIC),  # a block for each run
        ("groq", "chat_completions"),  # `executed_tools`
    }
)
"""Providers and APIs that state each run in the answer. Elsewhere a requested tool may have run."""
_OF_PARAMS: Final[Mapping[tuple[str, ...], str]] = {
    ("web_search_options",): WEB_SEARCH,  # OpenAI, Perplexity
    ("search_parameters",): WEB_SEARCH,  # xAI, by source
    ("enable_search",): WEB_SEARCH,  # DashScope
    ("search_options",): WEB_SEARCH,  # DashScope
    ("web_search",): WEB_SEARCH,  # Baidu
    ("plugins",): "plugins",  # OpenRouter: web search, reading of files
    ("guardrail_config",): "guardrail",  # Bedrock, by text units of each policy
    ("connectors",): "connectors",  # Cohere
    ("cached_content",): "cache_storage",  # Gemini, by the hour
    ("extra_body", "google", "cached_content"): "cache_storage",
}
"""Parameters that request a service besides the model's, and its name."""
_OFF: Final[tuple[object, ...]] = (None, False, "", [], "off", "none")
_SWITCHES: Final = ("mode", "enable", "enabled")
_ROUTER: Final = "prompt-router/"
"""Part of the ARNs of Bedrock's routers, which choose a model for a fee."""
_SEARCHING_MODELS: Final = ("-search-", ":online")
"""Parts of the names of models that always search the web: OpenAI's, and OpenRouter's short form of a plugin."""


def tool_runs(record: CallRecord) -> dict[str, int | None]:
    """Return the numbers of runs of hosted tools that are charged by run or by time; None for an unknown number."""
    usage = record.usage
    runs: dict[str, int | None] = {} if usage is None else dict(usage.hosted_tools)
    searches = None if usage is None else usage.web_search_requests
    for tool in _requested(record):
        runs.setdefault(tool, None)
    search = _EARLIER_SEARCH if _EARLIER_SEARCH in runs else WEB_SEARCH
    # An answer also has an item for each page that is opened.
    if searches is not None or search in runs:
        runs[search] = searches
    return {tool: count for tool, count in runs.items() if count != 0 and not _is_free(record.provider, tool)}


def _is_free(provider: str, tool: str) -> bool:
    return provider in FREE_TOOLS.get(tool, ())


def _requested(record: CallRecord) -> Iterator[str]:
    """Yield the tools that a request asks for, if the answer does not state how often they ran."""
    request = record.request
    if request.hosted_tools and (record.provider, record.api) not in _STATES_RUNS:
        yield from (tool.rpartition(":")[2] for tool in request.hosted_tools)  # openrouter:web_search
    if any(part in (request.model or "") for part in _SEARCHING_MODELS):
        yield WEB_SEARCH
    if _ROUTER in (request.model or ""):
        yield "prompt_router"
    if request.params or record.redactions:
        removed_paths = removed_from(record)
        for path, tool in _OF_PARAMS.items():
            is_named = path[0] in request.params
            if (is_named and _is_on(request.params, path)) or (
                removed_paths and f"request.params.{path[0]}" in removed_paths
            ):
                yield tool


def _is_on(value: object, path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    switches = [value[name] for name in _SWITCHES if name in value] if isinstance(value, dict) else [value]
    return not switches or any(switch not in _OFF for switch in switches)
