"""Vocabularies: under which names the spans of other instrumentations state what they are and what they count.

These are the GenAI conventions, current and deprecated, OpenInference, OpenLLMetry in Python and TypeScript, Vercel's
AI SDK 4 to 6, pydantic-ai, Logfire and Langfuse. A new vocabulary is a row in these tables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from callspan.record.labels import TENANT_KEYS, label

Kind: TypeAlias = Literal["chat", "text_completion", "embeddings", "scope", "step"]
"""What a span stands for: a call of a model, by its operation; a `scope` with calls of its own, such as an agent or a
tool; or a `step`, which only groups spans."""
CALLS: Final[frozenset[Kind]] = frozenset({"chat", "text_completion", "embeddings"})
UNKNOWN: Final = "unknown"


class SpanKind(NamedTuple):
    """What a span is, and the API of its call if it says so."""

    kind: Kind
    api: str = UNKNOWN


OPERATIONS: Final[Mapping[str, Kind]] = {
    "chat": "chat", "generate_content": "chat", "text_completion": "text_completion", "embeddings": "embeddings",
    "invoke_workflow": "scope", "invoke_agent": "scope", "create_agent": "scope", "execute_tool": "scope",
    "plan": "scope", "retrieval": "scope", "search_memory": "scope",
}  # fmt: skip
_SPAN_KINDS: Final[Mapping[str, Kind]] = {
    "LLM": "chat", "EMBEDDING": "embeddings", "CHAIN": "step", "PROMPT": "step", "AGENT": "scope", "TOOL": "scope",
    "RETRIEVER": "scope", "RERANKER": "scope", "GUARDRAIL": "scope", "EVALUATOR": "scope", "DECISION": "scope",
}  # fmt: skip
_REQUEST_TYPES: Final[Mapping[str, Kind]] = {
    "chat": "chat", "completion": "text_completion", "embedding": "embeddings", "rerank": "scope",
}  # fmt: skip
_ENTITY_KINDS: Final[Mapping[str, Kind]] = {"task": "step", "workflow": "scope", "agent": "scope", "tool": "scope"}

VERCEL: Final = "ai.operationId"
_VERCEL_KINDS: Final[Mapping[str, Kind]] = {
    "doGenerate": "chat", "doStream": "chat", "doEmbed": "embeddings", "toolCall": "scope", "doRerank": "scope",
}  # fmt: skip
"""By the last word of its operation. Others are around these: they send no request."""
_MCP_METHOD: Final = "mcp.method.name"
MCP_CALL: Final = "tools/call"
"""The method by which a client of MCP runs a tool. In the name of its span the tool follows."""
KINDS: Final[tuple[tuple[str, Mapping[str, Kind]], ...]] = (
    ("gen_ai.operation.name", OPERATIONS),
    ("openinference.span.kind", _SPAN_KINDS),
    (VERCEL, _VERCEL_KINDS),
    ("llm.request.type", _REQUEST_TYPES),
    ("traceloop.span.kind", _ENTITY_KINDS),
    (_MCP_METHOD, {MCP_CALL: "scope"}),
)
"""The attributes that say what a span is; the first one that a span has decides."""

Role: TypeAlias = Literal["agent", "workflow", "tool", "chain"]
"""What a span is of an agent's work: a run of an agent; a workflow, which is around agents; a run of a tool; or a
`chain` of steps, which is a workflow if an agent or a tool runs in it."""
_OPERATION_ROLES: Final[Mapping[str, Role]] = {
    "invoke_agent": "agent", "invoke_workflow": "workflow", "execute_tool": "tool",
}  # fmt: skip
_SPAN_ROLES: Final[Mapping[str, Role]] = {"AGENT": "agent", "CHAIN": "chain", "TOOL": "tool"}
_VERCEL_ROLES: Final[Mapping[str, Role]] = {
    "generateText": "chain", "streamText": "chain", "generateObject": "chain", "streamObject": "chain",
    "toolCall": "tool",
}  # fmt: skip
_ENTITY_ROLES: Final[Mapping[str, Role]] = {"workflow": "workflow", "agent": "agent", "tool": "tool"}
ROLES: Final[tuple[tuple[str, Mapping[str, Role]], ...]] = (
    ("gen_ai.operation.name", _OPERATION_ROLES),
    ("openinference.span.kind", _SPAN_ROLES),
    (VERCEL, _VERCEL_ROLES),
    ("traceloop.span.kind", _ENTITY_ROLES),
    (_MCP_METHOD, {MCP_CALL: "tool"}),
)
"""The attributes that say a span's role; the first one that a span has decides. Some spans get them after their start:
until then the first word of their name is their operation."""
ROLE_ATTRIBUTES: Final = frozenset(name for name, _ in ROLES)
ROLE_NAMES: Final = tuple(_OPERATION_ROLES)
"""How the name of a span begins whose role it says."""
TOOL_NAME: Final = ("gen_ai.tool.name", "tool.name", "ai.toolCall.name", "traceloop.entity.name")
TOOL_CALL_ID: Final = ("gen_ai.tool.call.id", "tool_call.id", "tool.id", "ai.toolCall.id")
ARGUMENTS: Final = (
    "gen_ai.tool.call.arguments", "ai.toolCall.args", "gcp.vertex.agent.tool_call_args", "traceloop.entity.input",
    "input.value",
)  # fmt: skip
RESULT: Final = (
    "gen_ai.tool.call.result", "ai.toolCall.result", "gcp.vertex.agent.tool_response", "traceloop.entity.output",
    "output.value",
)  # fmt: skip
"""OpenInference's `tool.parameters` is not among the arguments: most of its instrumentations state the schema there."""
TOOL_MESSAGE: Final = ("gen_ai.tool.message", "content")
TOOL_CHOICE: Final = ("gen_ai.choice", "message")
"""Events of a tool's span, each with its attribute that has the arguments, or the result."""
DETAILS: Final = "gen_ai.client.inference.operation.details"
"""Event with input and output as messages; of a tool they have the parts `TOOL_PARTS`."""
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
ASKED: Final = (INPUT_MESSAGES, "ai.prompt.messages", "gen_ai.prompt")
ASKED_FLAT: Final = ("llm.input_messages.", "gen_ai.prompt.")
"""Where a call's span states its messages: as a list or JSON text, or flat, by the beginning of the attributes."""
INSTRUCTIONS: Final = ("gen_ai.system_instructions",)
TOOLS: Final = ("gen_ai.tool.definitions", "ai.prompt.tools")
TOOLS_FLAT: Final = ("llm.tools.", "llm.request.functions.")
ANSWERED: Final = (OUTPUT_MESSAGES, "gen_ai.completion")
ANSWERED_FLAT: Final = ("llm.output_messages.", "gen_ai.completion.")
ANSWER_TEXT: Final = ("ai.response.text", "ai.response.object")
REASONING: Final = ("ai.response.reasoning",)
TOOL_CALLS: Final = ("ai.response.toolCalls",)
"""Where it states the answer: its messages, or the pieces of the only one."""
FLAT_WORDS: Final = frozenset({"message", "message_content", "tool_call", "tool"})
"""Words in the names of flat attributes that only group others."""
CALL_PARTS: Final = frozenset({"tool_call", "tool-call", "tool_use", "toolUse", "function_call"})
RESULT_PARTS: Final = frozenset(
    {"tool_call_response", "tool-result", "tool_result", "toolResult", "function_call_output"}
)
"""Types of parts of messages: a tool call, and its result."""
CALL_IDS: Final = ("id", "toolCallId", "tool_use_id", "toolUseId", "tool_call_id", "call_id")
CALL_NAMES: Final = ("name", "toolName")
CALL_ARGUMENTS: Final = ("arguments", "input", "args")
CALL_RESULTS: Final = ("response", "result", "output", "content")
"""Members of these parts."""
RUN_NAME: Final = (
    "gen_ai.agent.name", "gen_ai.workflow.name", "agent.name", "traceloop.entity.name", "ai.telemetry.functionId",
)  # fmt: skip
_LATE: Final = "openinference.instrumentation."
"""Beginning of the names of instrumentations of which some say only at the end of a span what it is."""
AGENT_WORD: Final = "Agent"
"""A word in the name of such a span that is an agent's, or within one."""
_REMARK: Final = "("
"""How the name of a tool begins that is none, as in `(merged tools)`."""

