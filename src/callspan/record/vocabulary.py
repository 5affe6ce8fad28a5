"""Vocabulary: marks callspan's own words in fields that may also hold text, and who defines the keys of a mapping.

The types of the fields say so, and a redactor of texts reads them: a field without such an annotation is the
application's.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec

from callspan.record.labels import EXTRA

EventType: TypeAlias = Literal[
    "action", "agent", "agent_start", "environment", "guardrail", "handoff", "tool", "tool_start"
]
MessageType: TypeAlias = Literal["observation", "action", "feedback", "question"]
System: TypeAlias = Literal["agent", "env", "environment", "user", "codex"]
"""The sender or receiver of a message."""
Objective: TypeAlias = Literal["reward", "feedback"]
RewardSource: TypeAlias = Literal["environment", "evaluator", "human"]
ErrorKind: TypeAlias = Literal[
    "rate_limit", "quota", "timeout", "connection", "auth", "permission", "not_found", "bad_input", "context_length",
    "content_filter", "overloaded", "server", "parsing", "cancelled", "unknown",
]  # fmt: skip
ErrorType: TypeAlias = Literal["tool_error", "interrupted", "null", "error", "_OTHER"]
CachedBy: TypeAlias = Literal["http", "client", "repeated"]
CostSource: TypeAlias = Literal["provider"]
DATA_FIELDS: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(("tool", "tool_start"), frozenset({"arguments", "result"})),
    **dict.fromkeys(("agent", "agent_start", "guardrail", "handoff"), frozenset({"input", "output"})),
    "environment": frozenset({"before", "after", "info"}),
}
"""The members that callspan defines in the data of an event, by its type."""
HOSTED_TOOLS: Final = frozenset(
    [
        "advisor",
        "browser_search",
        "builtin_function",
        "code_execution",
        "code_interpreter",
        "enterprise_web_search",
        "exa_ai_search",
        "file_search",
        "google_maps",
        "google_search",
        "google_search_retrieval",
        "image_generation",
        "mcp",
        "mcp_server",
        "mcp_servers",
        "mcp_toolset",
        "nova_grounding",
        "openrouter:web_search",
        "parallel_ai_search",
        "programmatic_tool_calling",
        "retrieval",
        "shell",
        "tool_search",
        "tool_search_tool_bm25",
        "tool_search_tool_regex",
        "url_context",
        "web_fetch",
        "web_search",
        "web_search_preview",
        "x_search",
    ]
)
"""Types of tools that a provider runs; any other one might be text of the application."""
METADATA_FIELDS: Final = frozenset(
    {
        "application",
        "environment",
        "organization_id",
        "project_id",
        "user_id",
        "agent",
        "agent_id",
        "tags",
        "workflow_id",
        "workflow_name",
        "run_id",
        "step",
        "step_index",
        "prompt_id",
        "prompt_version",
        "purpose",
        "internal_organization_id",
        "internal_project_id",
        "internal_user_id",
    }
)
"""`internal_*` fields identify the platform's operator, the others its customers."""

WORDS: Final = "words"
"""The key in `extra` of a field's annotation with its own words."""
KEYS: Final = "keys"
"""The key in `extra` of a field's annotation that says who defines its keys."""
WIRE: Final = msgspec.Meta(extra={KEYS: "wire"})
"""Marks JSON with keys that a provider's API defines; the keys of any other JSON are the application's."""


def own_words(words: Any) -> msgspec.Meta:
    """Return the mark of a text that is one of callspan's words (a Literal or texts) or any other text."""
    return msgspec.Meta(extra={WORDS: frozenset(get_args(words) or words)})


MetadataField: TypeAlias = Annotated[str, own_words({*METADATA_FIELDS, EXTRA})]
"""A key of a record's metadata."""
HostedTool: TypeAlias = Annotated[str, own_words({*HOSTED_TOOLS, "container", "other"})]
"""A kind of tool that a provider runs."""
