"""APIs: one row for each API that callspan reads.

A row says which requests are its own and what their bodies have; whoever must know that asks the row. Only the adapter,
which reads the bodies, is code: it is in `callspan.providers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, NamedTuple, TypeAlias

Reader: TypeAlias = str
"""A class of `callspan.providers`, as `module:Class`. The module begins with the family of the API."""
_Words: TypeAlias = tuple[str, ...]


def _words(text: str) -> _Words:
    return tuple(text.split())


class Answers(NamedTuple):
    """Where an answer has its messages as the provider writes them; empty: it has none that can be copied."""

    choices: str = ""
    """Field with a list of choices, each with a message."""
    items: str = ""
    """Field with the items of the only message."""
    message: _Words = ()
    """Fields, one of which an answer has that is itself the only message."""


Kind: TypeAlias = (
    Literal[
        "text", "string", "number", "flag", "object", "array", "objects", "texts", "prompt", "documents", "reference",
        "turns", "items", "contents", "encoded", "size", "sound",
    ]
    | tuple[str, ...]
)  # fmt: skip
"""The type of a field, see `callspan.providers.kinds`; words: one of these."""


class Field(NamedTuple):
    """A field of a body."""

    name: str
    """Names with dots between them lead to it; of a list they lead into its first element."""
    kind: Kind

    @property
    def outer(self) -> str:
        """The field of the body that it is in."""
        return self.name.partition(".")[0]


class Exact(NamedTuple):
    """A field that proves alone, because no other program has such a value under its name: it is no plain word."""

    name: str
    kind: Literal["vector", "vectors", "encoded", "generated"]


Proof: TypeAlias = tuple[Exact] | tuple[Field, Field] | tuple[Field, Field, Field]
"""Fields that show together whose body they are in."""


class Api(NamedTuple):
    """One API of one family."""

    name: str
    """Its name in records, `CallRecord.api`."""
    adapter: Reader
    asked: tuple[Field, ...] = ()
    """Request fields. A body must have at least one, of this type, since an application may use the same path. Empty:
    only an SDK or a connection shows that it is this API."""
    marks: tuple[Proof, ...] = ()
    """Proofs, any of which shows that a request on a path of the API is a call, at whatever host. An answer that is
    another program's disproves it, an error does not. Without one, host and SDK unknown, only the answer shows it."""
    answered: tuple[Proof, ...] = ()
    """Proofs, any of which shows that an answer, or an event of a stream, is the API's."""
    model_fields: tuple[str, ...] = ("model",)
    """Request fields that name the model, or what chooses it, where the path names none."""
    paths: tuple[str, ...] = ()
    """Last segments of its logical paths, as of the SDKs generated like openai's."""
    path_ends: tuple[str, ...] = ()
    """The last one or two segments of its paths at its vendor, which other programs have too."""
    bare_path: str = ""
    """A last segment that so many programs have that an answer alone does not tell."""
    verbs: tuple[str, ...] = ()
    """Its verbs in the paths of its family that name a model."""
    fetch: Reader = ""
    """What reads an answer that is fetched later; empty: no answer is."""
    sockets: tuple[tuple[str, Reader], ...] = ()
    """What reads the frames of its websockets, by the last segments of their paths; of a gRPC service's method by its
    last name."""
    owner: str = ""
    """The provider that owns the API; empty: many servers speak it."""
    default_chooser: str = ""
    """The provider that chooses the model itself if a request names none."""
    is_media: bool = False
    """Whether it is an API of images or sound, with the operation `generate_content`."""
    said: tuple[str, ...] = ()
    """Fields of a request with what is said, in the order of the conversation; with a dot, all in one object. A list of
    messages is stored by its elements, because the next request usually repeats the first ones."""
    newest: tuple[str, str] | None = None
    """Field of a request with the newest message, and the element of the list in `said` that the next request has in
    its place; `%s` stands for the value."""
    has_plain_messages: bool = False
    """Whether most of these elements have only a role and a text, named `role` and `content`."""
    instructions: tuple[str, ...] = ()
    """Fields of a request with instructions apart from the conversation."""
    role_of_model: str = "assistant"
    """The word for the role of the model's messages, in lower case."""
    repeats: tuple[str, ...] = ()
    """Fields of an answer that repeat fields of its request, or what the provider has kept of earlier requests."""
    content: tuple[str, ...] = ()
    """Further fields of a request with what is said, which are no messages: documents, an expected answer."""
    texts: tuple[str, ...] = ()
    """Members with what is said, at any depth, where no adapter reads them."""
    arguments: tuple[str, ...] = ()
    """Members with the arguments of a tool call, where no adapter reads them."""
    params_in: tuple[str, ...] = ()
    """Objects of a request whose members are parameters."""
    answers: Answers = Answers()
    states_tool_runs: bool = True
    """Whether an answer states if a tool of the provider has ended, also without its result."""
    has_vectors: bool = False
    """Whether its answers are embeddings."""
    may_have_vectors: bool = False
    """Whether the answers of some of its models are embeddings."""
    speech: Literal["response", "session", "transcript"] | None = None
    """What a call in a conversation by voice is: one answer, the whole session, or what was said."""
    repeats_credentials: bool = False
    """Whether an answer may repeat settings with credentials, perhaps from an earlier request."""
    prefix: tuple[str, ...] = ()
    """Parts of a request in the order in which its prompt cache compares them: `model`, or fields, with dots between
    the names that lead to one. What is not here changes no cache. Empty: no page states it."""
    cache_mark: str = ""
    """Member of a request that marks the end of what the prompt cache is to keep; empty: it keeps all by itself."""
    media_marks: tuple[bytes, ...] | None = None
    """Byte strings: every body with media in fields of the API has at least one of them; a data URL has its own mark.
    They are few, since every body is searched. None: unknown."""

    @property
    def family(self) -> str:
        """The package of its adapter."""
        return self.adapter.partition(".")[0]


