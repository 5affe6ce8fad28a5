"""Hosted: writes the records of hosted agents as the SDK returns their events and turns.

A request about a session is observed as a call is, without a span or record of its own. Each event is read before the
caller gets it; what it completes is written at once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from callspan.agent.runtime import LEVELS, SPAN_REFS, SpanRef, known_level
from callspan.background import LOOK_UPS
from callspan.fail_open import fail_open
from callspan.observe.factory import CallFactory
from callspan.observe.hosted_agents import (
    IN_PROGRESS,
    HostedAgents,
    Origin,
    call_of,
    event_of,
    is_first_end,
    read_after,
    session_after,
    session_of,
    start_of,
)
from callspan.observe.live_call import LiveCall
from callspan.observe.ports import CallInfo, CallSpanHandle, RequestObserver
from callspan.process.processed import Processed
from callspan.providers import registry
from callspan.providers.base import HOSTED, Accumulator, Endpoint, ResponseInfo
from callspan.providers.hosted import (
    NO_INFO,
    Fact,
    Fold,
    HostedEndpoint,
    HostedPath,
    HostedRequest,
    ModelRequest,
    Sent,
    SessionFacts,
    ToolRun,
)
from callspan.providers.wire_json import mapping, word
from callspan.record.call import CallRecord, Place, Request
from callspan.record.events import EventRecord
from callspan.record.ids import response_call_id
from callspan.record.messages import Conversation
from callspan.reported.claims import higher
from callspan.reported.look_ups import LookUps, is_before
from callspan.reported.reports import FixedReport, Known, Report, Reports, Spans
from callspan.settings import Content, strictest
from callspan.stores.base import StoredCall

_READ: Final = fail_open("read what a hosted agent did")
_WRITE: Final = fail_open("record what a hosted agent did")


class Hosted:
    """Records the sessions of hosted agents. Safe from any thread."""

    def __init__(self, reports: Reports) -> None:
        self.reports = reports
        self.agents = HostedAgents()

    def factory(self, calls: CallFactory, level: Content, *, spans: bool) -> CallFactory:
        """Return the factory that observes requests about sessions, with the settings of `calls`."""
        silent = calls.without_records(lambda _: RequestObserver(), chunk_log=0)
        given = {name: getattr(silent, name) for name in silent.__struct_fields__}
        return HostedFactory(**given, of=self, level=level, spans=spans)


class HostedFactory(CallFactory, frozen=True, kw_only=True):
    """Creates the observers of requests about sessions. Safe from any thread."""

    of: Hosted
    level: Content
    spans: bool
    """Whether model requests have spans."""

    def start(self, endpoint: Endpoint, info: CallInfo, *, alone: bool = False) -> LiveCall:
        """Return the call that observes the request; `endpoint` is a `HostedRequest`."""
        if not isinstance(endpoint, HostedRequest):
            return super().start(endpoint, info, alone=alone)
        place, _, metadata = self.surroundings()
        parent = None if place is None else place.session_id
        origin = Origin(
            info=info, service=self.service, host=self.host, metadata=metadata, place=place or Place(),
            parent_session_id=None if parent == endpoint.of.session_id else parent,
        )  # fmt: skip
        reading = _Reading(self, endpoint, origin, self._level_of(endpoint))
        ports = msgspec.structs.replace(self, observer=lambda _: reading)
        return CallFactory.start(ports, reading, info, alone=True)

    def _level_of(self, request: HostedRequest) -> Content:
        """Return the content level in force; where a session or job may begin, the stricter of that and the rule's."""
        rule = self.of.reports.rule
        if rule is None or request.of.what not in ("session", "job") or request.of.session_id is not None:
            return self.level
        return strictest(self.level, rule.here())


