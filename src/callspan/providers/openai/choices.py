"""Answers made of choices (chat and legacy completions): their order and the facts they state."""

from __future__ import annotations

from callspan.providers.base import ResponseFacts
from callspan.providers.openai.stated import finish_reason, means, moment, stated_error
from callspan.providers.openai.usage import usage_of
from callspan.providers.wire import integer, items, text
from callspan.record.call import Response


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
    reasons = [finish_reason(choice.get("finish_reason")) for choice in in_order(body)]
    return ResponseFacts(
        response=Response(
            id=text(body, "id") or None,
            model=text(body, "model") or None,
            created=moment(body, "created"),
            finish_reasons=reasons,
            service_tier=text(body, "service_tier") or None,
            system_fingerprint=text(body, "system_fingerprint") or None,
        ),
        usage=usage_of(body),
        error=stated_error(body),
        truncated=means(reasons, "length"),
        refused=refused or means(reasons, "content_filter"),
    )