_OPENLLMETRY: Final = "opentelemetry.instrumentation."
_OPENINFERENCE: Final = "openinference.instrumentation."
NAMED: Final[Mapping[tuple[str, str], SpanKind]] = {
    (f"{_OPENLLMETRY}openai", "openai.chat"): SpanKind("chat", "chat_completions"),
    (f"{_OPENLLMETRY}openai", "openai.response"): SpanKind("chat", "responses"),
    (f"{_OPENLLMETRY}openai", "openai.completion"): SpanKind("text_completion", "completions"),
    (f"{_OPENLLMETRY}openai", "openai.embeddings"): SpanKind("embeddings", "embeddings"),
    (f"{_OPENLLMETRY}anthropic", "anthropic.chat"): SpanKind("chat", "messages"),
    (f"{_OPENINFERENCE}openai", "ChatCompletion"): SpanKind("chat", "chat_completions"),
    (f"{_OPENINFERENCE}openai", "Response"): SpanKind("chat", "responses"),
    (f"{_OPENINFERENCE}openai", "Completion"): SpanKind("text_completion", "completions"),
    (f"{_OPENINFERENCE}openai", "CreateEmbeddings"): SpanKind("embeddings", "embeddings"),
    (f"{_OPENINFERENCE}anthropic", "messages.create"): SpanKind("chat", "messages"),
    (f"{_OPENINFERENCE}anthropic", "messages.stream"): SpanKind("chat", "messages"),
    (f"{_OPENINFERENCE}anthropic", "beta.messages.create"): SpanKind("chat", "messages"),
}
"""What the names of spans say beyond their attributes, by the instrumentation that gives them. OpenLLMetry's spans of
Responses had no attribute that says what they are, and its spans of Anthropic's messages said `completion`."""
_VERSION: Final = re.compile(r"\.v\d+$")
API_TYPE: Final = "openai.api.type"
API_TYPES: Final = frozenset({"chat_completions", "responses"})
VERCEL_APIS: Final[Mapping[str, str]] = {
    **{
        f"{provider}.{suffix}": api
        for provider in ("openai", "azure", "azure-openai")
        for suffix, api in (
            ("chat", "chat_completions"), ("responses", "responses"), ("completion", "completions"),
            ("embedding", "embeddings"), ("embeddings", "embeddings"),
        )
    },
    **dict.fromkeys(("groq.chat", "mistral.chat", "xai.chat", "deepseek.chat", "togetherai.chat"), "chat_completions"),
    "xai.responses": "responses",
    "anthropic.messages": "messages", "vertex.anthropic.messages": "messages",
    "google.generative-ai": "generate_content", "google.vertex.chat": "generate_content",
}  # fmt: skip
"""The API that the name of a Vercel provider says."""

