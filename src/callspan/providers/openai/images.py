"""Images: requests, responses and streams of `/images/generations`, `/images/edits` and `/images/variations`.

A stream is folded into the body that the endpoint returns without streaming: its complete images, else the last partial
one, marked by `"incomplete": true`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from callspan.providers.base import Api, Operation, ResponseInfo
from callspan.providers.openai.parts import media, prompt_messages
from callspan.providers.openai.response import OpenAIEndpoint, response_error, unix_time
from callspan.providers.openai.usage import usage_of
from callspan.providers.wire_json import detached, dig, items, mapping, objects, word
from callspan.record.call import Response
from callspan.record.messages import Conversation, Message, Part, Text
from callspan.record.usage import Usage

_IMAGE: Final = "b64_json"
_ABOUT_EVENT: Final = frozenset({"type", "created_at", "sequence_number", "partial_image_index", "usage", _IMAGE})
_INCOMPLETE: Final = "incomplete"


class ImageAccumulator:
    """Folds the events of an image stream. Keeps one partial image at a time."""

    __slots__ = ("_error", "_fields", "_images", "_partial", "_whole", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._fields: dict[str, Any] = {}
        self._images: list[dict[str, Any]] | None = None
        self._partial: str | None = None
        self._whole: dict[str, Any] | None = None
        self._error: object = None

    def add(self, chunk: object) -> bool:
        """Fold in one event; True if it carried a partial or complete image."""
        if not isinstance(chunk, dict):
            return False
        if chunk.get("error"):
            self._error = detached(chunk["error"])
            return False
        if isinstance(chunk.get("data"), list):
            self.complete, self._whole = True, detached(chunk)
            return True
        image = word(chunk, _IMAGE)
        self._take_fields(chunk)
        if str(chunk.get("type")).endswith(".completed"):
            self.complete = True
            self._images = [*(self._images or ()), *([{_IMAGE: image}] if image else ())]
            self._partial = None
        else:
            self._partial = image or self._partial
        return image is not None

    def body(self) -> dict[str, object] | None:
        """Return the answer so far; None if nothing was received."""
        if self._whole is not None:
            return detached(self._whole)
        partial = [] if self._partial is None else [{_IMAGE: self._partial, _INCOMPLETE: True}]
        whole = detached(self._fields)
        if self._images is not None or partial:
            whole["data"] = [*map(dict, self._images or ()), *partial]
        if self._error:
            whole["error"] = detached(self._error)
        return whole or None

    def _take_fields(self, event: dict[str, Any]) -> None:
        if (created := unix_time(event, "created_at")) is not None:
            self._fields["created"] = created
        self._fields |= {key: detached(value) for key, value in event.items() if key not in _ABOUT_EVENT}
        if (usage := mapping(event, "usage")) is not None:
            self._fields["usage"] = detached(usage)


class Images(OpenAIEndpoint):
    """The endpoint that generates images. Stateless."""

    api: Api = "images"
    operation: Operation = "generate_content"
    path = "/images/generations"
    message_key = "prompt"

    def accumulator(self) -> ImageAccumulator:
        """Return a fresh accumulator for one stream."""
        return ImageAccumulator()

    def response_info(self, body: object) -> ResponseInfo:
        """Return time, usage and error of an answer, which has no model. Total."""
        error = response_error(body)
        return ResponseInfo(
            response=Response(created=unix_time(body, "created")),
            usage=_usage(body),
            error=error,
            recognized=error is not None or isinstance(dig(body, "data"), list),
        )

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the prompt as a user's message, and each image as an assistant's; either may be None."""
        return Conversation(input=prompt_messages(dig(request, "prompt")), output=_outputs(response))


class ImageEdits(Images):
    """The endpoint that edits images. Stateless."""

    api: Api = "image_edits"
    path = "/images/edits"

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the prompt with the images and masks as a user's message, and each image as an answer."""
        given = [*_listed(request, "image"), *_listed(request, "images"), *_listed(request, "mask")]
        prompt = word(request, "prompt")
        parts: list[Part] = [] if prompt is None else [Text(text=prompt)]
        parts += [found for image in given if (found := media("image", image)) is not None]
        message = [Message(role="user", parts=parts)] if parts else []
        return Conversation(input=message, output=_outputs(response))


class ImageVariations(ImageEdits):
    """The endpoint that varies an image. Stateless."""

    api: Api = "image_variations"
    path = "/images/variations"
    message_key = "image"


def _listed(request: object, key: str) -> list[object]:
    """Return the files of a form: one, or a list."""
    found = dig(request, key)
    return found if isinstance(found, list) else [] if found is None else [found]


def _outputs(body: object) -> list[Message]:
    """Return one message per image, with the revised prompt if the provider returns it."""
    kind = word(body, "output_format")
    mime = None if kind is None else f"image/{kind}"
    messages = []
    for image in objects(body, "data"):
        found = media("image", image.get(_IMAGE) or image.get("url"), mime=mime)
        parts: list[Part] = [] if found is None else [found]
        if (revised := word(image, "revised_prompt")) is not None:
            parts.append(Text(text=revised))
        messages.append(Message(role="assistant", parts=parts))
    return messages


def _usage(body: object) -> Usage | None:
    """Return the usage of an answer, with the number of its complete images.

    Where the output has no parts all of it is image tokens: events state it so, as did answers before they had parts.
    What drawing SVG took of another model (`svg_usage`) has other prices: it is kept in `raw` alone.
    """
    counted = usage_of(body)
    count = sum(1 for image in items(body, "data") if mapping(image) is not None and not dig(image, _INCOMPLETE))
    if counted is None and not count:
        return None
    usage = counted or Usage()
    raw, svg = usage.raw, mapping(body, "svg_usage")
    if svg is not None:
        raw = {**(raw or {}), "svg_usage": detached(svg)}
    image_tokens = usage.output_image_tokens
    if image_tokens is None and usage.output_text_tokens is None:
        image_tokens = usage.output_tokens
    return msgspec.structs.replace(usage, output_images=count, output_image_tokens=image_tokens, raw=raw)
