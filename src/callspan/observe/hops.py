"""Hops: the attempts of a call whose middleware sent on after an answer, and what each of them used.

The fallback middleware of the anthropic SDK does so when a model refuses, and asks the next one. A refusal is an
answer, with usage. Of streams the middleware lists the hops in the final usage (`usage.iterations`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.fail_open import fail_open
from callspan.observe.progress import AttemptLog
from callspan.providers.base import Endpoint, ResponseInfo
from callspan.record.call import Attempt
from callspan.record.usage import Usage, usage_of_hop, with_added

_READ: Final = fail_open("read the answer of an attempt")
_FIRST_ERROR: Final = 400
_LISTED: Final = ("message", "fallback_message")


def usage_by_attempt(
    endpoint: Endpoint, log: AttemptLog, attempts: list[Attempt], usage: Usage | None, info: ResponseInfo
) -> tuple[Usage | None, list[Attempt]]:
    """Return the usage of all attempts, and the attempts with model, outcome and usage of their own.

    `log` has the earlier answers of a plain call; `usage` and `info` are of the last one.
    """
    answers = log.answers()
    if not log.has_answers:
        return _of_stream(attempts, usage, info)
    found = [None if answer is None else _info(endpoint, answer) for answer in answers]
    found[-1] = info
    described = [
        _described(one, of_one, usage if of_one is info else None) for one, of_one in zip(attempts, found, strict=True)
    ]
    used = [one.usage for one in described if one.usage is not None]
    if usage is not None:
        return with_added(usage, used[:-1]), described
    return (with_added(Usage(), used) if used else None), described


def _info(endpoint: Endpoint, answer: object) -> ResponseInfo | None:
    with _READ:
        return endpoint.response_info(answer)
    return None


def _described(one: Attempt, info: ResponseInfo | None, usage: Usage | None) -> Attempt:
    if info is None or (one.status or _FIRST_ERROR) >= _FIRST_ERROR:
        return one
    return msgspec.structs.replace(
        one,
        model=info.response.model,
        outcome="refused" if info.refused else "success",
        usage=_without_raw(usage or info.usage),
    )


def _of_stream(attempts: list[Attempt], usage: Usage | None, info: ResponseInfo) -> tuple[Usage | None, list[Attempt]]:
    """The hops that a stream lists as attempts, where there are as many of them as answers; else as they are."""
    listed = [] if usage is None else [hop for hop in usage.hops if hop.kind in _LISTED]
    successful = [at for at, one in enumerate(attempts) if (one.status or _FIRST_ERROR) < _FIRST_ERROR]
    if usage is None or len(listed) != len(successful) or len(listed) < len(("refused", "served")):
        return usage, attempts
    described = list(attempts)
    for at, hop in zip(successful, listed, strict=True):
        refused = info.refused if hop is listed[-1] else True
        described[at] = msgspec.structs.replace(
            described[at], model=hop.model, outcome="refused" if refused else "success", usage=usage_of_hop(hop)
        )
    return msgspec.structs.replace(usage, hops=[hop for hop in usage.hops if hop not in listed]), described


def _without_raw(usage: Usage | None) -> Usage | None:
    return None if usage is None else msgspec.structs.replace(usage, raw=None)