PROVIDER: Final = (
    "gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "llm.vendor", "ai.model.provider",
)  # fmt: skip
PROVIDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("openai",),
    "anthropic": ("anthropic", "claude"),
    "azure.ai.openai": ("azure.ai.openai", "az.ai.openai", "azure", "azure_openai", "microsoft"),
    "azure.ai.inference": ("azure.ai.inference", "az.ai.inference", "azure_ai", "azure_ai_inference"),
    "aws.bedrock": ("aws.bedrock", "aws", "bedrock", "amazon", "amazon_bedrock", "bedrock_converse"),
    "gcp.gemini": (
        "gcp.gemini", "gcp.gen_ai", "gcp", "google", "gemini", "google_ai", "google_genai", "google_gla",
        "google_ai_studio", "google_generative_ai", "google.generative-ai",
    ),
    "gcp.vertex_ai": (
        "gcp.vertex_ai", "vertex_ai", "vertex", "google_vertex", "google_vertex_ai", "google.vertex", "vertex_ai_beta",
    ),
    "mistral_ai": ("mistral_ai", "mistral"),
    "x_ai": ("x_ai", "grok"),
    "moonshot_ai": ("moonshot_ai", "moonshot", "kimi"),
    "ibm.watsonx.ai": ("ibm.watsonx.ai", "watsonx", "watsonx_ai", "ibm_watsonx", "ibm"),
    "cohere": ("cohere",),
    "deepseek": ("deepseek",),
    "groq": ("groq",),
    "perplexity": ("perplexity", "perplexity_ai"),
    "together": ("together", "together_ai"),
    "fireworks": ("fireworks", "fireworks_ai"),
    "cerebras": ("cerebras",),
    "openrouter": ("openrouter",),
    "huggingface": ("hugging_face",),
    "z_ai": ("z_ai", "zhipu", "zhipu_ai"),
    "alibaba": ("alibaba", "dashscope", "qwen"),
    "voyageai": ("voyage_ai", "voyage"),
    "ollama": ("ollama",),
    "minimax": ("minimax",),
    "nvidia": ("nvidia", "nvidia_nim"),
    "sambanova": ("sambanova",),
    "deepinfra": ("deepinfra",),
    "snowflake": ("snowflake",),
    "databricks": ("databricks",),
    "cloudflare": ("cloudflare", "workers_ai"),
}  # fmt: skip
"""Every provider's names in these vocabularies, without regard to case, dots, hyphens and underscores. A name with more
parts, such as `openai.chat`, counts as its first parts."""
_SEPARATORS: Final = str.maketrans("", "", "._- ")
_BY_NAME: Final = {
    name.translate(_SEPARATORS): provider for provider, names in PROVIDERS.items() for name in (provider, *names)
}
WITH_CACHES: Final = frozenset(
    {
        "openai", "anthropic", "azure.ai.openai", "azure.ai.inference", "aws.bedrock", "gcp.gemini", "gcp.vertex_ai",
        "deepseek", "groq", "x_ai", "moonshot_ai", "openrouter", "fireworks", "z_ai", "alibaba", "mistral_ai",
    }
)  # fmt: skip
"""Providers with another price for cached input."""

