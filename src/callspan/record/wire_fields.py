"""Wire fields: fields and words of bodies by what they mean, in whatever API's body they stand.

Servers take each other's fields and pass on each other's answers, so each table holds for every API. What is true of
one API alone is in its row, `callspan.record.apis`.
"""

from __future__ import annotations

from typing import Final, NamedTuple


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


class FileField(NamedTuple):
    """A field with the base64 of a file."""

    mime: str | None = None
    """The media type if neither another field nor the file's header states it."""
    only_in: str = ""
    """The type of the only object where it is a file; empty: of any."""


# Parameters of a request that stay in a record without content, at any depth.
NUMBERS: Final = _words("""
    addWatermark add_special_tokens add_watermark audioTimestamp audio_timestamp autoTruncate auto_truncate background
    best_of budget_tokens candidateCount candidate_count cfgScale cfg_scale clear_thinking compressionQuality
    compression_quality decay_factor decoder_input_details dimensions disable_parallel_tool_use disable_reasoning
    disable_search do_sample echo enable_search enable_thinking enhancePrompt enhance_prompt fps frame_count
    frame_duration_ms frequencyPenalty frequency_penalty guidanceScale guidance_scale height ignore_eos includeThoughts
    include_images include_obfuscation include_reasoning include_stop_sequence include_thoughts include_usage
    length_penalty logprobs logprobsResult maxOutputTokens maxTokenCount maxTokens max_completion_tokens max_gen_len
    max_length max_new_tokens max_num_results max_output_tokens max_tokens max_tokens_per_doc max_tokens_to_sample
    max_tool_calls min_completion_tokens min_length min_new_tokens min_p min_tokens mirostat mirostat_eta mirostat_tau n
    num_batch num_ctx num_gpu num_keep num_predict num_thread numberOfImages number_of_images outputDimensionality
    output_compression output_dimension output_dimensionality parallel_tool_calls partial_images penalize_newline
    presencePenalty presence_penalty prewarm prompt_logprobs random_seed raw repeat_last_n repeat_penalty
    repetition_penalty responseLogprobs response_logprobs return_documents return_full_text rewrite_query safe_prompt
    sample_rate score_threshold seed skip_special_tokens speed start_index steps store stream strict strict_tools
    temperature tfs_z think thinkingBudget thinking_budget time_limit token_budget topK topP top_k top_logprobs top_n
    top_n_tokens top_p truncate truncate_input_tokens typical_p use_cache watermark width willContinue
""")
"""Parameters that are numbers or flags."""
CHOICES: Final = _words("""
    background bill_to complexity decoding_method effort encoding_format format generate_summary input_fidelity
    input_type latency modalities mode moderation output_format prompt_cache_retention quality reasoning_effort
    response_format search_context_size search_type service_tier speed stream_format style summary think thinkingLevel
    thinking_level timestamp_granularities tool_choice truncation type verbosity voice
""")
"""Parameters whose value is one of `KEYWORDS`, or a list of some."""
KEYWORDS: Final = _words("""
    24h HIGH LOW MEDIUM MINIMAL aac adaptive all allowed_tools alloy any ash audio auto b64_json ballad base64 batch
    billing_policy cedar classification clustering concise content coral custom default detailed diarized_json disabled
    echo enabled ephemeral explicit fable fast file_search flac flex float function gif grammar greedy hd high image
    implicit in-memory in_memory jpeg json json_object json_schema low marin max mcp medium minimal mp3 natural none
    nova off on on_demand onyx opaque optimized opus pcm pcm16 performance png priority pro python required reserved
    sage scale search_document search_query segment self shimmer srt sse standard standard_only svg text tool
    transparent ultrafast url user_profile verbose_json verse vivid vtt wav web web_search webp word xhigh
""")
"""Values that a provider defines."""
OBJECTS: Final = _words("""
    additionalModelRequestFields audio audioTranscriptionConfig background_options billing_policy cache_control
    chat_template_kwargs embeddingConfig embedding_config format generationConfig generation_config imageConfig
    imageGenerationConfig image_config inferenceConfig length_penalty options output_config parameters
    performance_config prediction prompt prompt_cache_options provider reasoning reasoningConfig reasoning_config
    response_format return_options search_parameters singleEmbeddingParams stream_options svg text textGenerationConfig
    thinking thinkingConfig thinking_config tool_choice web_search_options
""")
"""Parameters that are objects; their members are listed too."""
PATTERNS: Final = {
    "background_options.completion_window": "soonest|[0-9]{1,3}[mhd]",
    "cache_control.ttl": "soonest|[0-9]{1,3}[mhd]",
    "inference_geo": "[a-z]{2,14}(?:[_-][a-z0-9]{1,14}){0,3}",
    "previous_response_id": "resp_[0-9A-Za-z]{1,128}",
    "prompt.id": "pmpt_[0-9a-f]{8,96}",
    "prompt.version": "[0-9]{1,6}",
    "prompt_cache_options.ttl": "soonest|[0-9]{1,3}[mhd]",
    "provider.only": "[a-z0-9-]{1,32}(?:/[a-z0-9-]{1,32})?",
    "size": "auto|[1-9][0-9]{1,4}x[1-9][0-9]{1,4}",
}
"""Parameters with an id, a place or a size of the provider, after the name of their object, and their pattern."""

