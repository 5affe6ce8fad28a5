"""Embeddings and predictions: `embedContent` and its batches; `predict` of Vertex, for embeddings and images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

import msgspec

from callspan.providers.base import Operation, ResponseInfo, parameters
from callspan.providers.error_kinds import error_in, error_info
from callspan.providers.fold.last import LastBody
from callspan.providers.google.parts import camel, parts
from callspan.providers.google.usage import input_usage
from callspan.providers.media_parts import media
from callspan.providers.wire_json import Json, count, mapping, objects, text
from callspan.record.call import Request, Response
from callspan.record.messages import Conversation, Media, Message, Part, Text
from callspan.record.usage import Usage

_CONTENT: Final = frozenset({"content", "requests", "instances", "model", "parameters"})
_IMAGE: Final = "bytesBase64Encoded"
_SOUND: Final = "audioContent"
_IMAGE_KIND: Final = "image"
_KINDS: Final = ("audio", "video")
_MAX_DEPTH: Final = 8
_FILTERED: Final = "raiFilteredReason"


class EmbedContent:
    """`embedContent` and `batchEmbedContents`. Vectors are never read. Stateless."""

    operation: Operation = "embeddings"
    answer = frozenset({"embedding", "embeddings", "usageMetadata"})
    """The fields of an answer. Any of them identifies a body as an answer."""

    def __init__(self, api: str) -> None:
        self.api = api

    def request(self, body: object) -> Request:
        """Return the parameters of a request. The path has the model."""
        return Request(params=parameters(body, _CONTENT) if isinstance(body, dict) else {})

    def accumulator(self) -> LastBody:
        """Return an accumulator that keeps the last body: these answers are no streams."""
        return LastBody(mapping)

    def response_info(self, body: object) -> ResponseInfo:
        """Return usage and error of an answer; older models state no usage."""
        error = error_in(body) if isinstance(body, dict) else None
        return ResponseInfo(
            response=Response(),
            usage=self._usage(body),
            error=error_info(body={"error": error}) if error else None,
            recognized=isinstance(body, dict) and (bool(error) or not self.answer.isdisjoint(body)),
        )

    def _usage(self, body: object) -> Usage | None:
        return input_usage(mapping(body, "usageMetadata"))

    def conversation(self, request: object, response: object) -> Conversation:  # noqa: ARG002 - vectors say nothing
        """Return the embedded contents as user messages; there is no output."""
        requests: list[object] = [*objects(request, "requests")] or [request]
        contents = [parts(content) for item in requests if (content := mapping(item, "content")) is not None]
        return Conversation(input=[Message(role="user", parts=content) for content in contents])


class Predict(EmbedContent):
    """`predict`: embeddings or images. Stateless."""

    operation: Operation = "generate_content"
    answer = frozenset({"predictions"})

    def request(self, body: object) -> Request:
        """Return the parameters of a request."""
        fields = mapping(body, "parameters")
        return Request(params={} if fields is None else parameters(cast("dict[object, object]", fields), ()))

    def response_info(self, body: object) -> ResponseInfo:
        """Return usage and error of an answer, and whether a filter held a picture back."""
        info = super().response_info(body)
        is_filtered = any(_FILTERED in prediction for prediction in objects(body, "predictions"))
        return msgspec.structs.replace(info, response=Response(refused=is_filtered))

    def _usage(self, body: object) -> Usage | None:
        """Return the tokens of embedded texts, or the number of images; None if neither is stated."""
        predictions = list(objects(body, "predictions"))
        tokens = [count(prediction, "embeddings", "statistics", "token_count") for prediction in predictions]
        images = sum(_IMAGE in prediction and _modality(prediction) == _IMAGE_KIND for prediction in predictions)
        token_counts = [number for number in tokens if number is not None]
        if token_counts:
            return Usage(input_tokens=sum(token_counts), total_tokens=sum(token_counts))
        return Usage(output_images=images) if images else None

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the texts of a request and the images of its answer."""
        instances = map(camel, objects(request, "instances"))
        asked = [
            [*([Text(text=content)] if (content := _text(item)) else []), *_media_in(item, _IMAGE_KIND)]
            for item in instances
        ]  # fmt: skip
        images = list(filter(None, map(_image, objects(response, "predictions"))))
        return Conversation(
            input=[Message(role="user", parts=cast("list[Part]", parts)) for parts in asked if parts],
            output=[Message(role="assistant", parts=cast("list[Part]", images))] if images else [],
        )


def _text(instance: Json) -> str | None:
    return text(instance, "prompt") or text(instance, "content") or text(instance, "text")


def _media_in(value: object, kind: str, depth: int = 0) -> Iterator[Media]:
    """Yield the media of an instance, wherever it has them: pictures, masks, references, sounds and videos."""
    if isinstance(value, list):
        for item in value:
            yield from _media_in(item, kind, depth)
    elif isinstance(value, dict) and depth < _MAX_DEPTH:
        source = value.get(_IMAGE) or value.get("gcsUri")
        if source and (medium := media(kind, source, part=value, mime=text(value, "mimeType"))) is not None:
            yield medium
        for name, item in value.items():
            yield from _media_in(item, name if name in _KINDS else kind, depth + 1)


def _image(prediction: Json) -> Media | None:
    mime, source = text(prediction, "mimeType"), prediction.get(_IMAGE) or prediction.get(_SOUND)
    return media(_modality(prediction), source, part=prediction, mime=mime)


def _modality(prediction: Json) -> str:
    kind = (text(prediction, "mimeType") or "").partition("/")[0]
    return kind if kind in _KINDS else "audio" if _SOUND in prediction else _IMAGE_KIND
