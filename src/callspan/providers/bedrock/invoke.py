"""Invoke model: bodies in the vendors' own formats, which Bedrock passes on as they are.

The fields of a body tell which API reads it. Bodies of Anthropic's and Nova's models, and of models that speak chat
completions, are read as elsewhere. Others state a prompt and a text in fields of their own, which are rows here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, cast

from callspan.providers.base import Operation, ResponseInfo, parameters
from callspan.providers.bedrock.usage import METRICS, invoked_usage
from callspan.providers.error_kinds import error_in, error_info
from callspan.providers.finishing import STOP_REASON, answer_info, is_blocked
from callspan.providers.fold.last import LastBody
from callspan.providers.fold.merge import finished_copy, grow
from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.media_parts import media, media_by_kind
from callspan.providers.wire_json import Json, detached, dig, items, mapping, objects, text, word
from callspan.record.call import ErrorInfo, Request, Response
from callspan.record.media_reference import MEDIA_KEY
from callspan.record.messages import Conversation, Media, Message, Part, Text

_PROMPTS: Final = ("prompt", "inputText", "message", "inputPrompt")
"""Fields with the text of a request: Llama, Mistral, Cohere, AI21; Titan; Cohere's chat; TwelveLabs."""
_CONTENT: Final = frozenset({
    *_PROMPTS, "chat_history", "documents", "preamble", "texts", "images", "image", "inputImage", "inputs",
    "mediaSource", "query", "text", "tool_results",
})  # fmt: skip
_SETTINGS: Final = ("textGenerationConfig", "embeddingConfig", "imageGenerationConfig")
"""Objects with the parameters of a request."""
_NAMES: Final = {
    "maxTokenCount": "max_tokens", "maxTokens": "max_tokens", "max_gen_len": "max_tokens",
    "max_tokens_to_sample": "max_tokens", "topP": "top_p", "p": "top_p", "topK": "top_k", "k": "top_k",
    "stopSequences": "stop_sequences", "stop": "stop_sequences",
}  # fmt: skip
_LISTS: Final = ("results", "outputs", "generations", "completions", "choices")
"""Fields with the answers of a body: Titan, Mistral, Cohere, AI21, DeepSeek. Other bodies are one answer themselves."""
_TEXTS: Final = (("outputText",), ("generation",), ("completion",), ("text",), ("data", "text"), ("message",))
"""Paths of the text of an answer."""
_MESSAGE: Final = "message"
"""The text of an answer of TwelveLabs, and of an error."""
_GROWING: Final = frozenset(path[0] for path in _TEXTS if len(path) == 1)
_REASONS: Final = (
    ("completionReason",), ("stop_reason",), ("finish_reason",), ("finishReason", "reason"), ("finishReason",),
)  # fmt: skip
"""Paths of its finish reason."""
_IMAGES: Final = ("images", "artifacts")
"""Fields with the pictures of a body: Nova, Titan and Stability; SDXL."""
_OF_IMAGES: Final = "Params"
"""How the fields with the prompts of Nova's and Titan's pictures end, such as `textToImageParams`."""
_ANSWER: Final = frozenset({*_IMAGES, *_LISTS, *_GROWING, *(path[0] for path in _REASONS), METRICS}) - {_MESSAGE}
_OF_ANSWER: Final = frozenset({*_GROWING, "stop_reason", "finishReason"}) - {_MESSAGE}
"""Fields of a body that is one answer."""
_EMBEDDED: Final = frozenset({"embeddings", "embedding", "embeddingsByType", "inputTextTokenCount"})
_OF_NOVA: Final = ("singleEmbeddingParams", "segmentedEmbeddingParams")
"""Objects with what Nova embeds."""
_OF_EMBEDDINGS: Final = frozenset({
    "texts", "input_type", "inputType", "embeddingConfig", "embedding_types", "embeddingTypes", "normalize",
    "dimensions", *_OF_NOVA,
})  # fmt: skip
"""Fields of requests for embeddings."""
_OF_CONVERSE: Final = frozenset({"inferenceConfig", "schemaVersion", "toolConfig"})
"""Fields of requests to Nova's models beside their messages."""
_EMBED: Final = "embed"
_IN_HEADERS: Final = (
    ("performanceConfigLatency", "x-amzn-bedrock-performanceconfig-latency", ("performance_config", "latency")),
    ("serviceTier", "x-amzn-bedrock-service-tier", ("service_tier",)),
    ("guardrailIdentifier", "x-amzn-bedrock-guardrailidentifier", ("guardrail_config", "guardrailIdentifier")),
    ("guardrailVersion", "x-amzn-bedrock-guardrailversion", ("guardrail_config", "guardrailVersion")),
)
"""What the headers of an invocation set: its name in SDKs, the header, and where Converse has it in its parameters."""