# Where requests have keys and passwords.
KEY_SETTINGS: Final = _words("""
    agent_config environment functions headers mcpServers mcp_servers metadata toolConfig tool_config tools
    webhook_config
""")
"""Fields that may have a key at any depth, also where an answer repeats them."""
ENVELOPES: Final = _words("interaction response session setup")
"""Fields whose value is a body with fields of its own."""
SERVER_LISTS: Final = _words("mcpServers streamableHttpTransport")
"""Fields with MCP servers that do not say what they are."""
SERVER_TYPES: Final = _words("url")
"""Types of objects that are MCP servers, besides those that begin with `mcp`."""
SERVER_URLS: Final = _words("serverUrl server_url url")
"""Fields with the URL of an MCP server."""
SERVER_MARKS: Final = _words("command connector_id")
"""Fields besides its URL that tell an MCP server from a call of its tools."""
SERVER_WORDS: Final = _words("""
    allowed_tools command connector_id description id name require_approval server_description server_label
    tool_configuration tools type
""")
"""Fields of an MCP server that have words and names, and no secrets."""
SERVER_ENVIRONMENTS: Final = _words("env environment")
"""Fields with the environment in which an MCP server runs."""

# Where bodies have base64.
_PNG: Final = "image/png"
FILE_FIELDS: Final = {
    "b64_json": FileField(_PNG),
    "bytes": FileField(),
    "bytesBase64Encoded": FileField(),
    "data": FileField(),
    "file_data": FileField(),
    "image_data": FileField(),
    "partial_image_b64": FileField(_PNG),
    "result": FileField(_PNG, only_in="image_generation_call"),
}
FILE_LISTS: Final = {"images": _PNG}
"""Fields with a list of files, and their media type."""
TYPES_WITHOUT_FILES: Final = _words("reasoning.encrypted redacted_thinking text")
"""Types of objects whose text is no file: the sealed reasoning of a model, a document."""
VECTORS: Final = _words("embedding embeddings embeddingsByType imageEmbedding textEmbedding videoEmbeddings")
"""Fields of an answer with vectors, at any depth. They are kept by their length."""

# Fields whose keys the application chooses, as in arguments of tools.
ARGUMENTS: Final = _words("args arguments promptVariables variables")
"""Fields with arguments, results or variables."""
ARGUMENTS_OF_TOOLS: Final = _words("input parameters response result")
"""The same if a name or an id of a tool stands beside them."""
TOOL_NAMES: Final = _words("call_id name toolUseId")
"""Fields with the name or the id of a tool."""
ARGUMENTS_BESIDE: Final = {"outputs": "call"}
"""The same if another field stands beside them."""
WRAPPERS: Final = _words("json")
"""Fields around the JSON of a result, and around a schema."""
SCHEMAS: Final = _words("inputSchema input_schema json_schema parameters schema")
"""Fields with a JSON Schema."""

# Types of tools that only the application runs. What is of no such type the provider runs.
APPLICATION_TOOLS: Final = _words("apply_patch computer custom custom_tool function local_shell toolset")
"""As a call of a tool states them."""
REQUESTED_TOOLS: Final = _words("""
    bash browser_toolset computer_toolset computer_use computer_use_preview function_declarations memory namespace
    text_editor
""")
"""Further ones as a request names them, without their dates, or types that hold such tools."""
