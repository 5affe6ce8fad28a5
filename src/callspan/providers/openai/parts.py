"""Content parts of OpenAI's endpoints and their extensions as typed parts; media by reference, never their bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from callspan.providers.media_parts import media, media_of_source
from callspan.providers.wire_json import detached, dig, items, mapping, text
from callspan.record.media_reference import MEDIA_KEY, stated_mime
from callspan.record.messages import Media, Message, Part, Reasoning, Refusal, Text, UnknownPart

_Fields: TypeAlias = dict[str, object]
_Reader: TypeAlias = Callable[[_Fields], Part | None]

_UNTYPED: Final = ("text", "image_url", "input_audio", "file", "refusal")
"""Fields that determine the kind of a part without a type."""

_REFERENCES: Final = ("reference", "tool_reference")
"""Types of parts that only refer to the sources of a text."""


def url_of(value: object) -> object:
    """Return the URL of an `image_url` or similar field, a text or an object with `url`."""
    return dig(value, "url") if mapping(value) is not None and mapping(value, MEDIA_KEY) is None else value


def parts_of(content: object) -> list[Part]:
    """Return the parts of a message's `content`: text, a list of parts, or one part. None and "" have none."""
    if content is None or content == "":
        return []
    if isinstance(content, list):
        parts = [part for item in content if (part := _part(item)) is not None]
        return _with_references(parts) if any(isinstance(part, UnknownPart) for part in parts) else parts
    single = _part(content)
    return [] if single is None else [single]


def _with_references(parts: list[Part]) -> list[Part]:
    """Return the parts with Mistral's references as annotations of the text before each."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, UnknownPart) and isinstance(last, Text) and text(part.data, "type") in _REFERENCES:
            joined[-1] = msgspec.structs.replace(last, annotations=[*(last.annotations or ()), part.data])
        else:
            joined.append(part)
    return joined


def text_of(content: object) -> str:
    """Return the text in a thinking block's content, a text or a list of text parts."""
    if isinstance(content, str):
        return content
    return "".join(text(item, "text") or "" if isinstance(item, dict) else "" for item in items(content))


def list_or_none(value: object) -> list[object] | None:
    """Return a copy of a non-empty list, else None."""
    return detached(value) if isinstance(value, list) and value else None


def _part(item: object) -> Part | None:
    if isinstance(item, str):
        return Text(text=item) if item else None
    if not isinstance(item, dict):
        return None if item is None else UnknownPart(data=detached(item))
    kind = text(item, "type")
    reader = _READERS.get(kind or "")
    if reader is None and kind is None:
        reader = next((_READERS[key] for key in _UNTYPED if key in item), None)
    if text(item, "text") == "" and reader is _text:
        return None
    part = None if reader is None else reader(item)
    return UnknownPart(data=detached(item)) if part is None else part


def _text(item: _Fields) -> Part | None:
    content = text(item, "text")
    if content is None:
        return None
    logprobs = item.get("logprobs")
    return Text(
        text=content,
        annotations=list_or_none(item.get("annotations")),
        logprobs=detached(logprobs) if isinstance(logprobs, list) and logprobs else None,
    )


def _refusal(item: _Fields) -> Part | None:
    content = text(item, "refusal")
    return None if content is None else Refusal(text=content)


def _reasoning(item: _Fields) -> Part | None:
    thought = item.get("thinking")
    content = text_of(item.get("text") if thought is None else thought) or None
    signature, sealed = text(item, "signature") or None, text(item, "data") or None
    return Reasoning(text=content, signature=signature, sealed=sealed) if content or signature or sealed else None


def _by_url(key: str, modality: str) -> _Reader:
    def read(item: _Fields) -> Media | None:
        part = media(modality, url_of(item.get(key)), part=item, file_id=text(item, "file_id") or None)
        detail = text(item, "detail") or text(item, key, "detail")
        return msgspec.structs.replace(part, detail=detail) if part and detail else part

    return read


def _sound(item: _Fields) -> Media | None:
    stated = item.get("input_audio")
    sound = mapping(stated) or item
    # Mistral states its base64 or URL without an object around it.
    return media(
        "audio",
        stated if isinstance(stated, str) else sound.get("data"),
        part=sound if MEDIA_KEY in sound else item,
        mime=stated_mime(sound),
    )


def _file(item: _Fields) -> Media | None:
    file = mapping(item, "file") or item
    source = file.get("file_data") or file.get("file_url")
    fields = file if MEDIA_KEY in file else item
    part = media("document", source, part=fields, mime=stated_mime(file), file_id=text(file, "file_id") or None)
    return part and msgspec.structs.replace(part, filename=text(file, "filename") or None)


_READERS: Final[dict[str, _Reader]] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "summary_text": _text,
    "refusal": _refusal,
    "thinking": _reasoning,
    "reasoning": _reasoning,
    "reasoning_text": _reasoning,
    "redacted_thinking": _reasoning,
    "image_url": _by_url("image_url", "image"),
    "input_image": _by_url("image_url", "image"),
    "video_url": _by_url("video_url", "video"),
    "audio_url": _by_url("audio_url", "audio"),
    "document_url": _by_url("document_url", "document"),
    "input_audio": _sound,
    "file": _file,
    "input_file": _file,
    "image": media_of_source,
    "document": media_of_source,
}


def prompt_messages(prompt: object) -> list[Message]:
    """Return a prompt of texts or token ids as user messages, one per text. Token ids are kept."""
    if prompt is None or prompt == "":
        return []
    if not isinstance(prompt, list) or (prompt and isinstance(prompt[0], int)):
        return [_prompt_message(prompt)]
    return [_prompt_message(entry) for entry in prompt]


def _prompt_message(entry: object) -> Message:
    part: Part = Text(text=entry) if isinstance(entry, str) else UnknownPart(data=detached(entry))
    return Message(role="user", parts=[part])