REQUEST_MODEL: Final = (
    "gen_ai.request.model", "llm.request.model_name", "llm.model_name", "llm.request.model", "embedding.model_name",
    "ai.model.id",
)  # fmt: skip
RESPONSE_MODEL: Final = (
    "gen_ai.response.model", "llm.response.model_name", "llm.response.model", "ai.response.model",
)  # fmt: skip
RESPONSE_ID: Final = ("gen_ai.response.id", "llm.response.id", "ai.response.id")
STREAM: Final = ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming")
FINISH_REASONS: Final = (
    "gen_ai.response.finish_reasons", "gen_ai.response.finish_reason", "llm.response.finish_reason",
    "llm.finish_reason", "gen_ai.completion.0.finish_reason", "llm.completions.0.finish_reason",
    "ai.response.finishReason",
)  # fmt: skip
"""Each is a list, a list as JSON text, or one word."""
ERROR_TYPE: Final = "error.type"
STATUS: Final = ("http.response.status_code", "http.status_code")
_OF_APPLICATION: Final = "traceloop.association.properties."
"""Prefix under which OpenLLMetry sets what the application says of a span."""
SESSION: Final = (
    "gen_ai.conversation.id", "session.id", f"{_OF_APPLICATION}session_id", "langfuse.session.id",
    "ai.telemetry.metadata.sessionId",
)  # fmt: skip
METADATA: Final[Mapping[str, tuple[str, ...]]] = {
    "user_id": (
        "user.id", "enduser.id", "langfuse.user.id", "gen_ai.user", "llm.user", f"{_OF_APPLICATION}user_id",
        "ai.telemetry.metadata.userId",
    ),
    **{key: (f"{_OF_APPLICATION}{key}", f"langfuse.trace.metadata.{key}", key) for key in TENANT_KEYS},
    "agent_id": ("gen_ai.agent.id",),
    "workflow_name": ("gen_ai.workflow.name", "traceloop.workflow.name"),
    "prompt_id": ("gen_ai.prompt.name", "traceloop.prompt.key"),
    "prompt_version": ("gen_ai.prompt.version", "traceloop.prompt.version", "llm.prompt_template.version"),
    "tags": ("tag.tags", "logfire.tags", "langfuse.trace.tags"),
}  # fmt: skip
"""Fields of callspan's metadata, by the attributes that state them."""
ABOUT_RUNS: Final = (
    *(name for name, _ in ROLES), *TOOL_NAME, *TOOL_CALL_ID, *RUN_NAME, *SESSION, ERROR_TYPE,
    *(name for key in ("user_id", *TENANT_KEYS) for name in METADATA[key]),
)  # fmt: skip
"""What a receiver keeps of the spans of agents and tools until all that is around them has come; none is content."""