class _Reading(RequestObserver):
    """Observes one request about a session, and replaces its endpoint."""

    operation = HOSTED
    message_key = ""
    complete = False

    def __init__(self, factory: HostedFactory, request: HostedRequest, origin: Origin, level: Content) -> None:
        self._clock, self.agents, self.reports = factory.clock, factory.of.agents, factory.of.reports
        self.level, self.has_spans = level, factory.spans
        self._path: HostedPath = request.of
        self._page = request.page
        self.api, self.path = request.api, request.path
        self.reader: HostedEndpoint = registry.hosted_reader(request.api)
        self.origin = origin
        self.provider = origin.info.provider
        self.creates_job = request.of.what == "job"
        self.context: Context = otel_context.get_current()
        self._fold: Fold | None = None
        self._sent: object = None
        self._answer: object = None

    def request(self, body: object) -> Request:
        """Keep the sent messages until the provider has accepted them."""
        self._sent = body
        return Request()

    def accumulator(self) -> Accumulator:
        """Return the accumulator for the events of a stream."""
        self._fold = self.reader.fold(self._path)
        return self

    def add(self, chunk: object) -> bool:
        """Process one event of a stream."""
        if self._fold is not None:
            facts = self._fold.add(chunk)
            self._take(facts)
            if self._sent is not None and self._path.what == "session":
                self._take_sent(facts)
        return False

    def _take_sent(self, facts: Sequence[Fact]) -> None:
        """Process what a creation sent as soon as its stream states the id of the session."""
        created = next((fact for fact in facts if isinstance(fact, SessionFacts)), None)
        if created is not None:
            sent, self._sent = self._sent, None
            self._take(self.reader.sent(self._path, sent, {"id": created.session_id}))

    def body(self) -> dict[str, object] | None:
        """Return nothing: the events are recorded one by one."""
        return None

    def response_info(self, body: object) -> ResponseInfo:
        """Process a complete answer."""
        self._answer = body
        if self.creates_job and (job := word(mapping(body), "id")) is not None:
            begun = SpanRef(place=self.origin.place, level=self.level)
            SPAN_REFS["call"].put(response_call_id(self.provider, job), begun)
        with _READ:
            if self._path.what == "events":
                self._take_page(body)
            else:
                self._take(self.reader.facts(self._path, body))
        return NO_INFO

    def conversation(self, request: object, response: object) -> Conversation:
        """Return no messages."""
        del request, response
        return Conversation()

    def ended(self, record: CallRecord) -> None:
        """Process the sent messages if they were accepted, and the rest of a stream."""
        with _READ:
            if self._fold is not None:
                self._take(self._fold.rest())
                self._fold = None
            if record.outcome == "success" and self._path.what in ("send", "session") and self._sent is not None:
                sent, self._sent = self._sent, None
                self._take(self.reader.sent(self._path, sent, self._answer))
            self._sent = self._answer = None

    def _take_page(self, body: object) -> None:
        events, following = self.reader.events(body)
        scope = self._path.session_id, self._path.thread_id
        fold = self.agents.fold_of(self._page, lambda: self.reader.fold(self._path), *scope)
        facts = [fact for event in events for fact in fold.add(event)]
        if following is None:
            facts += fold.rest()
        self._take([_listed(fact) for fact in facts])
        if following is not None:
            self.agents.keep_fold(fold, following, *scope)

    def _take(self, facts: Sequence[Fact]) -> None:
        """Record facts; where an interrupt comes, the rest is recorded by another thread."""
        ids = [response_call_id(self.provider, one.key) for one in facts if isinstance(one, ModelRequest)]
        stored, waiting = _Stored(ids), deque(facts)
        try:
            self._record(waiting, stored)
        except BaseException:
            LOOK_UPS.put(partial(self._record, waiting, stored))
            raise

    def _record(self, waiting: deque[Fact], stored: _Stored) -> None:
        while waiting:
            with _WRITE:
                self._record_one(waiting[0], stored)
            waiting.popleft()

    def _record_one(self, fact: Fact, stored: _Stored) -> None:
        reports, now_ns = self.reports, self._clock.wall_ns()
        if isinstance(fact, ModelRequest):
            kind = _ModelCall if fact.session_id is not None else _JobCall
            reports.report(kind(self, fact, stored, now_ns))
        elif isinstance(fact, ToolRun):
            reports.report(_ToolEvent(self, fact, now_ns))
        elif isinstance(fact, SessionFacts):
            known = self.agents.learn(self.provider, fact)
            if fact.created_here:
                LEVELS.put(("session", fact.session_id), self.level)
            of_events = self._path.what in ("stream", "events")
            if fact.thread_id is None and (fact.created_here or of_events or self.is_written(fact.session_id)):
                self.write_session(known, now_ns, created_here=fact.created_here)
        elif isinstance(fact, Sent):
            self.agents.note_sent(self.provider, fact)

    def is_written(self, session_id: str) -> bool:
        """Return whether this process has written the record of a session."""
        return self.reports.claims.state(("session", session_id)) is not None

    def write_session(self, facts: SessionFacts, now_ns: int, *, created_here: bool = False) -> None:
        """Record the facts of a session, unless they equal what was written last.

        Its creator's process id says that the stated level is the one it was begun with.
        """
        level, pid = known_level("session", facts.session_id) or "full", os.getpid() if created_here else None
        record = msgspec.structs.replace(session_of(self.origin, facts, now_ns), content_level=level, pid=pid)
        key = "session", record.session_id
        self.reports.report(FixedReport(self.reports, self.level, key, partial(session_after, record), record))

    def begin_session(self, session_id: str, at_ns: int) -> None:
        """Record a session whose events are read, unless that was done."""
        if self.is_written(session_id):
            return
        known = self.agents.facts_of(self.provider, session_id) or SessionFacts(session_id=session_id)
        created_ns = at_ns if known.created_ns is None else known.created_ns
        self.write_session(msgspec.structs.replace(known, created_ns=created_ns, at_ns=created_ns), at_ns)


