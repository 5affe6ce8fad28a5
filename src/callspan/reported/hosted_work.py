"""Hosted work: records what agents and jobs have done at the provider, as a request or a connection reports it."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from opentelemetry.context import Context

from callspan.agent.runtime import LEVELS, SPAN_REFS, ScopeSpanHandle, SpanRef, known_level
from callspan.fail_open import fail_open
from callspan.observe.background_responses import IN_PROGRESS
from callspan.observe.hosted_agents import (
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
from callspan.observe.hosted_exchange import HostedExchange
from callspan.observe.ports import CallInfo, CallSpanHandle, ExchangePorts
from callspan.process.processed import Processed
from callspan.providers import registry
from callspan.providers.hosted import (
    Fact,
    HostedEndpoint,
    ModelRequest,
    Sent,
    SessionFacts,
    ToolRun,
    path_of,
)
from callspan.providers.routes import Found
from callspan.record.call import CallRecord, Place
from callspan.record.events import EventRecord
from callspan.record.ids import response_call_id
from callspan.record.span_handle import with_span_ids
from callspan.reported.claims import unless_known
from callspan.reported.look_ups import LookUps, is_before
from callspan.reported.reports import FixedReport, Known, Report, Reports, Spans
from callspan.settings import Content
from callspan.stores.base import StoredCall

_WRITE: Final = fail_open("record what a hosted agent did")


class Source(NamedTuple):
    """Where facts were read."""

    origin: Origin
    reader: HostedEndpoint
    level: Content
    """The content level in force there."""
    clock: Callable[[], int]
    """Unix nanoseconds."""
    context: Context | None
    """OpenTelemetry's, for the spans of model requests; None: they have none."""
    of_events: bool
    """Facts are of events, or of lists of them: their session is recorded although it was not created here."""
    creates_job: bool = False
    """The request creates a job."""

    @property
    def provider(self) -> str:
        """The provider."""
        return self.origin.info.provider