_USAGE: Final = "gen_ai.usage."
_DETAILS: Final = "gen_ai.usage.details."
_TOKENS: Final = "llm.token_count."
COUNTERS: Final[Mapping[str, tuple[str, ...]]] = {
    "input_tokens": (
        f"{_USAGE}input_tokens", f"{_USAGE}prompt_tokens", f"{_TOKENS}prompt", "ai.usage.inputTokens",
        "ai.usage.promptTokens", "llm.usage.prompt_tokens", "ai.usage.tokens",
    ),
    "output_tokens": (
        f"{_USAGE}output_tokens", f"{_USAGE}completion_tokens", f"{_TOKENS}completion", "ai.usage.outputTokens",
        "ai.usage.completionTokens", "llm.usage.completion_tokens",
    ),
    "total_tokens": (
        f"{_USAGE}total_tokens", "llm.usage.total_tokens", f"{_TOKENS}total", "ai.usage.totalTokens",
    ),
    "cache_read_tokens": (
        f"{_USAGE}cache_read.input_tokens", f"{_USAGE}cache_read_input_tokens", f"{_USAGE}cached_input_tokens",
        f"{_USAGE}cache_read_tokens", f"{_TOKENS}prompt_details.cache_read",
        "ai.usage.inputTokenDetails.cacheReadTokens", "ai.usage.cachedInputTokens",
        f"{_DETAILS}cache_read_tokens", f"{_DETAILS}cache_read_input_tokens", f"{_DETAILS}cached_tokens",
        f"{_DETAILS}cached_content_tokens", f"{_TOKENS}prompt_details.cache_input",
    ),
    "cache_write_tokens": (
        f"{_USAGE}cache_write.input_tokens", f"{_USAGE}cache_creation.input_tokens",
        f"{_USAGE}cache_creation_input_tokens", f"{_USAGE}cache_write_tokens", f"{_TOKENS}prompt_details.cache_write",
        "ai.usage.inputTokenDetails.cacheWriteTokens", f"{_DETAILS}cache_write_tokens",
        f"{_DETAILS}cache_creation_input_tokens",
    ),
    "reasoning_tokens": (
        f"{_USAGE}reasoning.output_tokens", f"{_USAGE}reasoning_tokens", "llm.usage.reasoning_tokens",
        f"{_TOKENS}completion_details.reasoning", "ai.usage.outputTokenDetails.reasoningTokens",
        "ai.usage.reasoningTokens", f"{_DETAILS}reasoning_tokens", f"{_DETAILS}thoughts_tokens",
    ),
    "input_text_tokens": (f"{_USAGE}text.input_tokens",),
    "input_image_tokens": (f"{_USAGE}image.input_tokens",),
    "input_audio_tokens": (
        f"{_USAGE}audio.input_tokens", f"{_TOKENS}prompt_details.audio", f"{_DETAILS}input_audio_tokens",
    ),
    "output_text_tokens": (f"{_USAGE}text.output_tokens",),
    "output_image_tokens": (f"{_USAGE}image.output_tokens",),
    "output_audio_tokens": (
        f"{_USAGE}audio.output_tokens", f"{_TOKENS}completion_details.audio", f"{_DETAILS}output_audio_tokens",
    ),
    "cache_read_text_tokens": (f"{_USAGE}text.cache_read.input_tokens",),
    "cache_read_image_tokens": (f"{_USAGE}image.cache_read.input_tokens",),
    "cache_read_audio_tokens": (f"{_USAGE}audio.cache_read.input_tokens",),
}  # fmt: skip
"""Counters of `Usage`, by the attributes that state them: integers, doubles, or texts."""
COST: Final = (
    "gen_ai.cost.total_cost", "operation.cost", "llm.cost.total", "gen_ai.usage.cost", "gen_ai.usage.total_cost",
)  # fmt: skip
"""The cost of the call in US dollars."""
VERCEL_METADATA: Final = "ai.response.providerMetadata"
"""JSON text. Vercel's SDK 5 keeps the usage objects of Anthropic and Google in it."""
VERCEL_INPUT_DETAILS: Final = "ai.usage.inputTokenDetails.noCacheTokens"
"""Counter of Vercel's SDK 6. Its input includes what was cached on every provider; SDK 5 states the provider's own
input."""


