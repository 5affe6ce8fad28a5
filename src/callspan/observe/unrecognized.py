"""Unrecognized responses: those in which an adapter has found nothing it knows. They are flagged, and warned of once.

A success without content or tokens would look the same as one whose body follows another API.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec

from callspan.fail_open import Once, log
from callspan.record.call import CallRecord, Response

_MOST_KEYS: Final = 8
_LONGEST_KEY: Final = 40
_warned: Final = Once()


def flag(fields: dict[str, Any], record: CallRecord, body: object) -> None:
    """Flag the response among the fields of a record; warn once for each provider and API.

    `body`: what came, None where it is null. A stream is not cut off then: its terminal event is unknown.
    """
    if _warned.first((record.provider, record.api)):
        log(
            logging.WARNING,
            "A response of %s has nothing of the API %r in it (%s): content and usage are unknown, its body is kept "
            "as it is. Use another `api` or an endpoint of your own, see docs/recording.md (logged once)",
            record.provider, record.api, _described(body),
        )  # fmt: skip
    fields["response"] = msgspec.structs.replace(fields["response"] or Response(), unrecognized=True)
    if fields["stream"] is not None and fields["stream"].end == "cut_off":
        fields["stream"] = msgspec.structs.replace(fields["stream"], end="complete")


def forget_warnings() -> None:
    """Warn of each provider and API again. For tests."""
    _warned.forget()


def _described(body: object) -> str:
    """The names of the fields, never a value: a body that is not understood is not masked by its fields either."""
    if not isinstance(body, dict):
        return f"no JSON object but {type(body).__name__}"
    names = [str(key)[:_LONGEST_KEY] for key in body if str(key).isidentifier()]
    return f"fields: {', '.join(names[:_MOST_KEYS])}" if names else "no fields"