def api_of(model: object, body: object) -> str:
    """Return the name of the API that reads the body of a request to invoke a model."""
    fields = mapping(body) or {}
    if "messages" in fields:
        if "anthropic_version" in fields:
            return "messages"
        is_nova = not _OF_CONVERSE.isdisjoint(fields) or (isinstance(model, str) and ".nova-" in model)
        return "converse" if is_nova else "chat_completions"
    if "query" in fields and "documents" in fields:
        return "rerank"
    names_embeddings = isinstance(model, str) and _EMBED in model
    return "invoke_embeddings" if names_embeddings or not _OF_EMBEDDINGS.isdisjoint(fields) else "invoke_model"


def header_params(stated: Mapping[str, object]) -> Json:
    """Return the parameters that headers set, from these or from the arguments that an SDK makes them of."""
    params: Json = {}
    for argument, header, (name, *inner) in _IN_HEADERS:
        value = stated.get(argument) or stated.get(header)
        if isinstance(value, str) and value:
            params[name] = {**(mapping(params.get(name)) or {}), inner[0]: value} if inner else value
    return params


def as_chunk(event: object) -> object:
    """Return an event of a stream of chat completions as their chunk: Mistral's has a message in place of a delta."""
    if not any("message" in choice and "delta" not in choice for choice in objects(event, "choices")):
        return event
    choices = [
        {**choice, "delta": choice.get("message"), "finish_reason": choice.get(STOP_REASON)}
        for choice in objects(event, "choices")
    ]
    return {**(mapping(event) or {}), "choices": choices}


class InvokedFold:
    """Joins the events of a stream: texts grow, of other fields the last value counts, answers by their position."""

    usage_rule: ClassVar[UsageRule] = "last of each"

    def __init__(self) -> None:
        self._body: Json = {}

    @property
    def complete(self) -> bool:
        """True once an answer has a finish reason, a guardrail has blocked it, or the counts were received."""
        return METRICS in self._body or is_blocked(self._body) or any(map(finish_reason, answers(self._body)))

    @property
    def ended(self) -> bool:
        """True once the counts were received, which come last."""
        return METRICS in self._body

    def add(self, event: object) -> bool:
        """Fold in one event; return True if it carried content."""
        return _merge(self._body, event) if isinstance(event, dict) else False

    def body(self) -> Json | None:
        """Return the body so far; None if nothing was received."""
        return finished_copy(self._body) or None


def _merge(target: Json, event: Mapping[str, Any]) -> bool:
    has_content = False
    for key, value in event.items():
        if key in _LISTS and isinstance(value, list):
            if not isinstance(target.get(key), list):
                target[key] = []
            has_content = _merge_answers(target[key], value) or has_content
        elif key in _GROWING and isinstance(value, str):
            has_content = grow(target, key, value) or has_content
        elif value is not None or key not in target:
            target[key] = detached(value)
    return has_content


def _merge_answers(listed: list[Any], answers_of_event: list[Any]) -> bool:
    has_content = False
    for position, answer in enumerate(answers_of_event):
        if isinstance(answer, dict):
            index = answer.get("index")
            number = index if type(index) is int and 0 <= index < len(listed) else position
            while len(listed) <= number:
                listed.append({})
            has_content = _merge(listed[number], answer) or has_content
    return has_content


def answers(body: object) -> list[Json]:
    """Return the answers in a body (not copies)."""
    for name in _LISTS:
        if listed := list(objects(body, name)):
            return listed
    return [body] if isinstance(body, dict) and not _OF_ANSWER.isdisjoint(body) else []


def finish_reason(answer: object) -> str | None:
    """Return why an answer ended; None if it has not."""
    return next((reason for path in _REASONS if isinstance(reason := dig(answer, *path), str) and reason), None)


def _text(answer: object) -> str | None:
    return next(
        (content for path in _TEXTS if isinstance(content := finished_copy(dig(answer, *path)), str)), None
    )  # fmt: skip


