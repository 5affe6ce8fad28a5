"""APIs: one row for each API that callspan reads.

A row says which requests are its own and what their bodies have; whoever must know that asks the row. Only the adapter,
which reads the bodies, is code: it is in `callspan.providers`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

Reader: TypeAlias = str
"""A class of `callspan.providers`, as `module:Class`. The module begins with the family of the API."""


class Api(NamedTuple):
    """One API of one family."""

    name: str
    """Its name in records, `CallRecord.api`."""
    adapter: Reader
    asked: tuple[str, ...] = ()
    """Request fields. A body must have at least one, since an application may use the same path. Empty: the path or the
    connection is enough."""
    paths: tuple[str, ...] = ()
    """Last segments of its logical paths, as of the SDKs generated like openai's."""
    path_ends: tuple[str, ...] = ()
    """The last two segments of its paths at its vendor."""
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
    other: str = ""
    """The API with the same path for bodies without any field in `asked`."""
    is_media: bool = False
    """Whether it is an API of images or sound, with the operation `generate_content`."""
    said: tuple[str, ...] = ()
    """Fields of a request with what is said, in the order of the conversation. A list of messages is stored by its
    elements, because the next request usually repeats the first ones."""
    has_plain_messages: bool = False
    """Whether most of these elements have only a role and a text, named `role` and `content`."""
    instructions: tuple[str, ...] = ()
    """Fields of a request with instructions apart from the conversation."""
    role_of_model: str = "assistant"
    """The word for the role of the model's messages, in lower case."""
    repeats: tuple[str, ...] = ()
    """Fields of an answer that repeat those of its request, or what the provider has kept of earlier ones."""
    repeats_credentials: bool = False
    """Whether an answer may repeat settings with credentials, perhaps those of an earlier request."""
    media_marks: tuple[bytes, ...] | None = None
    """Byte strings: every body with media has at least one of them. They are few, since every body is searched. None:
    unknown."""

    @property
    def family(self) -> str:
        """The package of its adapter."""
        return self.adapter.partition(".")[0]


_BASE64: Final = b"base64"
_B64_JSON: Final = b"b64_json"
_INLINE_DATA: Final = (b"nlineData", b"nline_data")
_IMAGES: Final = (b'"images"',)

_ANTHROPIC: Final = "anthropic"
_GEMINI: Final = "gcp.gemini"
_BEDROCK: Final = "aws.bedrock"
_COHERE: Final = "cohere"
_OLLAMA: Final = "ollama"
_WATSONX: Final = "ibm.watsonx.ai"

