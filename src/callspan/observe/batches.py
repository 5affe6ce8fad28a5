"""Batches: the records of a batch's lines, and which results this process has read.

The id of a line's call is made of those of the batch and of the line: every process that sees the line writes versions
of the same record, of its request when the batch is created, and of its answer when the results are read.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from callspan.fail_open import fail_open, reported
from callspan.observe.background_responses import IN_PROGRESS
from callspan.providers import registry
from callspan.providers.base import Endpoint, ResponseInfo
from callspan.providers.batches import BatchInfo, RequestLine, ResultLine, endpoint_of
from callspan.providers.wire_json import unix_ns
from callspan.record.call import Attempt, CallRecord, Request, Response, Timing
from callspan.record.codec import encode_json
from callspan.record.ids import batch_call_id
from callspan.record.merging import ANSWER_VERSION
from callspan.record.raw_messages import exact_json

_READ_REQUEST: Final = fail_open("read a request of a batch")
_READ_ANSWER: Final = fail_open("read an answer of a batch")
_MESSAGES: Final = "/v1/messages"
_NO_INFO: Final = ResponseInfo(response=Response(), recognized=False)


def requested(base: CallRecord, line: RequestLine) -> CallRecord:
    """Return the version of a line's record with its request; `base` is the record of the request that created it.

    The batch and the call's id follow, see `of_batch`.
    """
    url = line.url or _MESSAGES
    endpoint, request = endpoint_of(url, None), Request()
    try:
        body = registry.decoded(line.body)
        exact = exact_json(line.body, body)
        if endpoint is not None:
            request = endpoint.request(body)
        request = msgspec.structs.replace(request, body=msgspec.Raw(exact), body_bytes=len(line.body), stream=False)
    except reported(_READ_REQUEST):
        request = Request()
    return msgspec.structs.replace(
        base,
        record_version=2,
        api="unknown" if endpoint is None else endpoint.api,
        operation="chat" if endpoint is None else endpoint.operation,
        custom_id=line.custom_id,
        request=request,
        response=None,
        usage=None,
        attempts=[],
        retries=None,
        rate_limits=None,
        rate_limited=None,
        stream=None,
        timing=Timing(start_ns=base.timing.start_ns),
        outcome=IN_PROGRESS,
    )


def of_batch(record: CallRecord, batch_id: str, **fields: Any) -> CallRecord:  # noqa: ANN401 - any fields
    """Return the record of a line with the ids of the batch and of its call."""
    call_id = batch_call_id(record.provider, batch_id, record.custom_id or "")
    return msgspec.structs.replace(record, call_id=call_id, batch_id=batch_id, **fields)


def answered(reading: CallRecord, batch: BatchInfo, line: ResultLine) -> CallRecord:
    """Return the version of a line's record with its answer; `reading` is the record of the request for the results.

    How long a line took is not stated: its duration is unknown.
    """
    endpoint = endpoint_of(batch.url, line.body)
    info = _info(endpoint, line)
    response = _response(line, info)
    start_ns = batch.created_ns or unix_ns(info.response.created) or reading.timing.start_ns
    error = line.error or info.error
    outcome = "error" if line.outcome == "success" and error is not None else line.outcome
    attempts = [Attempt(number=1, start_ns=0, status=line.status, request_id=line.request_id)]
    return CallRecord(
        call_id=batch_call_id(reading.provider, batch.id, line.custom_id),
        record_version=ANSWER_VERSION,
        provider=reading.provider,
        api="unknown" if endpoint is None else endpoint.api,
        operation="chat" if endpoint is None else endpoint.operation,
        sdk=reading.sdk,
        server_address=reading.server_address,
        server_port=reading.server_port,
        batch_id=batch.id,
        custom_id=line.custom_id,
        response=response,
        usage=info.usage,
        timing=Timing(start_ns=start_ns),
        attempts=attempts if line.status is not None or line.request_id is not None else [],
        outcome=outcome,
        error=error,
    )


def _info(endpoint: Endpoint | None, line: ResultLine) -> ResponseInfo:
    if endpoint is None or line.body is None:
        return _NO_INFO
    try:
        return endpoint.response_info(line.body)
    except reported(_READ_ANSWER):
        return _NO_INFO


def _response(line: ResultLine, info: ResponseInfo) -> Response | None:
    if line.body is None:
        return None
    body = encode_json(line.body)
    return msgspec.structs.replace(
        info.response, truncated=info.truncated, refused=info.refused, compacted=info.compacted,
        unrecognized=not info.recognized, body_bytes=len(body), body=msgspec.Raw(body),
    )  # fmt: skip