def kind_of(attributes: Mapping[str, object], scope: str | None, name: str) -> SpanKind | None:
    """Return what a span is by the name of its instrumentation (`scope`), its own name, and its attributes; else None.

    None too for a kind that is in no table, which is no call.
    """
    named = NAMED.get((_VERSION.sub("", scope or ""), name))
    for attribute, kinds in KINDS:
        value = attributes.get(attribute)
        if not isinstance(value, str) or not value:
            continue
        kind = kinds.get(value.rpartition(".")[2] if attribute == VERCEL else value)
        if kind not in CALLS:
            return None if kind is None else SpanKind(kind)
        if named is not None and attribute == "llm.request.type":
            return named
        return SpanKind(
            kind, _stated_api(attributes) or (UNKNOWN if named is None or named.kind != kind else named.api)
        )
    return named


def role_of(attributes: Mapping[str, object], scope: str | None, name: str) -> Role | None:
    """Return what a span is of an agent's work, as far as it says by now; None for other spans.

    `scope` is the name of its instrumentation, `name` its own name.
    """
    for attribute, roles in ROLES:
        value = attributes.get(attribute)
        if isinstance(value, str) and value:
            role = roles.get(value.rpartition(".")[2] if attribute == VERCEL else value)
            break
    else:
        role = role_named(name) or ("workflow" if AGENT_WORD in name and says_later(scope) else None)
    return None if role == "tool" and name.partition(" ")[2].startswith(_REMARK) else role


def says_later(scope: str | None) -> bool:
    """Return whether an instrumentation may say at the end of a span what it is."""
    return scope is not None and scope.startswith(_LATE)


def role_named(name: str) -> Role | None:
    """Return the role of a span by its name alone, which begins with its operation; None for other spans."""
    return _OPERATION_ROLES.get(name.partition(" ")[0])


def _stated_api(attributes: Mapping[str, object]) -> str | None:
    """Return the API that the attributes of a call name; None if they do not."""
    if (api := attributes.get(API_TYPE)) in API_TYPES:
        return str(api)
    if attributes.get("gen_ai.operation.name") == "generate_content":
        is_of_google = (provider_of(attributes) or "gcp.").startswith("gcp.")
        return "generate_content" if is_of_google else None
    return VERCEL_APIS.get(str(attributes.get("ai.model.provider"))) if VERCEL in attributes else None


def provider_of(attributes: Mapping[str, object]) -> str | None:
    """Return the provider's name as callspan's records have it; as stated if it is in no table; None without one."""
    stated = first_text(attributes, PROVIDER)
    return None if stated is None else provider_named(stated)


def provider_named(name: str) -> str:
    """Return the provider that a vocabulary names so; the name itself if it is in no table."""
    parts = name.casefold().split(".")
    for length in range(len(parts), 0, -1):
        if (provider := _BY_NAME.get("".join(parts[:length]).translate(_SEPARATORS))) is not None:
            return provider
    return name


def first_id(attributes: Mapping[str, object], names: tuple[str, ...]) -> str | None:
    """Return the first id under these names, or None. A number is the same id as its digits; a bool is no id."""
    stated = (value for name in names if not isinstance(value := attributes.get(name), bool))
    return next((ident for value in stated if (ident := label(value))), None)


def first_text(attributes: Mapping[str, object], names: tuple[str, ...]) -> str | None:
    """Return the first text that is not empty under these names, or None."""
    return next((value for name in names if isinstance(value := attributes.get(name), str) and value), None)