class _Stored:
    """The calls of a page, or of an event, that stores have; looked up once."""

    def __init__(self, call_ids: Sequence[str]) -> None:
        self._call_ids = call_ids
        self._found: Mapping[str, StoredCall] | None = None

    def find(self, look_ups: LookUps, call_id: str) -> StoredCall | None:
        """Return what the stores have of a call; None: nothing. Raises UnansweredError."""
        if self._found is None:
            self._found = look_ups.complete(self._call_ids)
        return self._found.get(call_id)


class _OfSession(Report):
    """What was done in a session: the content level of that holds."""

    def __init__(
        self, reading: _Reading, session_id: str | None, key: Hashable, adds: Callable[[Any], Any], now_ns: int
    ) -> None:
        super().__init__(reading.reports, reading.level, key, adds)
        self._reading, self._session_id, self._now_ns = reading, session_id, now_ns

    def local(self) -> Known:
        """Return what this process knows of the session."""
        return Known(level=None if self._session_id is None else known_level("session", self._session_id))

    def ask(self, look_ups: LookUps, known: Known) -> Known:
        """Return what the stores know of the session."""
        if self._session_id is None or known.level is not None:
            return known
        where = look_ups.find("session", self._session_id)
        level = where.level if where is not None and where.level is not None else self._level(None)
        LEVELS.put(("session", self._session_id), level)
        return msgspec.structs.replace(known, level=level)


class _ToolEvent(_OfSession):
    """The run of a tool at the provider."""

    def __init__(self, reading: _Reading, run: ToolRun, now_ns: int) -> None:
        super().__init__(reading, run.session_id, (reading.provider, run.key), higher(1), now_ns)
        self._run = run

    def asks(self, known: Known) -> bool:
        """Return whether the content level of its session is unknown."""
        return known.level is None and self._session_id is not None

    def build(self, known: Known) -> EventRecord:
        """Return the event."""
        del known
        return event_of(self._run, self._reading.origin, self._now_ns)


