"""Prompts that are no messages (legacy completions, embeddings): texts, or token ids, as messages of a user."""

from __future__ import annotations

from callspan.providers.copies import detached
from callspan.record.messages import Message, Part, Text, UnknownPart


def prompt_messages(prompt: object) -> list[Message]:
    """Return one message per text; token ids are kept as they came. None has no message."""
    if prompt is None or prompt == "":
        return []
    if not isinstance(prompt, list) or (prompt and isinstance(prompt[0], int)):
        return [_message(prompt)]
    return [_message(entry) for entry in prompt]


def _message(entry: object) -> Message:
    part: Part = Text(text=entry) if isinstance(entry, str) else UnknownPart(data=detached(entry))
    return Message(role="user", parts=[part])
