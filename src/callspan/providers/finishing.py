"""Finishing: what the finish reasons of an answer say about it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from msgspec.structs import replace

from callspan.providers.base import ResponseInfo
from callspan.providers.error_kinds import MAX_WORD_BYTES, RETRYABLE, capped
from callspan.record.call import ErrorInfo, FinishWord, Response
from callspan.record.finish_reasons import CONTENT_FILTER, LENGTH, STOP, failure_kind, is_in_table, normalised
from callspan.record.usage import Usage

STOP_REASON: Final = "stop_reason"
"""Where a choice of Mistral's models in Bedrock has its finish reason."""
_MAX_ANSWERS: Final = 128
GUARDRAIL: Final = "amazon-bedrock-guardrailAction"
INTERVENED: Final = "INTERVENED"


class Finish(NamedTuple):
    """What finish reasons say."""

    truncated: bool
    refused: bool
    unknown_finish: bool
    error: ErrorInfo | None
    """The first failure among them."""


@lru_cache(maxsize=_MAX_ANSWERS)
def finish_of(reasons: tuple[str | None, ...]) -> Finish:
    """Return what the finish reasons of the choices of an answer say; None for a choice without one."""
    present_reasons = [reason for reason in reasons if reason is not None]
    meanings = set(map(normalised, present_reasons))
    return Finish(
        truncated=LENGTH in meanings,
        refused=CONTENT_FILTER in meanings,
        unknown_finish=not all(map(is_in_table, present_reasons)),
        error=next((error for reason in present_reasons if (error := _failure(reason)) is not None), None),
    )


def answer_info(
    response: Response, reasons: Iterable[str | None], usage: Usage | None, error: ErrorInfo | None, *,
    recognized: bool, refused: bool = False,
) -> ResponseInfo:  # fmt: skip
    """Return the info of an answer: its response with what the finish reasons say about it.

    Args:
        response: The fields that the body states by itself.
        reasons: The finish reason of each choice; None for a choice without one.
        usage: The counters; None if the body has none.
        error: The error that the body states. Without it, a finish reason that is a failure is the error.
        recognized: Whether the body has a field of an answer. A body with an error is recognized as well.
        refused: Whether a guardrail or a refusal in the body has replaced the answer.
    """
    finish = finish_of(tuple(reasons))
    error = error or finish.error
    refused = refused or finish.refused
    if finish.truncated or refused or finish.unknown_finish:  # most answers need no copy
        response = replace(response, truncated=finish.truncated, refused=refused, unknown_finish=finish.unknown_finish)
    return ResponseInfo(response=response, usage=usage, error=error, recognized=recognized or error is not None)


def tool_finish(reason: str | None, *, calls: bool) -> FinishWord | None:
    """Return the word for an answer that calls the application's tools, if the provider says that it just stopped."""
    return "tool_calls" if calls and reason is not None and normalised(reason) == STOP else None


def finish_words(hidden: Iterable[FinishWord | None]) -> list[FinishWord | None]:
    """Return `Response.finish`, which is empty if each choice's own word says why it ended."""
    return words if any(words := list(hidden)) else []


def is_blocked(body: object) -> bool:
    """Return whether a guardrail of Bedrock has replaced the answer of the model that it invoked."""
    return isinstance(body, dict) and body.get(GUARDRAIL) == INTERVENED


def _failure(reason: str) -> ErrorInfo | None:
    kind = failure_kind(reason)
    if kind is None:
        return None
    return ErrorInfo(kind=kind, type=capped(reason, MAX_WORD_BYTES), retryable=kind in RETRYABLE)