class _ModelCall(_OfSession):
    """A request of the provider to the model."""

    def __init__(self, reading: _Reading, request: ModelRequest, stored: _Stored, now_ns: int) -> None:
        call_id = response_call_id(reading.provider, request.key)
        super().__init__(reading, request.session_id, call_id, partial(read_after, request), now_ns)
        self._call_id, self._request, self._stored, self._has_sent = call_id, request, stored, False

    @property
    def is_end(self) -> bool:  # type: ignore[override]
        """Whether nothing in this process has ended the call before, and it is not of a trace."""
        return is_first_end(self._request, self.before) and not self._request.of_trace

    def local(self) -> Known:
        """Return what this process knows; the session has begun, and the messages sent to it were received."""
        known, request = super().local(), self._request
        if not self._has_sent:
            self._has_sent, self._request = True, self._reading.agents.with_sent(self._reading.provider, request)
        if self._session_id is not None:
            self._reading.begin_session(self._session_id, start_of(request, self._now_ns))
        return known

    @property
    def is_begun(self) -> bool:  # type: ignore[override]
        """Whether it is in progress."""
        return self._request.outcome == IN_PROGRESS

    def asks(self, known: Known) -> bool:
        """Return whether a store may have the call, its model, or the content level of its session."""
        return self.is_end or known.level is None or self._lacks_model()

    def ask(self, look_ups: LookUps, known: Known) -> Known:
        """Return what the stores know of the session and the call."""
        had_level, known = known.level is not None, super().ask(look_ups, known)
        if self._lacks_model():
            model = look_ups.model(str(self._session_id))
            facts = SessionFacts(session_id=str(self._session_id), model=model, looked_up=True)
            self._reading.agents.learn(self._reading.provider, facts)
        stored = self._stored.find(look_ups, self._call_id)
        if stored is None or (self.is_end and not is_before(stored.read_ns, self._now_ns)):
            return known
        request = self._request
        adds_model = self._model() is not None and not stored.has_model
        is_same = request.status is None and not (request.of_trace or adds_model)
        is_stored = is_same and (stored.has_answer or had_level)
        return msgspec.structs.replace(known, is_complete=True, is_stored=is_stored)

    def build(self, known: Known) -> CallRecord:
        """Return the call."""
        del known
        reading, request = self._reading, msgspec.structs.replace(self._request, model=self._model())
        return call_of(reading.reader, request, self._facts(), reading.origin, self._now_ns)

    def start_span(self, spans: Spans, begun: Processed[CallRecord], known: Known) -> CallSpanHandle | None:
        """Start the span of the model request."""
        del known
        return spans.of_fetch(begun, self._reading.context, None) if self._reading.has_spans else None

    def _model(self) -> str | None:
        facts = self._facts()
        return self._request.model or (None if facts is None else facts.model)

    def _facts(self) -> SessionFacts | None:
        request, reading = self._request, self._reading
        if request.other_model:
            return None
        return reading.agents.facts_of(reading.provider, request.session_id, request.thread_id)

    def _lacks_model(self) -> bool:
        request, facts = self._request, self._facts()
        if request.model is not None or request.other_model or self._session_id is None or request.thread_id:
            return False
        return facts is None or (facts.model is None and not facts.looked_up)


class _JobCall(_ModelCall):
    """A call of a job: of the session and step that have created the job, where that is known."""

    _is_asked = False

    def local(self) -> Known:
        """Return what this process knows of the creation."""
        where = SPAN_REFS["call"].get(self._job)
        return Known(where=where, level=None if where is None else where.level)

    def ask(self, look_ups: LookUps, known: Known) -> Known:
        """Return what the stores know of the creation and the call."""
        self._is_asked, where = True, known.where
        if where is None:
            where = look_ups.find("call", self._job)
            # Without a level it is the record of one who has only read the job, such as this one.
            where = None if where is None or where.level is None else where
        known = msgspec.structs.replace(known, where=where, level=None if where is None else where.level)
        return super().ask(look_ups, known)

    def build(self, known: Known) -> CallRecord:
        """Return the call; where its creation is not known, of the session and step around the code that reads."""
        record, place = super().build(known), self._reading.origin.place
        if known.where is not None:
            place = known.where.place
        elif self._of.look_ups and not self._is_asked:
            place = Place()
        return msgspec.structs.replace(record, place=place, pid=os.getpid() if self._reading.creates_job else None)

    @property
    def _job(self) -> str:
        """The id of the job's call; a run of an evaluation has one for each model, whose keys begin with the run's."""
        return response_call_id(self._reading.provider, self._request.key.partition(" ")[0])


def _listed(fact: Fact) -> Fact:
    return msgspec.structs.replace(fact, listed=True) if isinstance(fact, ModelRequest) else fact
