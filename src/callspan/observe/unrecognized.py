"""Unrecognized responses: flags responses that an adapter does not recognize at all, and warns about them.

Without the flag and its warning, a response from a different API would look like a success without content or tokens.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec

from callspan.record.call import CallRecord, Response
from callspan.runtime.fail_open import log
from callspan.runtime.lock_free import Once

_MAX_KEYS: Final = 8
_MAX_KEY_LENGTH: Final = 40
_warned: Final = Once()


def flag_unrecognized(fields: dict[str, Any], record: CallRecord, body: object) -> None:
    """Flag the response in the fields of a record; warn once for each provider and API.

    `body`: the received body, None if it is null. A stream is not marked `cut_off`: its terminal event is unknown.
    """
    if _warned.first((record.provider, record.api)):
        log(
            logging.WARNING,
            "A response of %s has nothing of the API %r in it (%s): content and usage are unknown, its body is kept "
            "as it is. Use another `api`, see 'Calls without an SDK' in the documentation (logged once)",
            record.provider, record.api, _described(body),
        )  # fmt: skip
    fields["response"] = msgspec.structs.replace(fields["response"] or Response(), unrecognized=True)
    if fields["stream"] is not None and fields["stream"].end == "cut_off":
        fields["stream"] = msgspec.structs.replace(fields["stream"], end="complete")


def forget_warnings() -> None:
    """Forget which warnings were logged. For tests."""
    _warned.forget()


def _described(body: object) -> str:
    """Return the names of the fields, never values, because fields of an unknown body cannot be masked."""
    if not isinstance(body, dict):
        return f"no JSON object but {type(body).__name__}"
    names = [str(key)[:_MAX_KEY_LENGTH] for key in body if str(key).isidentifier()]
    return f"fields: {', '.join(names[:_MAX_KEYS])}" if names else "no fields"
