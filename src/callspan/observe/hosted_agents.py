"""Hosted agents: builds records of what ran at the provider from its events and listings.

The ids of all records are made of the provider's, so that every process that reads the same events writes the same
records. The part of a call says how much its writer has read; stores merge the versions, see `callspan.record.merging`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from callspan.background import LRUCache
from callspan.observe.background_responses import IN_PROGRESS, version_of
from callspan.observe.ports import CallInfo
from callspan.providers.hosted import Fold, HostedEndpoint, ModelRequest, Sent, SessionFacts, ToolRun
from callspan.record.call import CallRecord, ErrorInfo, Part, Place, Request, Timing
from callspan.record.codec import encode_json
from callspan.record.events import EventRecord, SessionRecord
from callspan.record.ids import response_call_id
from callspan.record.merging import RANKS

_MOST_SESSIONS: Final = 512
_MOST_THREADS: Final = 4096
_MOST_SENT: Final = 256
_MOST_FOLDS: Final = 64
_LONGEST_SYSTEM: Final = 65_536
_KEPT: Final = ("model", "system", "name", "agent_id", "created_ns", "looked_up")
_ENDS: Final = frozenset({"terminated", "deleted", "failed"})


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The request from which the data was read."""

    info: CallInfo
    service: str | None = None
    host: str | None = None
    metadata: dict[str, object] = {}
    place: Place = Place()
    """The session and step around the code that reads: that of a job."""
    parent_session_id: str | None = None
    """The session of callspan around the code that reads."""


class Read(NamedTuple):
    """What this process has read of a call."""

    part: Part
    status: str | None
    has_output: bool
    usage: bytes


def read_after(request: ModelRequest, known: Read | None) -> Read | None:
    """Return what has been read of a call with this version of its model request; None if it adds nothing."""
    part = _part(request)
    rank = RANKS[part]
    usage = b"" if request.usage is None else encode_json(request.usage)
    if known is not None:
        is_new = usage not in (b"", known.usage) or request.status not in (None, known.status)
        is_new = is_new or (request.output is not None and not known.has_output)
        is_new = is_new and part != "started"
        is_new = is_new and request.status is not None
        if rank < RANKS[known.part] or (part == known.part and not is_new):
            return None
    has_output = request.output is not None or (known is not None and known.has_output)
    return Read(part, request.status, has_output, usage or (known.usage if known is not None else b""))


def is_first_end(request: ModelRequest, before: Read | None) -> bool:
    """Return whether nothing in this process has ended the call before: it has a span, and is measured."""
    return _part(request) != "started" and (before is None or before.part == "started")


class HostedAgents:
    """The state of the hosted sessions that this process has read. Bounded; safe from any thread."""

    def __init__(self) -> None:
        self._facts: LRUCache[tuple[str | None, ...], SessionFacts] = LRUCache(_MOST_THREADS)
        self._sent: LRUCache[tuple[str | None, ...], list[tuple[str | None, object]]] = LRUCache(_MOST_SESSIONS)
        self._folds: LRUCache[tuple[str | None, ...], Fold] = LRUCache(_MOST_FOLDS)

    def fold_of(self, page: str | None, make: Callable[[], Fold], *scope: str | None) -> Fold:
        """Return the fold for the events of a list: that of the previous page, or a new one."""
        known = None if page is None else self._folds.pop((page, *scope))
        return make() if known is None else known

    def keep_fold(self, fold: Fold, page: str, *scope: str | None) -> None:
        """Keep the fold of a list until its next page is read."""
        self._folds.put((page, *scope), fold)

    def learn(self, provider: str, fact: SessionFacts) -> SessionFacts:
        """Remember facts about a session or thread; return all that are known."""
        key = provider, fact.session_id, fact.thread_id
        known = self._facts.get(key)
        system = fact.system if fact.system is None or len(fact.system) <= _LONGEST_SYSTEM else None
        given = {name: value for name in _KEPT if (value := getattr(fact, name)) is not None and name != "system"}
        if system is not None:
            given["system"] = system
        whole = msgspec.structs.replace(known or SessionFacts(session_id=fact.session_id), **given)
        self._facts.put(key, whole)
        return msgspec.structs.replace(
            whole, status=fact.status, at_ns=fact.at_ns, usage=fact.usage, created_here=fact.created_here
        )

    def facts_of(self, provider: str, session_id: str | None, thread_id: str | None = None) -> SessionFacts | None:
        """Return what is known of a session or thread."""
        return self._facts.get((provider, session_id, thread_id))

    def note_sent(self, provider: str, sent: Sent) -> None:
        """Remember messages that were sent, until the events of a model request that got them are read."""
        key = provider, sent.session_id, sent.thread_id
        known = self._sent.get(key) or []
        if any(one is other for one in known for other in sent.messages[:1]):
            return  # again after an interrupt
        self._sent.put(key, [*known, *sent.messages][-_MOST_SENT:])

    def with_sent(self, provider: str, request: ModelRequest) -> ModelRequest:
        """Return the request with the messages that were sent to it before its events were read."""
        if request.outcome == IN_PROGRESS or request.output is None:
            return request
        key = provider, request.session_id, request.thread_id
        sent = self._sent.pop(key)
        if not sent or request.listed:
            return request
        more = [
            message
            for identity, message in sent
            # Without an id nothing tells whether the events state it too.
            if (not request.input if identity is None else identity not in request.input_ids)
        ]
        return msgspec.structs.replace(request, input=[*more, *request.input])