_ROWS: Final = (
    Api(
        "chat_completions",
        "openai.chat:ChatCompletions",
        asked=("messages",),
        paths=("chat/completions", "agents/completions"),
        media_marks=(_BASE64, b'audio"'),
        said=("messages",),
        has_plain_messages=True,
    ),
    Api(
        "responses",
        "openai.responses:Responses",
        asked=("input", "prompt", "previous_response_id", "conversation"),
        paths=("responses", "responses/compact"),
        fetch="openai.responses:ResponseFetch",
        sockets=(("responses", "openai.lanes:ResponseLanes"),),
        media_marks=(_BASE64, b"image_generation_call"),
        said=("input",),
        has_plain_messages=True,
        instructions=("instructions",),
        repeats=("instructions", "tools", "text", "prompt", "metadata", "tool_choice"),
        repeats_credentials=True,
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
    ),
    Api(
        "messages",
        "anthropic.messages:Messages",
        asked=("messages",),
        paths=("v1/messages",),
        verbs=("rawPredict", "streamRawPredict"),
        owner=_ANTHROPIC,
        media_marks=(_BASE64,),
        said=("messages",),
        has_plain_messages=True,
        instructions=("system",),
        repeats_credentials=True,
    ),
    Api(
        "embeddings",
        "openai.single_body:Embeddings",
        asked=("input",),
        paths=("embeddings",),
        media_marks=(b'"embedding"', b";base64,"),
        said=("input",),
    ),
    Api(
        "completions",
        "openai.chat:Completions",
        asked=("prompt",),
        paths=("completions",),
        media_marks=(),
        said=("prompt",),
    ),
    Api(
        "fim_completions",
        "openai.chat:FillInTheMiddle",
        asked=("prompt",),
        paths=("fim/completions",),
        said=("prompt",),
    ),
    Api(
        "decisions",
        "openai.single_body:Decisions",
        asked=("questions",),
        paths=("decisions",),
        media_marks=(_BASE64,),
        said=("input", "questions"),
        has_plain_messages=True,
    ),
    Api(
        "moderations",
        "openai.single_body:Moderations",
        asked=("input",),
        paths=("moderations",),
        media_marks=(_BASE64,),
        said=("input",),
    ),
    Api(
        "images",
        "openai.media:Images",
        asked=("prompt",),
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
        asked=("input",),
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
    ),
    Api(
        "generate_content",
        "google.generate_content:GenerateContent",
        asked=("contents",),
        verbs=("generateContent", "streamGenerateContent"),
        owner=_GEMINI,
        media_marks=_INLINE_DATA,
        said=("contents",),
        instructions=("systemInstruction", "system_instruction"),
        role_of_model="model",
    ),
    Api(
        "embed_content",
        "google.embeddings:EmbedContent",
        asked=("content", "requests"),
        verbs=("embedContent", "batchEmbedContents"),
        owner=_GEMINI,
        media_marks=_INLINE_DATA,
        said=("content", "requests"),
    ),
    Api(
        "interactions",
        "google.interactions:Interactions",
        asked=("input", "previous_interaction_id"),
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
    ),
    Api(
        "predict",
        "google.embeddings:Predict",
        asked=("instances",),
        verbs=("predict",),
        owner=_GEMINI,
        media_marks=(b"bytesBase64Encoded",),
        said=("instances",),
    ),
    Api(
        "converse",
        "bedrock.converse:Converse",
        asked=("messages",),
        verbs=("converse",),
        owner=_BEDROCK,
        media_marks=(b'"bytes"', _BASE64),
        said=("messages",),
        instructions=("system",),
    ),
    Api(
        "invoke_model",
        "bedrock.invoke:InvokeModel",
        verbs=("invoke",),
        owner=_BEDROCK,
        said=(
            "prompt",
            "inputText",
            "message",
            "textToImageParams",
            "inPaintingParams",
            "outPaintingParams",
            "imageVariationParams",
            "colorGuidedGenerationParams",
            "backgroundRemovalParams",
            "text_prompts",
        ),
    ),
    Api(
        "invoke_embeddings",
        "bedrock.invoke:InvokeEmbeddings",
        owner=_BEDROCK,
        said=("inputText", "texts", "singleEmbeddingParams"),
    ),
    Api(
        "cohere_chat",
        "cohere.chat:Chat",
        asked=("messages",),
        path_ends=("v2/chat",),
        owner=_COHERE,
        said=("messages",),
        has_plain_messages=True,
    ),
    Api(
        "cohere_chat_v1",
        "cohere.chat_v1:ChatV1",
        asked=("message",),
        path_ends=("v1/chat",),
        owner=_COHERE,
        default_chooser=_COHERE,
        other="chat_completions",  # Writer's
        said=("chat_history", "message", "tool_results"),
        instructions=("preamble",),
        repeats=("chat_history",),
        role_of_model="chatbot",
    ),
    Api(
        "cohere_embed",
        "cohere.embed:Embed",
        asked=("texts", "images", "inputs"),
        path_ends=("v1/embed", "v2/embed"),
        owner=_COHERE,
        default_chooser=_COHERE,
        said=("texts", "images", "inputs"),
    ),
    Api(
        "rerank",
        "cohere.rerank:Rerank",
        asked=("query",),
        paths=("rerank",),
        default_chooser=_COHERE,
        said=("documents", "query"),
    ),
    Api(
        "ollama_chat",
        "ollama.chat:Chat",
        asked=("messages",),
        path_ends=("api/chat",),
        owner=_OLLAMA,
        media_marks=_IMAGES,
        said=("messages",),
        has_plain_messages=True,
    ),
    Api(
        "ollama_generate",
        "ollama.chat:Generate",
        asked=("prompt",),
        path_ends=("api/generate",),
        owner=_OLLAMA,
        media_marks=_IMAGES,
        said=("prompt",),
        instructions=("system",),
    ),
    Api(
        "ollama_embed",
        "ollama.embed:Embed",
        asked=("input", "prompt"),
        path_ends=("api/embed", "api/embeddings"),
        owner=_OLLAMA,
        said=("input", "prompt"),
    ),
    Api(
        "text_generation",
        "huggingface.text_generation:TextGeneration",
        asked=("inputs",),
        verbs=("models",),
        said=("inputs",),
    ),
    Api(
        "watsonx_chat",
        "watsonx.text:Chat",
        asked=("messages",),
        verbs=("chat",),
        owner=_WATSONX,
        said=("messages",),
        has_plain_messages=True,
    ),
    Api(
        "watsonx_generation",
        "watsonx.text:Generation",
        asked=("input",),
        verbs=("generation",),
        owner=_WATSONX,
        said=("input",),
    ),
    Api(
        "watsonx_embeddings",
        "watsonx.text:Embeddings",
        asked=("inputs",),
        verbs=("embeddings",),
        owner=_WATSONX,
        said=("inputs",),
    ),
    Api(
        "watsonx_rerank",
        "watsonx.text:Rerank",
        asked=("query",),
        verbs=("rerank",),
        owner=_WATSONX,
        said=("inputs", "query"),
    ),
)
APIS: Final[dict[str, Api]] = {row.name: row for row in _ROWS}
"""The rows by name, in order of how common they are."""

OTHER: Final = Api(
    "", "", said=("messages", "input", "prompt"), has_plain_messages=True, instructions=("system", "instructions")
)
"""What is assumed of the bodies of an API without a row."""
