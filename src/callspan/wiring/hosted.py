"""Hosted: writes the records of hosted agents as the SDK returns their events and turns.

A request about a session is observed as a call is, without a span or record of its own. Each event is read before the
caller gets it; what it completes is written at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from callspan.fail_open import fail_open
from callspan.observe.factory import CallFactory
from callspan.observe.hosted_agents import Claim, HostedAgents, Origin, call_of, event_of
from callspan.observe.live_call import LiveCall
from callspan.observe.ports import CallInfo, RequestObserver, span_ids
from callspan.process import processors
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
from callspan.record.call import CallRecord, Request
from callspan.record.events import EventRecord, Record, SessionRecord
from callspan.record.ids import response_call_id
from callspan.record.messages import Conversation
from callspan.spans.call import CallSpans

_READ: Final = fail_open("read what a hosted agent did")
_WRITE: Final = fail_open("record what a hosted agent did")
_NONE: Final[Mapping[str, bool]] = {}


class Finder(Protocol):
    """Looks up records in local stores."""

    def complete(self, call_ids: Sequence[str]) -> Mapping[str, bool]:
        """Return the calls that are stored with their answer; the value is whether their model is stored."""

    def model(self, session_id: str) -> str | None:
        """Return the recorded model of a session; None if unknown."""


class Hosted:
    """Records the sessions of hosted agents. Safe from any thread."""

    def __init__(
        self,
        find: Finder,
        write: Callable[[Processed[Record]], None],
        measure: Callable[[Processed[CallRecord]], None],
    ) -> None:
        """`write` stores a record."""
        self.find, self.write, self.measure = find, write, measure
        self.agents = HostedAgents()

    def factory(self, calls: CallFactory, spans: CallSpans | None) -> CallFactory:
        """Return the factory that observes requests about sessions, with the settings of `calls`; None: no spans."""
        silent = calls.without_records(lambda _: RequestObserver(), chunk_log=0)
        given = {name: getattr(silent, name) for name in silent.__struct_fields__}
        return HostedFactory(**given, of=self, spans=spans)


class HostedFactory(CallFactory, frozen=True, kw_only=True):
    """Creates the observers of requests about sessions. Safe from any thread."""

    of: Hosted
    spans: CallSpans | None

    def start(self, endpoint: Endpoint, info: CallInfo, *, alone: bool = False) -> LiveCall:
        """Return the call that observes the request; `endpoint` is a `HostedRequest`."""
        if not isinstance(endpoint, HostedRequest):
            return super().start(endpoint, info, alone=alone)
        place, _, metadata = self.surroundings()
        parent = None if place is None else place.session_id
        origin = Origin(
            info=info, service=self.service, host=self.host, metadata=metadata,
            parent_session_id=None if parent == endpoint.of.session_id else parent,
        )  # fmt: skip
        reading = _Reading(self, endpoint, origin)
        ports = msgspec.structs.replace(self, observer=lambda _: reading)
        return CallFactory.start(ports, reading, info, alone=True)


class _Reading(RequestObserver):
    """Observes one request about a session, and replaces its endpoint."""

    operation = HOSTED
    message_key = ""
    complete = False

    def __init__(self, factory: HostedFactory, request: HostedRequest, origin: Origin) -> None:
        self._factory, self._of, self._agents = factory, factory.of, factory.of.agents
        self._path: HostedPath = request.of
        self._page = request.page
        self.api, self.path = request.api, request.path
        self._reader: HostedEndpoint = registry.hosted_reader(request.api)
        self._origin = origin
        self._context: Context = otel_context.get_current()
        self._fold: Fold | None = None
        self._sent: object = None
        self._answer: object = None
        self._known: Mapping[str, bool] | None = None
        """The calls of a page that a store has; None: look each up."""

    def request(self, body: object) -> Request:
        """Keep the sent messages until the provider has accepted them."""
        self._sent = body
        return Request()

    def accumulator(self) -> Accumulator:
        """Return the accumulator for the events of a stream."""
        self._fold = self._reader.fold(self._path)
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
            self._take(self._reader.sent(self._path, sent, {"id": created.session_id}))

    def body(self) -> dict[str, object] | None:
        """Return nothing: the events are recorded one by one."""
        return None

    def response_info(self, body: object) -> ResponseInfo:
        """Process a complete answer."""
        self._answer = body
        with _READ:
            if self._path.what == "events":
                self._take_page(body)
            else:
                self._take(self._reader.facts(self._path, body))
        return NO_INFO

    def conversation(self, request: object, response: object) -> Conversation:
        """Return no messages."""
        del request, response
        return Conversation()

    def ended(self, record: CallRecord) -> None:
        """Process the sent messages if they were accepted, and the rest of a stream."""
        with _READ:
            fold, self._fold = self._fold, None
            if fold is not None:
                self._take(fold.rest())
            if record.outcome == "success" and self._path.what in ("send", "session"):
                self._take(self._reader.sent(self._path, self._sent, self._answer))
            self._sent = self._answer = None

    def _take_page(self, body: object) -> None:
        events, following = self._reader.events(body)
        scope = self._path.session_id, self._path.thread_id
        fold = self._agents.fold_of(self._page, lambda: self._reader.fold(self._path), *scope)
        facts = [fact for event in events for fact in fold.add(event)]
        ids = [response_call_id(self._origin.info.provider, one.key) for one in facts if isinstance(one, ModelRequest)]
        self._known = self._of.find.complete(ids) if ids else None
        if following is None:
            facts += fold.rest()
        else:
            self._agents.keep_fold(fold, following, *scope)
        self._take([_listed(fact) for fact in facts])

    def _take(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            with _WRITE:
                self._write(fact)

    def _write(self, fact: Fact) -> None:
        provider, now_ns = self._origin.info.provider, self._factory.clock.wall_ns()
        if isinstance(fact, ModelRequest):
            self._write_call(fact, now_ns)
        elif isinstance(fact, ToolRun):
            if self._agents.is_new(provider, fact):
                self._keep(event_of(fact, self._origin, now_ns))
        elif isinstance(fact, SessionFacts):
            known = self._agents.learn(provider, fact)
            of_events = self._path.what in ("stream", "events")
            if fact.thread_id is None and (fact.created_here or of_events or self._agents.is_written(fact.session_id)):
                self._write_session(known, now_ns)
        elif isinstance(fact, Sent):
            self._agents.note_sent(provider, fact)

    def _write_session(self, facts: SessionFacts, now_ns: int) -> None:
        record = self._agents.session_record(self._origin, facts, now_ns)
        if record is not None:
            self._keep(record)

    def _write_call(self, request: ModelRequest, now_ns: int) -> None:
        provider = self._origin.info.provider
        claim = self._agents.claim(provider, request, now_ns)
        if claim is None:
            return
        try:
            self._write_claimed(claim, request, now_ns)
        except BaseException:
            self._agents.disclaim(claim)
            raise

    def _write_claimed(self, claim: Claim, request: ModelRequest, now_ns: int) -> None:
        agents, provider = self._agents, self._origin.info.provider
        known = self._known
        if known is None:
            known = self._of.find.complete([claim.call_id]) if claim.is_first_end else _NONE
        is_known = claim.call_id in known
        request = agents.with_sent(provider, request)
        facts = None if request.other_model else self._facts(provider, request)
        if request.model is None and facts is not None:
            request = msgspec.structs.replace(request, model=facts.model)
        adds_model = request.model is not None and not known.get(claim.call_id, False)
        if is_known and request.status is None and not (request.of_trace or adds_model):
            return  # another process has read the same events
        record = call_of(self._reader, claim, request, facts, self._origin, now_ns)
        if request.session_id is not None and not agents.is_written(request.session_id):
            self._begin_session(request.session_id, record.timing.start_ns)
        self._show(record, shown=claim.is_first_end and not is_known and not request.of_trace)

    def _facts(self, provider: str, request: ModelRequest) -> SessionFacts | None:
        """Return the facts of a session or thread; for a session unknown to this process, those in a store."""
        known = self._agents.facts_of(provider, request.session_id, request.thread_id)
        if request.session_id is None or request.thread_id is not None or (known is not None and known.looked_up):
            return known
        model = self._of.find.model(request.session_id) if known is None or known.model is None else None
        return self._agents.learn(
            provider, SessionFacts(session_id=request.session_id, model=model, looked_up=True)
        )  # fmt: skip

    def _begin_session(self, session_id: str, at_ns: int) -> None:
        facts = self._agents.facts_of(self._origin.info.provider, session_id)
        known = facts or SessionFacts(session_id=session_id)
        created_ns = at_ns if known.created_ns is None else known.created_ns
        self._write_session(msgspec.structs.replace(known, created_ns=created_ns, at_ns=created_ns), at_ns)

    def _show(self, record: CallRecord, *, shown: bool) -> None:
        """Write the record, with a span and measurements if it is the first of an ended call."""
        spans = self._factory.spans if shown else None
        of_calls = self._factory.processors
        span = None if spans is None else spans.of_fetch(of_calls.begun(record), self._context, None)
        if span is not None:
            record = msgspec.structs.replace(record, **span_ids(span))
        processed = of_calls.process(record)
        processors.write(processed, self._of.write)
        if span is not None:
            span.end(processed, registry.conversation_of(processed.record) if span.wants_content else None)
        if shown:
            self._of.measure(processed)

    def _keep(self, record: SessionRecord | EventRecord) -> None:
        processors.write(self._factory.processors.process(record), self._of.write)


def _listed(fact: Fact) -> Fact:
    return msgspec.structs.replace(fact, listed=True) if isinstance(fact, ModelRequest) else fact
