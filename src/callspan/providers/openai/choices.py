"""Responses made of choices (chat and legacy completions): their order, and what they say of themselves."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from callspan.fail_open import ours
from callspan.providers.base import ResponseInfo
from callspan.providers.json_readers import UNFIT, integer, items, text, word
from callspan.providers.openai.response import finish_meanings, finish_reason, response_error, unix_time
from callspan.providers.openai.usage import usage_of
from callspan.record.call import Response
from callspan.record.finish import CONTENT_FILTER, LENGTH, normalised


class _Message(msgspec.Struct):
    refusal: str | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: _Message | None = None
    error: Any = None


class _Answer(msgspec.Struct):
    """An answer as nearly all are: what is read of it."""

    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1, max_length=1)]
    id: str | None = None
    model: str | None = None
    created: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)] | None = None
    object: str | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    error: Any = None


def in_order(body: object) -> list[dict[str, object]]:
    """Return the choices of an answer in the order of their indices; one without counts by its place."""
    choices = [choice for choice in items(body, "choices") if isinstance(choice, dict)]
    if len(choices) <= 1:
        return choices
    placed = list(enumerate(choices))
    placed.sort(key=lambda entry: entry[0] if (index := integer(entry[1], "index")) is None else index)
    return [choice for _, choice in placed]


def choices_info(body: object, *, refused: bool = False) -> ResponseInfo:
    """Return what an answer made of choices states. `refused`: its content is a refusal."""
    return _fast(body, refused) or _generic(body, refused)


def _fast(body: object, refused: bool) -> ResponseInfo | None:
    """The info of a well-formed response with one choice, read in one step; None for any other."""
    try:
        answer = msgspec.convert(body, _Answer)
    except ours(*UNFIT):
        return None
    choice = answer.choices[0]
    if answer.error or choice.error or answer.object == "error":
        return None
    reason = choice.finish_reason or None
    meant = None if reason is None else normalised(reason)
    return ResponseInfo(
        response=Response(
            id=answer.id or None,
            model=answer.model or None,
            created=answer.created,
            finish_reasons=[reason],
            service_tier=answer.service_tier or None,
            system_fingerprint=answer.system_fingerprint or None,
        ),
        usage=usage_of(body),
        truncated=meant == LENGTH,
        refused=refused or meant == CONTENT_FILTER or bool(choice.message and choice.message.refusal),
    )


def _generic(body: object, refused: bool) -> ResponseInfo:
    """The info of any response, field by field."""
    reasons = [finish_reason(choice.get("finish_reason")) for choice in in_order(body)]
    meant = finish_meanings(reasons)
    refused = refused or any(text(choice, "message", "refusal") for choice in items(body, "choices"))
    return ResponseInfo(
        response=Response(
            id=word(body, "id"),
            model=word(body, "model"),
            created=unix_time(body, "created"),
            finish_reasons=reasons,
            service_tier=word(body, "service_tier"),
            system_fingerprint=word(body, "system_fingerprint"),
        ),
        usage=usage_of(body),
        error=response_error(body),
        truncated=LENGTH in meant,
        refused=refused or CONTENT_FILTER in meant,
    )