class HostedWork:
    """Records the sessions of hosted agents, and jobs. Safe from any thread."""

    def __init__(self, reports: Reports) -> None:
        self.reports = reports
        self.agents = HostedAgents()

    def start(
        self, ports: ExchangePorts, level: Content, spans: bool, found: Found, query: object, info: CallInfo,
        context: Context,
    ) -> HostedExchange:  # fmt: skip
        """Start to observe a request; `spans`: model requests have spans."""
        path = path_of(found)
        reader = registry.hosted_reader(path.api)
        place, _, metadata = ports.ambient()
        parent = None if place is None else place.session_id
        origin = Origin(
            info=info, service=ports.service, host=ports.host, metadata=metadata, place=place or Place(),
            parent_session_id=None if parent == path.session_id else parent,
        )  # fmt: skip
        source = Source(
            origin, reader, level, ports.clock.wall_ns, context if spans else None,
            path.what in ("stream", "events"), path.what == "job",
        )  # fmt: skip
        page = query.get("page") if isinstance(query, Mapping) else None
        return HostedExchange(
            ports, info, path, page if isinstance(page, str) else None, reader, self.agents,
            partial(self.take, source), partial(self._job_created, source),
        )  # fmt: skip

    def _job_created(self, source: Source, job: str) -> None:
        begun = SpanRef(place=source.origin.place, level=source.level, response_id=job)
        SPAN_REFS["call"].put(response_call_id(source.provider, job), begun)

    def take(self, source: Source, facts: Sequence[Fact]) -> None:
        """Record facts; where an interrupt comes, another thread records those that are not, each has its claim."""
        ids = [response_call_id(source.provider, one.key) for one in facts if isinstance(one, ModelRequest)]
        record = partial(self._record, source, facts, _Stored(ids))
        record()

    def _record(self, source: Source, facts: Sequence[Fact], stored: _Stored) -> None:
        for fact in facts:
            with _WRITE:
                self._record_one(source, fact, stored)

    def _record_one(self, source: Source, fact: Fact, stored: _Stored) -> None:
        reports, now_ns = self.reports, source.clock()
        if isinstance(fact, ModelRequest):
            kind = _ModelCall if fact.session_id is not None else _JobCall
            reports.report(kind(self, source, fact, stored, now_ns))
        elif isinstance(fact, ToolRun):
            reports.report(_ToolEvent(self, source, fact, now_ns))
        elif isinstance(fact, SessionFacts):
            known = self.agents.learn(source.provider, fact)
            if fact.created_here:
                LEVELS.put(("session", fact.session_id), source.level)
            if fact.thread_id is None and (fact.created_here or source.of_events or self._is_written(fact.session_id)):
                self._write_session(source, known, now_ns, created_here=fact.created_here)
        elif isinstance(fact, Sent):
            self.agents.note_sent(source.provider, fact)

    def _is_written(self, session_id: str) -> bool:
        """Return whether this process has written the record of a session."""
        return self.reports.claims.state(("session", session_id)) is not None

    def _write_session(self, source: Source, facts: SessionFacts, now_ns: int, *, created_here: bool = False) -> None:
        """Record the facts of a session, unless they equal what was written last.

        Its creator's process id says that the level given is the one it was begun with.
        """
        level, pid = known_level("session", facts.session_id) or "full", os.getpid() if created_here else None
        record = msgspec.structs.replace(session_of(source.origin, facts, now_ns), content_level=level, pid=pid)
        key = "session", record.session_id
        self.reports.report(FixedReport(self.reports, source.level, key, partial(session_after, record), record))

    def begin_session(self, source: Source, session_id: str, at_ns: int) -> None:
        """Record a session whose events are read, unless that was done."""
        if self._is_written(session_id):
            return
        known = self.agents.facts_of(source.provider, session_id) or SessionFacts(session_id=session_id)
        created_ns = at_ns if known.created_ns is None else known.created_ns
        self._write_session(source, msgspec.structs.replace(known, created_ns=created_ns, at_ns=created_ns), at_ns)


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
        self, work: HostedWork, source: Source, session_id: str | None, key: Hashable, adds: Callable[[Any], Any],
        now_ns: int,
    ) -> None:  # fmt: skip
        super().__init__(work.reports, source.level, key, adds)
        self._source, self._session_id, self._now_ns = source, session_id, now_ns

    def local(self) -> Known:
        """Return what this process knows of the session."""
        return Known(level=None if self._session_id is None else known_level("session", self._session_id))

    def ask(self, look_ups: LookUps, known: Known) -> Known:
        """Return what the stores know of the session."""
        if self._session_id is None or known.level is not None:
            return known
        where = look_ups.find("session", self._session_id)
        level = where.level if where is not None and where.level is not None else self._level.of(None)
        LEVELS.put(("session", self._session_id), level)
        return msgspec.structs.replace(known, level=level)


class _ToolEvent(_OfSession):
    """The run of a tool at the provider."""

    def __init__(self, work: HostedWork, source: Source, run: ToolRun, now_ns: int) -> None:
        super().__init__(work, source, run.session_id, (source.provider, run.key), unless_known, now_ns)
        self._run = run
        self._shown: ScopeSpanHandle | None = None

    @property
    def _wants_span(self) -> bool:
        return self._source.context is not None

    def asks(self, known: Known) -> bool:
        """Return whether the content level of its session is unknown, or another process may have shown it."""
        return self._wants_span or (known.level is None and self._session_id is not None)

    def ask(self, look_ups: LookUps, known: Known) -> Known:
        """Return what the stores know of the session, and whether the run has a span."""
        known = super().ask(look_ups, known)
        is_shown = self._wants_span and look_ups.has_span(self.build(known).event_id)
        return msgspec.structs.replace(known, is_complete=is_shown)

    def build(self, known: Known) -> EventRecord:
        del known
        return event_of(self._run, self._source.origin, self._now_ns)

    def _complete(self, known: Known, level: Content) -> None:
        """Write it, with a span unless another process has made one."""
        of_calls, spans = self._of.outlets[level]
        record, starter = self.build(known), self._of.scope_spans
        if spans is not None and starter is not None and self._wants_span and not known.is_complete:
            self._shown = self._shown or starter.start(of_calls.process(record), parent=self._source.context)
        if self._shown is not None:
            record = with_span_ids(record, self._shown)
        if self._first is None or (known.is_answered and self._first != (record, level)):
            self._write(of_calls, "first" if self._first is None else "completed", record)
        if self._shown is not None:
            self._shown.end(of_calls.process(record), None)