_BASE64: Final = b"base64"
_B64_JSON: Final = b"b64_json"
_INLINE_DATA: Final = (b"nlineData", b"nline_data")
_IMAGES: Final = (b'"images"',)
_ANY_ANSWER: Final = Answers(choices="choices", items="output", message=("content", "completion"))

_ANTHROPIC: Final = "anthropic"
_GEMINI: Final = "gcp.gemini"
_BEDROCK: Final = "aws.bedrock"
_CLOUDFLARE: Final = "cloudflare"
_COHERE: Final = "cohere"
_OLLAMA: Final = "ollama"
_WATSONX: Final = "ibm.watsonx.ai"
_ROLES: Final = _words("system developer user assistant tool function model")
_TURNS: Final = (Field("messages", "turns"), Field("messages.role", _ROLES))
_MAX_TOKENS: Final = Field("max_tokens", "number")
_ASSISTANT: Final = ("assistant",)
_ENDINGS: Final = _words("stop length tool_calls content_filter function_call eos_token endoftext")
"""Why an answer ended, in the words of chat completions and of those before them."""
_MESSAGE: Final = Field("choices.message.role", _ASSISTANT)
_DELTA: Final = Field("choices.delta", "object")
_CHOICE: Final = Field("choices", "objects")
_INDEX: Final = Field("choices.index", "number")
_SAID: Final = Field("choices.text", "string")
_CHAT: Final[tuple[Proof, ...]] = (
    (_CHOICE, Field("object", ("chat.completion", "chat.completion.chunk"))),
    (Field("choices.message", "object"), Field("choices.message.content", "string")),
    (_MESSAGE, Field("choices.message.tool_calls", "objects")),
    (_MESSAGE, Field("choices.finish_reason", "text")),
    (_DELTA, _INDEX),
    (_DELTA, Field("choices.delta.role", _ASSISTANT)),
    (_DELTA, Field("choices.finish_reason", _ENDINGS)),
)
_COMPLETIONS: Final[tuple[Proof, ...]] = (
    (_SAID, Field("object", ("text_completion", "text_completion.chunk", "completion"))),
    (_SAID, Field("choices.finish_reason", _ENDINGS)),
    (_SAID, Field("usage.total_tokens", "number")),
    (_SAID, Field("model", "text")),  # Writer's
)
_RANKED: Final[tuple[Proof, ...]] = (
    (Field("results.index", "number"), Field("results.relevance_score", "number")),
    (Field("data.index", "number"), Field("data.relevance_score", "number")),
)
_CHAT_HISTORY: Final = Field("chat_history.message", "string")
_OF_VECTOR: Final = (Exact("embedding", "vector"),)
_OF_VECTORS: Final = (Exact("embeddings", "vectors"),)
_OF_DATA: Final = (Exact("data.embedding", "vector"),)
_EMBEDDED: Final[tuple[Proof, ...]] = (
    _OF_VECTOR,
    _OF_VECTORS,
    (Exact("embeddings.embedding", "vector"),),
    (Exact("embeddingsByType", "vectors"),),
    _OF_DATA,
)
_DONE: Final = Field("done", "flag")
_KEEP_ALIVE: Final = (Field("keep_alive", "text"), Field("keep_alive", "number"))
_CONTEXT: Final = Field("options.num_ctx", "number")
_PROMPT: Final = Field("prompt", "text")
_PROJECT: Final = (Field("project_id", "text"), Field("space_id", "text"))
_INPUT_TYPES: Final = _words("search_document search_query classification clustering image")
_STEPS: Final = _words("model_output thought user_input text function_call function_result google_search_call")
_AUDIO_FORMATS: Final = _words("mp3 opus aac flac wav pcm")
_VOICES: Final = _words("alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse")
_INPUT: Final = Field("input", "items")
_IMAGE_DATA: Final[tuple[Proof, ...]] = (
    (Field("created", "number"), Field("data.b64_json", "text")),
    (Field("created", "number"), Field("data.url", "text")),
    (
        Field(
            "type",
            _words(
                "image_generation.partial_image image_generation.completed "
                "image_edit.partial_image image_edit.completed"
            ),
        ),
        Field("b64_json", "text"),
    ),
)

