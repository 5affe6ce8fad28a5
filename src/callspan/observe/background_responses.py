"""Background responses: calls that the provider completes after the request; the answer is fetched later.

The id of such a call is derived from the response id, so that every process that fetches it writes the same record.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from callspan.observe.earlier_answers import EarlierAnswers
from callspan.observe.factory import CallInfo
from callspan.providers.base import Endpoint, ResponseInfo
from callspan.providers.wire_json import unix_ns
from callspan.record.call import CallRecord, ErrorInfo, Outcome, Request, Response, Timing
from callspan.record.ids import response_call_id

IN_PROGRESS: Final = "in_progress"
UNENDED_STATES: Final = ("queued", "in_progress")
"""The states of an unended response."""
_ENDS: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
_OUTCOMES: Final[dict[str | None, Outcome]] = {"failed": "error", "cancelled": "cancelled"}


def set_outcome(fields: dict[str, Any], record: CallRecord, info: ResponseInfo, answers: EarlierAnswers) -> None:
    """Set the fields of a record that mark a background response and the response that it continues.

    Closing or losing the stream does not end the response: the call stays in progress.
    """
    links = {"continues": info.continues, "conversation_id": info.conversation_id}
    if record.request.continues is None and record.request.conversation_id is None and any(links.values()):
        fields["request"] = msgspec.structs.replace(fields.get("request", record.request), **links)
    if info.outcome is not None:
        fields["outcome"] = info.outcome
    if info.response.id is not None:
        fields["call_id"] = answers.call_id(record.provider, info.response.id, info.response.created)
        fields["part"] = "requested" if fields["outcome"] == IN_PROGRESS else "answered"


def started_version(record: CallRecord, endpoint: Endpoint, body: object, answers: EarlierAnswers) -> CallRecord:
    """Return the record for the start of a stream, with the response id if the first event has it."""
    info = endpoint.response_info(body)
    if info is None or not info.background or info.response.id is None:
        return record
    call_id = answers.call_id(record.provider, info.response.id, info.response.created)
    return msgspec.structs.replace(record, call_id=call_id, outcome=IN_PROGRESS, response=info.response)


def completion(fetched: CallRecord, response: Response) -> CallRecord:
    """Return the version of a call's record with the answer, from the record of the fetch and its response.

    The call ends when the provider says, in whole seconds; if it does not say, with the fetch.
    """
    timing, request = fetched.timing, fetched.request
    read_ns = timing.start_ns + (timing.duration_ns or 0)
    end_ns = unix_ns(response.completed) or read_ns
    start_ns = unix_ns(response.created) or timing.start_ns
    outcome = _OUTCOMES.get(response.status, "success")
    return version_of(
        fetched,
        call_id=fetched.call_id,
        part="answered",
        seen_in="fetch",
        seen_ns=read_ns,
        api=fetched.api,
        request=Request(continues=request.continues, conversation_id=request.conversation_id),
        response=response,
        usage=fetched.usage,
        timing=Timing(start_ns=min(start_ns, end_ns), duration_ns=max(0, end_ns - start_ns)),
        outcome=outcome,
        error=fetched.error if outcome == "error" else None,
        redactions=fetched.redactions,
    )


def end_of(server: CallInfo, response_id: str, status: str, at_ns: int) -> CallRecord | None:
    """Return the version of a call's record with only its outcome and end; None if the status is not final."""
    if status not in _ENDS:
        return None
    outcome = _OUTCOMES.get(status, "success")
    return version_of(
        server,
        call_id=response_call_id(server.provider, response_id),
        part="ended",
        seen_in="webhook",
        api="responses",
        response=Response(id=response_id, status=status),
        timing=Timing(start_ns=at_ns, duration_ns=0),
        outcome=outcome,
        error=ErrorInfo(kind="unknown", type="failed") if outcome == "error" else None,
    )


def version_of(server: CallInfo | CallRecord, **fields: Any) -> CallRecord:
    """Return a version of a call's record with only the server and the given fields."""
    return CallRecord(
        provider=server.provider,
        sdk=server.sdk,
        server_address=server.server_address,
        server_port=server.server_port,
        **fields,
    )