class _ModelCall(_OfSession):
    """A request of the provider to the model."""

    def __init__(self, work: HostedWork, source: Source, request: ModelRequest, stored: _Stored, now_ns: int) -> None:
        call_id = response_call_id(source.provider, request.key)
        super().__init__(work, source, request.session_id, call_id, partial(read_after, request), now_ns)
        self._work = work
        self._call_id, self._request, self._stored, self._has_sent = call_id, request, stored, False

    @property
    def is_begun(self) -> bool:  # type: ignore[override]
        return self._request.outcome == IN_PROGRESS

    @property
    def is_end(self) -> bool:  # type: ignore[override]
        """Whether nothing in this process has ended the call before."""
        return is_first_end(self._request, self.before)

    def local(self) -> Known:
        """Return what this process knows; the session has begun, and the messages sent to it were received."""
        known, request = super().local(), self._request
        if not self._has_sent:
            self._has_sent, self._request = True, self._work.agents.with_sent(self._source.provider, request)
        if self._session_id is not None:
            self._work.begin_session(self._source, self._session_id, start_of(request, self._now_ns))
        return known

    def asks(self, known: Known) -> bool:
        """Return whether a store may have the call, its model, or the content level of its session."""
        return self.is_end or known.level is None or self._lacks_model()

    def ask(self, look_ups: LookUps, known: Known) -> Known:
        """Return what the stores know of the session and the call."""
        had_level, known = known.level is not None, super().ask(look_ups, known)
        if self._lacks_model():
            model = look_ups.model(str(self._session_id))
            facts = SessionFacts(session_id=str(self._session_id), model=model, looked_up=True)
            self._work.agents.learn(self._source.provider, facts)
        stored = self._stored.find(look_ups, self._call_id)
        if stored is None or (self.is_end and not is_before(stored.seen_ns, self._now_ns)):
            return known
        request = self._request
        adds_model = self._model() is not None and not stored.has_model
        is_same = request.status is None and not adds_model
        is_stored = is_same and (stored.has_answer or had_level)
        return msgspec.structs.replace(known, is_complete=True, is_stored=is_stored)

    def build(self, known: Known) -> CallRecord:
        del known
        source, request = self._source, msgspec.structs.replace(self._request, model=self._model())
        return call_of(source.reader, request, self._facts(), source.origin, self._now_ns)

    def start_span(self, spans: Spans, begun: Processed[CallRecord], known: Known) -> CallSpanHandle | None:
        del known
        context = self._source.context
        return None if context is None else spans.start_fetch_span(begun, context, None)

    def _model(self) -> str | None:
        facts = self._facts()
        return self._request.model or (None if facts is None else facts.model)

    def _facts(self) -> SessionFacts | None:
        request = self._request
        if request.other_model:
            return None
        return self._work.agents.facts_of(self._source.provider, request.session_id, request.thread_id)

    def _lacks_model(self) -> bool:
        request, facts = self._request, self._facts()
        if request.model is not None or request.other_model or self._session_id is None or request.thread_id:
            return False
        return facts is None or (facts.model is None and not facts.looked_up)


class _JobCall(_ModelCall):
    """A call of a job: of the session and step that have created the job, where that is known."""

    _is_looked_up = False

    def local(self) -> Known:
        """Return what this process knows of the creation."""
        where = SPAN_REFS["call"].get(self._job)
        return Known(where=where, level=None if where is None else where.level)

    def ask(self, look_ups: LookUps, known: Known) -> Known:
        """Return what the stores know of the creation and the call."""
        self._is_looked_up, where = True, known.where
        if where is None:
            where = look_ups.find("call", self._job)
            # Without a level it is the record of one who has only read the job, such as this one.
            where = None if where is None or where.level is None else where
        known = msgspec.structs.replace(known, where=where, level=None if where is None else where.level)
        return super().ask(look_ups, known)

    def build(self, known: Known) -> CallRecord:
        """Return the call; where its creation is not known, of the session and step around the code that reads."""
        record, place = super().build(known), self._source.origin.place
        if known.where is not None:
            place = known.where.place
        elif self._of.look_ups and not self._is_looked_up:
            place = Place()
        return msgspec.structs.replace(record, place=place, pid=os.getpid() if self._source.creates_job else None)

    @property
    def _job(self) -> str:
        """The id of the job's call; a run of an evaluation has one for each model, whose keys begin with the run's."""
        return response_call_id(self._source.provider, self._request.key.partition(" ")[0])