_ROWS: Final = (
    Api(
        "chat_completions",
        "openai.chat:ChatCompletions",
        asked=(Field("messages", "turns"),),
        marks=(_TURNS,),
        answered=_CHAT,
        model_fields=("model", "agent_id"),  # Mistral's agents
        paths=("chat/completions", "agents/completions", "cortex/inference:complete"),
        path_ends=("v1/chat",),  # Writer's
        verbs=("invocations",),
        media_marks=(_BASE64, b'audio"', b"file_data"),
        said=("messages",),
        has_plain_messages=True,
        states_tool_runs=False,
        content=("prediction",),
        answers=Answers(choices="choices"),
        # https://developers.openai.com/api/docs/guides/prompt-caching; the reasons in `prompt_cache_diagnostics` of
        # Responses name the parameters.
        prefix=_words("model prompt_cache_key service_tier tools response_format reasoning_effort verbosity messages"),
    ),
    Api(
        "responses",
        "openai.responses:Responses",
        asked=(
            Field("input", "items"),
            Field("prompt", "object"),
            Field("previous_response_id", "text"),
            Field("conversation", "reference"),
        ),
        marks=(
            (Field("input", "turns"), Field("input.role", _ROLES)),
            (_INPUT, Field("max_output_tokens", "number")),
            (_INPUT, Field("previous_response_id", "text")),
            (_INPUT, Field("reasoning.effort", _words("none minimal low medium high xhigh"))),
        ),
        answered=(
            (Field("object", ("response", "response.compaction")), Field("output", "array")),
            (Field("response.object", ("response",)), Field("response.output", "array")),
            (Field("output.type", ("message",)), Field("output.content.type", ("output_text", "refusal"))),
        ),
        paths=("responses", "responses/compact"),
        fetch="openai.responses:ResponseFetch",
        sockets=(("responses", "openai.lanes:ResponseLanes"),),
        media_marks=(_BASE64, b"image_generation_call"),
        said=("input",),
        has_plain_messages=True,
        instructions=("instructions",),
        repeats=("instructions", "tools", "text", "prompt", "metadata", "tool_choice"),
        repeats_credentials=True,
        answers=Answers(items="output"),
        # As of chat completions
        prefix=_words(
            "model prompt_cache_key service_tier tools text.format reasoning.effort text.verbosity instructions"
            " conversation prompt previous_response_id input"
        ),
    ),
    Api(
        "realtime",
        "openai.realtime:Realtime",
        sockets=(("realtime", "openai.realtime_events:RealtimeEvents"),),
        said=("input",),
        has_plain_messages=True,
        instructions=("instructions",),
        repeats=("instructions", "tools", "metadata"),
        repeats_credentials=True,
        answers=Answers(items="output"),
        speech="response",
    ),
    Api(
        "messages",
        "anthropic.messages:Messages",
        asked=(Field("messages", "turns"),),
        marks=((*_TURNS, _MAX_TOKENS),),
        answered=(
            (Field("type", ("message",)), Field("role", _ASSISTANT), Field("content", "array")),
            (Field("role", _ASSISTANT), Field("content.type", "text"), Field("stop_reason", "text")),
            (Field("type", ("message_start",)), Field("message.role", _ASSISTANT)),
        ),
        paths=("v1/messages",),
        bare_path="messages",
        verbs=("rawPredict", "streamRawPredict"),
        owner=_ANTHROPIC,
        media_marks=(_BASE64,),
        said=("messages",),
        has_plain_messages=True,
        instructions=("system",),
        repeats_credentials=True,
        states_tool_runs=False,
        answers=Answers(message=("content", "completion")),
        # https://platform.claude.com/docs/en/build-with-claude/prompt-caching, "What invalidates the cache"
        prefix=_words(
            "model tools mcp_servers speed output_format output_config.format system tool_choice thinking"
            " output_config.effort messages"
        ),
        cache_mark="cache_control",
    ),
    Api(
        "embeddings",
        "openai.single_body:Embeddings",
        asked=(Field("input", "prompt"), Field("messages", "turns")),  # vLLM has both
        marks=((Field("input", "prompt"), Field("encoding_format", ("float", "base64"))),),
        answered=(
            _OF_DATA,
            (Field("data.embedding", "encoded"), Field("data.object", ("embedding",))),
            (Field("data.embedding", "encoded"), Field("data.index", "number")),
        ),
        paths=("embeddings",),
        verbs=("invocations",),
        media_marks=(b'"embedding"', b";base64,"),
        said=("input", "messages"),
        has_vectors=True,
    ),
    Api(
        "completions",
        "openai.chat:Completions",
        asked=(Field("prompt", "prompt"),),
        marks=((Field("prompt", "prompt"), _MAX_TOKENS),),
        answered=_COMPLETIONS,
        paths=("completions",),
        verbs=("invocations",),
        media_marks=(),
        said=("prompt",),
        content=("suffix",),
        answers=Answers(choices="choices"),
    ),
    Api(
        "fim_completions",
        "openai.chat:FillInTheMiddle",
        asked=(Field("prompt", "text"),),
        marks=((_PROMPT, Field("suffix", "string")), (_PROMPT, _MAX_TOKENS)),
        answered=(*_CHAT, *_COMPLETIONS),
        paths=("fim/completions",),
        said=("prompt",),
        content=("suffix",),
        answers=Answers(choices="choices"),
    ),
    Api(
        "decisions",
        "openai.single_body:Decisions",
        asked=(Field("questions", "objects"),),
        answered=(
            (Field("answers.name", "text"), Field("answers.type", ("boolean", "refusal")), Field("model", "text")),
        ),
        paths=("decisions",),
        media_marks=(_BASE64,),
        said=("input", "questions"),
        has_plain_messages=True,
    ),
    Api(
        "moderations",
        "openai.single_body:Moderations",
        asked=(Field("input", "prompt"),),
        answered=((Field("results.flagged", "flag"), Field("results.categories", "object")),),
        paths=("moderations",),
        media_marks=(_BASE64,),
        said=("input",),
    ),
    Api(
        "images",
        "openai.media:Images",
        asked=(Field("prompt", "text"),),
        marks=(
            (_PROMPT, Field("size", "size")),
            (_PROMPT, Field("response_format", ("b64_json", "url"))),
        ),
        answered=_IMAGE_DATA,
        paths=("images/generations",),
        is_media=True,
        media_marks=(_B64_JSON,),
        said=("prompt",),
    ),
    Api(
        "image_edits",
        "openai.media:Images",
        paths=("images/edits",),
        is_media=True,
        media_marks=(_B64_JSON, _BASE64),
        said=("prompt",),
    ),
    Api(
        "image_variations",
        "openai.media:ImageVariations",
        paths=("images/variations",),
        is_media=True,
        media_marks=(_B64_JSON,),
        said=("prompt",),
    ),
    Api(
        "transcriptions",
        "openai.media:Transcriptions",
        paths=("audio/transcriptions",),
        is_media=True,
        media_marks=(_BASE64,),
        said=("prompt",),
        speech="transcript",
    ),
    Api(
        "translations",
        "openai.media:Transcriptions",
        paths=("audio/translations",),
        is_media=True,
        media_marks=(),
        said=("prompt",),
    ),
    Api(
        "speech",
        "openai.media:Speech",
        asked=(Field("input", "text"),),
        marks=(
            (Field("input", "text"), Field("voice", "text"), Field("response_format", _AUDIO_FORMATS)),
            (Field("input", "text"), Field("voice", _VOICES)),
        ),
        answered=(
            (Field("audio.callspan_media.mime", "sound"), Field("audio.callspan_media.bytes", "number")),
            (Field("type", ("speech.audio.delta",)), Field("audio", "text")),
            (Exact("audio_data", "encoded"),),  # Mistral's
        ),
        paths=("audio/speech",),
        is_media=True,
        media_marks=(),
        said=("input",),
        instructions=("instructions",),
    ),
    Api(
        "live",
        "openai.voice_sessions:LiveSession",
        sockets=(("live/sessions", "openai.voice_events:LiveEvents"),),
        is_media=True,
        said=("input",),
        has_plain_messages=True,
        instructions=("instructions",),
        repeats=("instructions", "tools"),
        repeats_credentials=True,
        speech="session",
    ),
    Api(
        "realtime_translations",
        "openai.voice_sessions:SpeechTranslation",
        sockets=(("realtime/translations", "openai.voice_events:TranslationEvents"),),
        is_media=True,
        said=("input",),
        instructions=("instructions",),
        repeats=("instructions",),
        repeats_credentials=True,
        speech="session",
    ),
    Api(
        "generate_content",
        "google.generate_content:GenerateContent",
        asked=(Field("contents", "contents"),),
        marks=(
            (Field("contents.parts", "objects"), Field("contents.parts.text", "string")),
            (Field("contents.parts", "objects"), Field("contents.role", _ROLES)),
        ),
        answered=(
            (Field("candidates.content.role", ("model",)), Field("candidates.content.parts", "objects")),
            (Field("candidates.content", "object"), Field("candidates.finishReason", "text")),
            (Field("candidates", "objects"), Field("usageMetadata", "object")),
            (Field("usageMetadata.totalTokenCount", "number"), Field("modelVersion", "text")),
            (Field("promptFeedback.blockReason", "text"), Field("usageMetadata", "object")),
        ),
        verbs=("generateContent", "streamGenerateContent"),
        owner=_GEMINI,
        media_marks=_INLINE_DATA,
        said=("contents",),
        instructions=("systemInstruction", "system_instruction"),
        role_of_model="model",
        params_in=("generationConfig", "generation_config"),
        # https://ai.google.dev/gemini-api/docs/caching
        prefix=_words("model cachedContent systemInstruction system_instruction tools contents"),
    ),
    Api(
        "embed_content",
        "google.embeddings:EmbedContent",
        asked=(Field("content", "object"), Field("requests", "objects")),
        marks=(
            (Field("content.parts", "objects"), Field("content.parts.text", "string")),
            (Field("requests.content.parts", "objects"), Field("requests.content.parts.text", "string")),
        ),
        answered=((Exact("embedding.values", "vector"),), (Exact("embeddings.values", "vector"),)),
        verbs=("embedContent", "batchEmbedContents"),
        owner=_GEMINI,
        media_marks=_INLINE_DATA,
        said=("content", "requests"),
        has_vectors=True,
    ),
    Api(
        "interactions",
        "google.interactions:Interactions",
        asked=(Field("input", "items"), Field("previous_interaction_id", "text")),
        marks=((_INPUT, Field("previous_interaction_id", "text")),),
        answered=(
            (Field("object", ("interaction",)), Field("steps.type", _STEPS)),
            (Field("object", ("interaction",)), Field("usage.total_tokens", "number")),
            (Field("status", "text"), Field("steps.type", _STEPS)),
            (Field("status", "text"), Field("outputs.type", _STEPS), Field("model", "text")),
            (Field("event_type", ("interaction.created",)), Field("interaction.object", ("interaction",))),
            (Field("event_type", ("interaction.start",)), Field("interaction.object", ("interaction",))),
        ),
        model_fields=("model", "agent"),
        path_ends=("interactions",),
        fetch="google.interactions:InteractionFetch",
        sockets=(("interactions/live", "google.live_interactions:LiveInteraction"),),
        owner=_GEMINI,
        media_marks=(b'"data"', _BASE64),
        said=("input",),
        instructions=("system_instruction",),
        repeats=("system_instruction", "tools", "response_format"),
        repeats_credentials=True,
        role_of_model="model",
    ),
    Api(
        "bidi_generate_content",
        "google.live:BidiGenerateContent",
        sockets=(
            ("BidiGenerateContent", "google.live_turns:LiveTurns"),
            ("BidiGenerateContentConstrained", "google.live_turns:LiveTurns"),
        ),
        owner=_GEMINI,
        media_marks=_INLINE_DATA,
        said=("contents",),
        instructions=("systemInstruction", "system_instruction"),
        repeats_credentials=True,
        role_of_model="model",
        speech="response",
    ),
    Api(
        "predict",
        "google.embeddings:Predict",
        asked=(
            Field("instances.prompt", "text"),
            Field("instances.content", "text"),
            Field("instances.text", "text"),
            Field("instances.image", "object"),
            Field("instances.video", "object"),
        ),
        marks=((Field("instances.prompt", "text"), Field("parameters.sampleCount", "number")),),
        answered=(
            (Field("predictions.bytesBase64Encoded", "text"), Field("predictions.mimeType", "text")),
            (Exact("predictions.embeddings.values", "vector"),),
            (Exact("predictions.textEmbedding", "vector"),),
            (Exact("predictions.imageEmbedding", "vector"),),
            (Field("predictions.content", "string"), Field("predictions.safetyAttributes", "object")),
        ),
        verbs=("predict",),
        owner=_GEMINI,
        media_marks=(b"bytesBase64Encoded",),
        said=("instances",),
        may_have_vectors=True,
    ),
    Api(
        "converse",
        "bedrock.converse:Converse",
        asked=(Field("messages.content", "array"),),
        marks=(
            (Field("messages.role", ("user", "assistant")), Field("messages.content.text", "string")),
            (Field("messages.content", "array"), Field("inferenceConfig", "object")),
            (Field("messages.content", "array"), Field("toolConfig", "object")),
        ),
        answered=(
            (Field("output.message.role", _ASSISTANT), Field("output.message.content", "array")),
            (Field("stopReason", "text"), Field("usage.inputTokens", "number")),
            (Field("contentBlockStart.contentBlockIndex", "number"), Field("contentBlockStart.start", "object")),
            (Field("contentBlockDelta.contentBlockIndex", "number"), Field("contentBlockDelta.delta", "object")),
        ),
        verbs=("converse",),
        owner=_BEDROCK,
        media_marks=(b'"bytes"', _BASE64),
        said=("messages",),
        instructions=("system",),
        params_in=("inferenceConfig",),
        # https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
        prefix=_words("model toolConfig.tools system toolConfig.toolChoice additionalModelRequestFields messages"),
        cache_mark="cachePoint",
    ),
    Api(
        "invoke_model",
        "bedrock.invoke:InvokeModel",
        asked=(
            Field("prompt", "text"),
            Field("inputText", "text"),
            Field("message", "text"),
            Field("tool_results", "objects"),
            Field("inputPrompt", "text"),
            Field("image", "text"),
            Field("text_prompts", "objects"),
            Field("textToImageParams", "object"),
            Field("inPaintingParams", "object"),
            Field("outPaintingParams", "object"),
            Field("imageVariationParams", "object"),
            Field("colorGuidedGenerationParams", "object"),
            Field("backgroundRemovalParams", "object"),
        ),
        marks=(
            (Field("inputText", "text"), Field("textGenerationConfig", "object")),
            (_PROMPT, Field("max_gen_len", "number")),
            (_PROMPT, Field("max_tokens_to_sample", "number")),
            (Field("message", "text"), _CHAT_HISTORY),
        ),
        answered=(
            (Field("results.outputText", "string"), Field("results.completionReason", "text")),
            (Field("results.outputText", "string"), Field("inputTextTokenCount", "number")),
            (Field("outputText", "string"), Field("index", "number")),
            (Field("outputs.text", "string"), Field("outputs.stop_reason", "text")),
            (Field("generations.text", "string"), Field("generations.finish_reason", "text")),
            (Field("completions.data.text", "string"), Field("completions.finishReason", "object")),
            (Field("generation", "string"), Field("generation_token_count", "number")),
            (Field("completion", "string"), Field("stop_reason", "text")),
            (Field("text", "string"), Field("generation_id", "text")),
            (Field("message", "text"), Field("finishReason", _ENDINGS)),
            (Field("images", "texts"), Field("seeds", "array")),
            (Field("artifacts.base64", "text"), Field("artifacts.finishReason", "text")),
            *_CHAT,
            *_COMPLETIONS,
            *_EMBEDDED,  # a text alone does not tell that a model embeds
        ),
        verbs=("invoke",),
        owner=_BEDROCK,
        said=(
            "prompt",
            "inputText",
            "message",
            "inputPrompt",
            "textToImageParams",
            "inPaintingParams",
            "outPaintingParams",
            "imageVariationParams",
            "colorGuidedGenerationParams",
            "backgroundRemovalParams",
            "text_prompts",
        ),
        content=("chat_history", "documents", "preamble", "tool_results"),  # of Cohere
        answers=_ANY_ANSWER,
        may_have_vectors=True,
    ),
    Api(
        "invoke_embeddings",
        "bedrock.invoke:InvokeEmbeddings",
        asked=(
            Field("inputText", "text"),
            Field("texts", "texts"),
            Field("singleEmbeddingParams", "object"),
            Field("images", "texts"),
            Field("inputs", "objects"),
            Field("inputImage", "text"),
            Field("inputType", "text"),
        ),
        answered=_EMBEDDED,
        owner=_BEDROCK,
        said=("inputText", "texts", "singleEmbeddingParams", "text", "images", "inputs"),
        has_vectors=True,
    ),
    Api(
        "cohere_chat",
        "cohere.chat:Chat",
        asked=(Field("messages", "turns"),),
        answered=(
            (Field("message.role", _ASSISTANT), Field("message.content.type", ("text", "thinking"))),
            (Field("message.role", _ASSISTANT), Field("message.tool_calls", "objects")),
            (Field("type", ("message-start",)), Field("delta.message.role", _ASSISTANT)),
        ),
        path_ends=("v2/chat",),
        owner=_COHERE,
        said=("messages",),
        has_plain_messages=True,
        content=("documents",),
    ),
    Api(
        "cohere_chat_v1",
        "cohere.chat_v1:ChatV1",
        asked=(Field("message", "text"), _CHAT_HISTORY, Field("tool_results", "objects")),
        # A turn of tools has no new message.
        marks=(
            (Field("message", "string"), _CHAT_HISTORY, Field("preamble", "text")),
            (Field("message", "string"), Field("chat_history.role", ("USER", "CHATBOT", "SYSTEM", "TOOL"))),
        ),
        answered=(
            (Field("generation_id", "text"), Field("text", "string")),
            (Field("generation_id", "text"), Field("finish_reason", "text")),
            (Field("generation_id", "text"), Field("event_type", ("stream-start",))),
        ),
        path_ends=("v1/chat",),
        owner=_COHERE,
        default_chooser=_COHERE,
        said=("chat_history", "message", "tool_results"),
        newest=("message", '{"role":"USER","message":%s}'),
        instructions=("preamble",),
        repeats=("chat_history",),
        role_of_model="chatbot",
        content=("documents",),
    ),
    Api(
        "cohere_embed",
        "cohere.embed:Embed",
        asked=(Field("texts", "texts"), Field("images", "texts"), Field("inputs", "objects")),
        marks=(
            (Field("texts", "texts"), Field("input_type", _INPUT_TYPES)),
            (Field("texts", "texts"), Field("embedding_types", "texts")),
        ),
        answered=(_OF_VECTORS,),
        path_ends=("v1/embed", "v2/embed"),
        owner=_COHERE,
        default_chooser=_COHERE,
        said=("texts", "images", "inputs"),
        has_vectors=True,
    ),
    Api(
        "rerank",
        "cohere.rerank:Rerank",
        asked=(Field("documents", "documents"),),
        answered=_RANKED,
        paths=("rerank",),
        default_chooser=_COHERE,
        said=("documents", "query"),
    ),
    Api(
        "ollama_chat",
        "ollama.chat:Chat",
        asked=(Field("messages", "turns"),),
        marks=(*((*_TURNS, each) for each in _KEEP_ALIVE), (*_TURNS, _CONTEXT)),
        answered=((_DONE, Field("message.role", _ASSISTANT), Field("message.content", "string")),),
        path_ends=("api/chat",),
        owner=_OLLAMA,
        media_marks=_IMAGES,
        said=("messages",),
        has_plain_messages=True,
    ),
    Api(
        "ollama_generate",
        "ollama.chat:Generate",
        asked=(Field("prompt", "text"),),
        marks=(*((_PROMPT, each) for each in _KEEP_ALIVE), (_PROMPT, _CONTEXT)),
        answered=((_DONE, Field("response", "string"), Field("model", "text")),),
        path_ends=("api/generate",),
        owner=_OLLAMA,
        media_marks=_IMAGES,
        said=("prompt",),
        instructions=("system",),
        content=("suffix", "template"),
    ),
    Api(
        "ollama_embed",
        "ollama.embed:Embed",
        asked=(Field("input", "prompt"), Field("prompt", "text")),
        marks=(*((Field("input", "prompt"), each) for each in _KEEP_ALIVE),),
        answered=(_OF_VECTORS, _OF_VECTOR),
        path_ends=("api/embed", "api/embeddings"),
        owner=_OLLAMA,
        said=("input", "prompt"),
        has_vectors=True,
    ),
    Api(
        "text_generation",
        "huggingface.text_generation:TextGeneration",
        asked=(Field("inputs", "text"),),
        marks=((Field("inputs", "text"), Field("parameters.max_new_tokens", "number")),),
        answered=(
            (Exact("generated_text", "generated"),),
            (Field("token.id", "number"), Field("token.text", "string")),
        ),
        verbs=("models",),
        said=("inputs",),
    ),
    Api(
        "watsonx_chat",
        "watsonx.text:Chat",
        asked=(Field("messages", "turns"),),
        marks=(_TURNS,),
        answered=_CHAT,
        model_fields=("model_id",),
        verbs=("chat",),
        owner=_WATSONX,
        said=("messages",),
        has_plain_messages=True,
        answers=Answers(choices="choices"),
    ),
    Api(
        "watsonx_generation",
        "watsonx.text:Generation",
        asked=(Field("input", "text"),),
        marks=(*((Field("input", "text"), each) for each in _PROJECT),),
        answered=((Field("results.generated_text", "string"), Field("results.stop_reason", "text")),),
        model_fields=("model_id",),
        verbs=("generation",),
        owner=_WATSONX,
        said=("input",),
    ),
    Api(
        "watsonx_embeddings",
        "watsonx.text:Embeddings",
        asked=(Field("inputs", "texts"),),
        marks=(*((Field("inputs", "texts"), each) for each in _PROJECT),),
        answered=((Exact("results.embedding", "vector"),),),
        model_fields=("model_id",),
        verbs=("embeddings",),
        owner=_WATSONX,
        said=("inputs",),
        has_vectors=True,
    ),
    Api(
        "watsonx_rerank",
        "watsonx.text:Rerank",
        asked=(Field("inputs", "objects"),),
        marks=(*((Field("inputs", "objects"), each) for each in _PROJECT),),
        answered=(
            (Field("results.index", "number"), Field("results.score", "number"), Field("input_token_count", "number")),
        ),
        model_fields=("model_id",),
        verbs=("rerank",),
        owner=_WATSONX,
        said=("inputs", "query"),
    ),
    Api(
        "workers_ai",
        "cloudflare.run:Run",
        asked=(Field("messages", "turns"), Field("prompt", "text")),
        marks=(_TURNS, (_PROMPT, _MAX_TOKENS)),
        answered=(
            (Field("success", "flag"), Field("result.response", "string")),
            (Field("success", "flag"), Field("result.usage.prompt_tokens", "number")),
            (Field("success", "flag"), Field("result.choices.message.role", _ASSISTANT)),
            (Field("response", "string"), Field("p", "string")),
            (Field("response", "string"), Field("usage.prompt_tokens", "number")),
            *_CHAT,
        ),
        verbs=("run", "workers-ai"),
        owner=_CLOUDFLARE,
        media_marks=(_BASE64, b'"image"'),
        said=("messages", "prompt"),
        has_plain_messages=True,
    ),
    Api(
        "dashscope_generation",
        "alibaba.generation:Generation",
        asked=(Field("input.messages", "turns"), Field("input.prompt", "text")),
        marks=(
            (Field("input.messages", "turns"), Field("parameters", "object")),
            (Field("input.prompt", "text"), Field("parameters", "object")),
        ),
        answered=(
            (Field("output.choices.message.role", _ASSISTANT), Field("request_id", "text")),
            (Field("output.text", "string"), Field("output.finish_reason", "text")),
        ),
        path_ends=("text-generation/generation",),
        owner="alibaba",
        media_marks=(_BASE64,),
        said=("input.messages", "input.prompt"),
        has_plain_messages=True,
        params_in=("parameters",),
    ),
    Api(
        "span_messages",
        "spans.messages:SpanMessages",
        media_marks=(_BASE64,),
        said=("messages",),
        has_plain_messages=True,
        states_tool_runs=False,
        answers=Answers(choices="choices"),
    ),
)
APIS: Final[dict[str, Api]] = {row.name: row for row in _ROWS}
"""The rows by name, in order of how common they are."""
WRAPPERS: Final = {row.name: row.said[0].rpartition(".")[0] for row in _ROWS if row.said and "." in row.said[0]}
"""The object around the fields with what is said, by API, where there is one."""

OTHER: Final = Api(
    "",
    "",
    said=("messages", "input", "prompt"),
    has_plain_messages=True,
    instructions=("system", "instructions"),
    content=("images", "message", "queries", "requests", "steps", "texts"),
    texts=_words(
        "choices content custom function input_text message output parts refusal summary text thinking tool_calls"
        " transcript"
    ),
    arguments=("arguments", "input"),
    answers=_ANY_ANSWER,
    media_marks=(_BASE64, _B64_JSON, b"input_audio", b'"audio"', b"image_generation_call"),
)
"""What is assumed of the bodies of an API without a row."""


def nested(name: str, value: object) -> dict[str, object]:
    """Return a body with this value alone, in a field that dots may lead to."""
    outer, dot, inner = name.partition(".")
    return {outer: nested(inner, value) if dot else value}


def of_every_api(column: Callable[[Api], Iterable[str]]) -> frozenset[str]:
    """Return the words in a column of all rows, and of `OTHER`: those of a part of a body whose API is unknown."""
    return frozenset(word for row in (*_ROWS, OTHER) for word in column(row))
