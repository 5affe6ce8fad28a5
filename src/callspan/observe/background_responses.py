"""Background responses: calls whose response the provider works on after the request, and that others fetch.

The id of such a call is made of the response's: whoever sees the response, in any process, writes the same record.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from callspan.fail_open import fail_open, reported
from callspan.providers.base import Endpoint, ResponseInfo
from callspan.providers.json_readers import flag
from callspan.record.call import CallRecord
from callspan.record.ids import response_call_id

_READ: Final = fail_open("read the first event of a background response")


def is_requested(body: object) -> bool:
    """Return whether a request's body asks for a background response."""
    return flag(body, "background") is True


def settle(fields: dict[str, Any], record: CallRecord, info: ResponseInfo) -> None:
    """Put the id and outcome of a background response among the fields of the record of its call.

    A stream that its reader left, or that broke off, does not end the response: the call stays in progress.
    """
    if info.response.id is not None:
        fields["call_id"] = response_call_id(record.provider, info.response.id)
    if info.outcome is not None:
        fields["outcome"] = info.outcome


def begun(started: CallRecord, endpoint: Endpoint, body: object) -> CallRecord:
    """Return the record that a stream leaves behind at its start, with the response's id if its first event has it."""
    try:
        info = endpoint.response_info(body)
    except reported(_READ):
        return started
    if info is None or not info.background or info.response.id is None:
        return started
    call_id = response_call_id(started.provider, info.response.id)
    return msgspec.structs.replace(started, call_id=call_id, outcome="in_progress", response=info.response)