class InvokeModel:
    """`invoke_model` and its stream, of models that continue a prompt. Stateless."""

    operation: Operation = "text_completion"
    accumulator: Any = InvokedFold

    def __init__(self, api: str) -> None:
        self.api = api

    def request(self, body: object) -> Request:
        """Return the parameters of a request. The path has the model."""
        if not isinstance(body, dict):
            return Request()
        fields: Json = {**body}
        for name in _SETTINGS:
            fields |= mapping(fields.pop(name, None)) or {}
        named = parameters(cast("dict[object, object]", fields), _CONTENT)
        return Request(params={_NAMES.get(key, key): value for key, value in named.items()})

    def response_info(self, body: object) -> ResponseInfo:
        """Return id, finish reasons, usage and error of a complete or folded body; accepts any JSON."""
        stated = answers(body)
        reasons, usage = list(map(finish_reason, stated)), invoked_usage(body, stated)
        reasons += [reason for reason in items(body, "finish_reasons") if isinstance(reason, str)]  # of pictures
        reasons += filter(None, map(finish_reason, objects(body, "artifacts")))
        response = Response(id=word(body, "id"), finish_reasons=reasons)
        is_filtered = _filters_pictures(body)
        return answer_info(
            response, reasons, usage, None if is_filtered else _error(body), recognized=self._is_answer(body),
            refused=is_filtered or is_blocked(body),
        )  # fmt: skip

    def _is_answer(self, body: object) -> bool:
        # The id of a profile, and a text alone, do not tell that a model embeds.
        return isinstance(body, dict) and not (_ANSWER | _EMBEDDED).isdisjoint(body)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the prompt and the answers. Either body may be None."""
        texts = [content for name in _PROMPTS if (content := text(request, name))] or _of_pictures(request)
        outputs = [(content, finish_reason(answer)) for answer in answers(response) if (content := _text(answer))]
        messages = [
            Message(role="assistant", parts=[Text(text=content)], finish_reason=reason) for content, reason in outputs
        ]
        pictures = list(filter(None, map(_picture, (one for name in _IMAGES for one in items(response, name)))))
        return Conversation(
            input=[Message(role="user", parts=[Text(text=content)]) for content in texts],
            output=[*messages, *([Message(role="assistant", parts=[*pictures])] if pictures else [])],
        )


def _filters_pictures(body: object) -> bool:
    """Return whether Nova or Titan held pictures back: it says so in `error`, beside those that it returns."""
    return isinstance(body, dict) and "images" in body and bool(word(body, "error"))


def _of_pictures(request: object) -> list[str]:
    """Return the texts of a request for pictures: of Nova and Titan in an object, of SDXL in a list."""
    fields = mapping(request) or {}
    asked = [value for name, value in fields.items() if isinstance(name, str) and name.endswith(_OF_IMAGES)]
    return [content for one in (*asked, *objects(fields, "text_prompts")) if (content := text(one, "text"))]


def _picture(picture: object) -> Media | None:
    source = dig(picture, "base64") if isinstance(picture, dict) and MEDIA_KEY not in picture else picture
    return media("image", source, mime="image/png")


class InvokeEmbeddings(InvokeModel):
    """`invoke_model` of models that embed. Vectors are never read. Stateless."""

    operation: Operation = "embeddings"

    def accumulator(self) -> LastBody:
        """Return an accumulator that keeps the last body: these answers are no streams."""
        return LastBody(mapping)

    def _is_answer(self, body: object) -> bool:
        if not isinstance(body, dict):
            return False
        return not _EMBEDDED.isdisjoint(body) or any("embedding" in vector for vector in objects(body, "data"))

    def conversation(self, request: object, response: object) -> Conversation:  # noqa: ARG002 - vectors say nothing
        """Return the embedded texts and pictures as user messages; there is no output."""
        parts = [part for entry in objects(request, "inputs") for part in items(entry, "content")]
        texts = [
            text(request, "inputText"), text(request, "text", "inputText"), *items(request, "texts"),
            *(text(request, name, "text", "value") for name in _OF_NOVA), *(text(part, "text") for part in parts),
        ]  # fmt: skip
        pictures = [
            dig(request, "inputImage"), *items(request, "images"), *(dig(part, "image_url", "url") for part in parts),
        ]  # fmt: skip
        embedded: list[Part] = [Text(text=words) for words in texts if isinstance(words, str) and words]
        embedded += filter(None, map(_picture, pictures))
        for name in _OF_NOVA:
            embedded += media_by_kind(mapping(request, name) or {}, "source", "bytes")
        return Conversation(input=[Message(role="user", parts=[part]) for part in embedded])


def _error(body: object) -> ErrorInfo | None:
    error = error_in(body) if isinstance(body, dict) else None
    if error is None and isinstance(body, dict) and _ANSWER.isdisjoint(body) and (message := text(body, "message")):
        error = {"message": message}
    return None if error is None else error_info(body={"error": error})