def session_of(origin: Origin, fact: SessionFacts, now_ns: int) -> SessionRecord:
    """Return the record of a session."""
    at_ns = now_ns if fact.at_ns is None else fact.at_ns
    metadata = dict(origin.metadata)
    if fact.agent_id is not None:
        metadata.setdefault("agent_id", fact.agent_id)
    if fact.model is not None:
        metadata["agent_model"] = fact.model
    if fact.usage is not None:
        metadata["reported_usage"] = fact.usage
    return SessionRecord(
        session_id=fact.session_id,
        seen_ns=at_ns,
        name=fact.name,
        parent_session_id=origin.parent_session_id,
        service=origin.service,
        start_ns=fact.created_ns,
        outcome=fact.status,
        end_ns=at_ns if fact.status in _ENDS else None,
        metadata=metadata,
    )


def session_after(record: SessionRecord, written: SessionRecord | None) -> SessionRecord | None:
    """Return what is written of a session with this record; None if it adds nothing."""
    if written is None:
        return record
    whole = _updated(written, record, record.seen_ns)
    is_new = whole != msgspec.structs.replace(written, seen_ns=whole.seen_ns)
    return whole if is_new else None


def _updated(written: SessionRecord, record: SessionRecord, at_ns: int) -> SessionRecord:
    """Return the written record with fields that another, possibly older, version adds."""
    known = {name for name in record.__struct_fields__ if getattr(written, name) is not None}
    given = {name: value for name in record.__struct_fields__ if (value := getattr(record, name)) is not None}
    if at_ns < written.seen_ns:
        given = {name: value for name, value in given.items() if name not in known}
        metadata = {**record.metadata, **written.metadata}
    else:
        metadata = {**written.metadata, **record.metadata}
    changed = {**given, "metadata": metadata, "redactions": [], "seen_ns": max(at_ns, written.seen_ns)}
    return msgspec.structs.replace(written, **changed)


def _part(request: ModelRequest) -> Part:
    if request.outcome == IN_PROGRESS:
        return "started"
    return "answered" if request.complete else "ended"


def _end_of(request: ModelRequest, now_ns: int) -> int:
    end_ns = request.end_ns if request.end_ns is not None else request.start_ns
    return now_ns if end_ns is None else end_ns


def start_of(request: ModelRequest, now_ns: int) -> int:
    """Return when a model request started, Unix nanoseconds."""
    end_ns = _end_of(request, now_ns)
    return end_ns if request.start_ns is None else min(request.start_ns, end_ns)


def call_of(
    reader: HostedEndpoint, request: ModelRequest, facts: SessionFacts | None, origin: Origin, now_ns: int
) -> CallRecord:
    """Return the record of a model request. `facts` are those of its session or thread."""
    info = origin.info
    end_ns, start_ns = _end_of(request, now_ns), start_of(request, now_ns)
    sent, answer = reader.bodies(request, facts)
    described, found = reader.request(sent), reader.response_info(answer)
    response = msgspec.structs.replace(found.response, id=request.key, status=request.status, model=None)
    if request.output is not None:
        body = encode_json(answer)
        response = msgspec.structs.replace(response, body=msgspec.Raw(body), body_bytes=len(body))
    if request.input:
        body = encode_json(sent)
        described = msgspec.structs.replace(described, body=msgspec.Raw(body), body_bytes=len(body), stream=None)
    else:
        described = Request(model=described.model)
    in_progress = request.outcome == IN_PROGRESS
    return version_of(
        info,
        call_id=response_call_id(info.provider, request.key),
        part=_part(request),
        seen_in="events",
        seen_ns=now_ns,
        api=reader.api,
        operation=request.operation,
        place=Place(session_id=request.session_id, session_name=None if facts is None else facts.name),
        service=origin.service,
        host=origin.host,
        request=described,
        response=response,
        usage=found.usage,
        timing=Timing(
            start_ns=start_ns,
            duration_ns=None if in_progress or request.start_ns is None else end_ns - start_ns,
        ),
        outcome=request.outcome,
        error=request.error,
        metadata=origin.metadata,
    )


def event_of(run: ToolRun, origin: Origin, now_ns: int) -> EventRecord:
    """Return the record of a tool's run."""
    start_ns = now_ns if run.start_ns is None else run.start_ns
    facts: dict[str, object] = {"provider": origin.info.provider, "tool_type": "extension"}
    if run.server is not None:
        facts["server"] = run.server
    return EventRecord(
        event_id=response_call_id(origin.info.provider, run.key),
        session_id=run.session_id,
        event_type="tool",
        name=run.name,
        time_ns=start_ns,
        duration_ns=run.duration_ns,
        data={"arguments": run.arguments, "result": run.result},
        tool_call_id=run.key,
        error=ErrorInfo(kind="unknown", type="tool_error") if run.failed else None,
        metadata={**origin.metadata, **facts},
    )
