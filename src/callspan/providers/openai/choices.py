"""Answers made of choices (chat and legacy completions): their order and the facts they state."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from callspan.fail_open import ours
from callspan.providers.base import ResponseFacts
from callspan.providers.openai.stated import finish_reason, meanings, moment, stated_error
from callspan.providers.openai.usage import usage_of
from callspan.providers.wire import UNFIT, integer, items, text, word
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


def choice_facts(body: object, *, refused: bool = False) -> ResponseFacts:
    """Return what an answer made of choices states. `refused`: its content is a refusal."""
    return _usual(body, refused) or _whatever(body, refused)


def _usual(body: object, refused: bool) -> ResponseFacts | None:
    """The facts of a well-formed answer with one choice, read in one step; None for any other."""
    try:
        answer = msgspec.convert(body, _Answer)
    except ours(*UNFIT):
        return None
    choice = answer.choices[0]
    if answer.error or choice.error or answer.object == "error":
        return None
    reason = choice.finish_reason or None
    meant = None if reason is None else normalised(reason)
    return ResponseFacts(
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


def _whatever(body: object, refused: bool) -> ResponseFacts:
    """The facts of any answer, field by field."""
    reasons = [finish_reason(choice.get("finish_reason")) for choice in in_order(body)]
    meant = meanings(reasons)
    refused = refused or any(text(choice, "message", "refusal") for choice in items(body, "choices"))
    return ResponseFacts(
        response=Response(
            id=word(body, "id"),
            model=word(body, "model"),
            created=moment(body, "created"),
            finish_reasons=reasons,
            service_tier=word(body, "service_tier"),
            system_fingerprint=word(body, "system_fingerprint"),
        ),
        usage=usage_of(body),
        error=stated_error(body),
        truncated=LENGTH in meant,
        refused=refused or CONTENT_FILTER in meant,
    )
