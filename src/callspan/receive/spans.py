"""Spans: makes records of calls from spans of other instrumentations, in this process or received by OTLP.

A call may have several spans: callspan's own, one of an instrumentation of the SDK, one of a framework around both.
The innermost is the record. One around it, of the same operation and with no agent or tool between them, is no call of
its own: what it states and the innermost lacks is added to the record, but no counters or cost if it is around several.

Spans come in any order. What comes later makes a newer version of a record; where the outer span had become a record
first, the inner one takes its id, and so replaces it.

Spans of agents, workflows and tools are sessions, agents and tools once all that is around them has come. Which run is
the session of what is in it, `session_among` says; newer versions of its calls have that session. A chain becomes a
session with the first agent or tool in it. What never comes leaves them where they are.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from callspan.providers import registry
from callspan.providers.base import NOT_GENERATING
from callspan.receive.history import ReadRun, ReadSpan
from callspan.receive.waiting import Leveled, leveled, record_in, waiting_id
from callspan.record.call import NO_BODY, CallRecord, Redaction, Response, removed_from
from callspan.record.codec import decode, encode, encode_json
from callspan.record.events import EventRecord, SessionRecord, joined_events
from callspan.record.usage import Usage, contradicts_itself
from callspan.runtime.forks import renew_locks
from callspan.runtime.lock_free import LRUCache
from callspan.semconv.agent_spans import (
    RunFacts,
    agent_event,
    is_same_tool,
    run_name,
    session_among,
    session_of,
    tool_event,
    tool_run,
)
from callspan.semconv.call import CALL_ID
from callspan.semconv.records_from_spans import (
    ForeignSpan,
    call_of,
    has_unknown_cache,
    ownership_of,
)
from callspan.semconv.span_messages import SPAN_MESSAGES
from callspan.semconv.span_messages import bodies_of as messages_of
from callspan.semconv.vocabularies import OPERATIONS, UNKNOWN, Kind, role_of
from callspan.settings import Content, strictest
from callspan.stores.tables.payloads import bodies_of

_MAX_BYTES: Final = 64 << 20
_SPAN_BYTES: Final = 2_000
"""What a span takes without the content of a tool: its record as a call, and its place."""
_MAX_ANSWERS: Final = 16_384
_WITHOUT_USAGE: Final = 16_384
"""The order of a version that counts nothing: newer than those of any number of spans."""
_MAX_INNER: Final = 64
"""Most calls of one operation beneath a span that get what it states of their session."""
_MAX_DEPTH: Final = 64
_COUNTERS: Final = tuple(name for name in Usage.__struct_fields__ if name.endswith("_tokens"))
_MAX_CHILDREN: Final = 1024
_PLACED: Final = 8192
"""Added to the order of a version whose session is known."""
_OWN: Final = "callspan"
_CLOCKS_NS: Final = 5_000_000_000
"""How much the clocks of two machines may differ."""
RECORDED_APART: Final = "spans of tools whose agent had not come while callspan kept them"
RECORDED_TWICE: Final = "spans of calls that were recorded by another span before"


class SpanRecords(NamedTuple):
    """What spans became."""

    calls: list[tuple[CallRecord, Content]]
    """New versions of records, each with the strictest content level of its spans."""
    runs: list[tuple[SessionRecord | EventRecord, Content]]
    """Sessions, then their agents and tools; each once."""
    unused: int
    """Number of spans that are no part of a call or an agent."""
    repeated: int
    """Number of calls that two records have, as their spans came too late to be recognised as one."""
    apart: int
    """Number of agents and tools without a session, as what is around them had not come while there was room."""


class _Span(msgspec.Struct, eq=False):
    """What is known of a span; nothing of one that has not come, but may be around others."""

    key: str
    parent: str | None = None
    bytes: int = 0
    """How much room it takes, about."""
    has_come: bool = False
    kind: Kind | None = None
    inner: dict[Kind, list[str]] = {}
    """The keys of the calls beneath it, by operation: without those beneath an agent, a tool or another operation."""
    call: _Call | None = None
    is_top: bool = False
    """Whether nothing of its own process is around it."""
    children: dict[str, None] = {}
    run: _Run | None = None
    outermost: str | None = None
    """The key of the run that is its session; empty if there is none. None as long as not all around it has come."""


class _Call(msgspec.Struct, eq=False):
    """The record of a span that is an LLM call's, or is around one."""

    record: CallRecord | None
    """None if callspan itself records it."""
    level: Content
    call_id: str = ""
    is_written: bool = False
    is_replaced: bool = False
    """Whether a record of an inner span has its id."""


class _Run(RunFacts, msgspec.Struct, kw_only=True, eq=False):
    """An agent, a workflow or a tool, or a chain that may be a workflow."""

    key: str
    name: str
    level: Content
    session: SessionRecord
    """What it is as a session."""
    event: EventRecord | None
    """What it is as an agent or a tool, until that is recorded."""
    tool_call_id: str | None = None
    is_recorded: bool = False
    """Whether its session is recorded."""
    told_user: str | None = None
    """The user in that record."""
    has_calls: bool = False
    """Whether it is a session that is recorded."""
    waiting: list[str] = []
    """Of a session without a call yet: the agents and tools in it."""
    tool_ends: dict[str, int] = {}
    """When its tools ended, by the ids of their tool calls."""


class SpanReader:
    """Makes the records of spans. Thread-safe. Reading spans again gives the same result, as long as they are kept."""

    def __init__(self, *, reads_messages: bool = False) -> None:
        """`reads_messages`: the records get what spans state of messages. Of those of this process they do not.

        Nothing tells which content level was in force where a span of this process began.
        """
        self._reads_messages = reads_messages
        self._lock = threading.RLock()
        renew_locks(self, "_lock")
        self._spans: OrderedDict[str, _Span] = OrderedDict()
        """Spans that have come, or are around others, those first that were asked for longest ago."""
        self._bytes = 0
        self._waiting: dict[str, _Run] = {}
        """By the name of a file: the tools with content that wait for their session."""
        self._apart: list[tuple[EventRecord, Content]] = []
        """Agents and tools that were let go of before all that is around them had come."""
        self._span_of_answer: LRUCache[str, str] = LRUCache(_MAX_ANSWERS)
        """The span that has an answer, by trace and id of the answer; servers repeat ids, but not within a trace."""
        self._touched: dict[str, _Span] = {}
        """The spans of calls, and around them, that were read or changed last."""

    def read(self, spans: Iterable[ForeignSpan], level: Content = "full") -> SpanRecords:
        """Return what becomes of spans that came together."""
        with self._lock:
            self._touched.clear()
            unused = repeated = 0
            arrived = []
            for span in spans:
                node = self._add(span, level)
                arrived.append(node)
                if node.call is not None or node.run is not None or node.inner:
                    self._touched[node.key] = node
                unused += node.call is None and node.run is None
                repeated += self._forget_missing(node)
            placed, runs = self._adopt(arrived)
            changed = {called.key: called for node in arrived for called in self._changed_by(node)}
            changed |= {called.key: called for called in placed}
            records: list[tuple[CallRecord, Content]] = []
            for called in changed.values():
                if called.call is None:
                    continue
                outers = list(self._outer(called))
                self._touched |= {node.key: node for node in (called, *outers)}
                repeats = [outer for outer in outers if self._takes_id(called.call, outer.call)]
                repeated += len(repeats)
                records += [version for outer in repeats for version in _without_usage(outer.call)]
                if (version := self._version(called, called.call)) is not None:
                    records.append(version)
            self._let_go(_MAX_BYTES)
            apart, self._apart = self._apart, []
            return SpanRecords(records, [*runs, *apart], unused, repeated, len(apart))

    def close(self) -> SpanRecords:
        """Return the agents and tools that still wait for what is around them."""
        with self._lock:
            for node in self._spans.values():
                self._give_up(node)
            apart, self._apart = self._apart, []
            return SpanRecords([], [*apart], 0, 0, len(apart))

    def noted(self) -> Iterator[ReadSpan]:
        """Yield what the next reader must know of the spans that were read last."""
        for node in self._touched.values():
            call, run = node.call, None if node.run is None else _noted_run(node.run)
            if call is None:
                yield ReadSpan(key=node.key, parent=node.parent, kind=node.kind, is_top=node.is_top, run=run)
                continue
            record = NO_BODY if call.record is None else msgspec.Raw(encode(call.record))
            yield ReadSpan(
                key=node.key,
                parent=node.parent,
                kind=node.kind,
                is_call=True,
                record=record,
                level=call.level,
                call_id=call.call_id,
                is_written=call.is_written,
                is_replaced=call.is_replaced,
                is_top=node.is_top,
            )

    def settle(self) -> None:
        """Forget what is noted."""
        self._touched.clear()

    def waiting(self) -> Mapping[str, Callable[[], Leveled]]:
        """Return a function for each tool whose content would be lost with this process: it makes the record."""
        return {
            ident: partial(leveled, run.event, run.level)
            for ident, run in self._waiting.items() if run.event is not None
        }  # fmt: skip

    def resume(self, spans: Iterable[ReadSpan], files: Mapping[str, Path]) -> None:
        """Go on with what a reader before has noted, oldest first; the contents of tools that wait are in files."""
        for span in spans:
            node = self._find(span.key) or _Span(span.key)
            node.has_come, node.parent, node.kind = True, span.parent, span.kind
            node.is_top = span.is_top or span.parent is None
            node.run = None if span.run is None else _run_again(span.key, span.run, files)
            if span.is_call:
                record = decode(bytes(span.record)) if bytes(span.record) else None
                if not isinstance(record, CallRecord | None):
                    continue
                record = None if record is None else msgspec.structs.replace(record, cost=None)
                node.call = _Call(record, span.level, span.call_id, span.is_written, span.is_replaced)
                if record is not None and (answer := _answer(record)) is not None and span.is_written:
                    self._span_of_answer.put(_key(str(record.trace_id), answer), span.key)
            self._keep(node)

    def _add(self, span: ForeignSpan, level: Content) -> _Span:
        """Add a span to those that are known, and to the calls beneath the spans around it."""
        key, span_kind = _key(span.trace_id, span.span_id), span.kind
        is_own = CALL_ID in span.attributes
        record = call_of(span)
        if record is not None and self._reads_messages and not is_own:
            record = _with_messages(record, span)
        node = self._find(key) or _Span(key)
        node.has_come, node.parent = True, self._parent(key, span)
        node.kind = None if span_kind is None else span_kind.kind
        node.is_top = node.parent is None or span.is_parent_remote
        if node.run is None and not is_own and span.adopted is None and span.scope != _OWN:
            node.run = _run_of(span, level)
        if is_own:
            node.call = _Call(None, level, is_written=True)
            if record is None:  # whatever vocabulary it has, its name begins with the operation
                node.kind = OPERATIONS.get(span.name.partition(" ")[0], "chat")
            elif (answer := _answer(record)) is not None:
                self._span_of_answer.put(_key(span.trace_id, answer), key)
        elif record is not None and node.call is not None:
            node.call.record, node.call.level = record, strictest(node.call.level, level)
        elif record is not None:
            node.call = _Call(record, level, record.call_id)
        self._keep(node)
        return node

    def _keep(self, node: _Span) -> None:
        self._put(node)
        if node.parent is not None:
            self._above(node.parent).children[node.key] = None
        self._tell_outer(node)

    def _put(self, node: _Span) -> None:
        self._spans[node.key] = node
        size, run = _SPAN_BYTES, node.run
        if run is not None and run.event is not None and run.event.data is not None:
            size += len(encode(run.event))
            self._waiting[waiting_id(run.event.event_id)] = run
        if node.call is not None and node.call.record is not None:
            size += sum(map(len, bodies_of(node.call.record)))
        self._bytes += size - node.bytes
        node.bytes = size

    def _above(self, key: str) -> _Span:
        """Return a span around another one, perhaps without what has not come of it."""
        if (outer := self._find(key)) is None:
            outer = _Span(key)
            self._put(outer)
        return outer

    def _let_go(self, most_bytes: int) -> None:
        """Forget the spans that were asked for longest ago, so that this many bytes are left."""
        while self._bytes > most_bytes:
            key, node = self._spans.popitem(last=False)
            self._bytes -= node.bytes
            if (outer := self._spans.get(node.parent or "")) is not None:
                outer.children.pop(key, None)
            self._give_up(node)

    def _give_up(self, node: _Span) -> None:
        """Let what waits for its session be recorded without one."""
        if node.run is not None and node.run.event is not None:
            if node.run.role == "tool":
                self._apart.append((node.run.event, node.run.level))
            self._forget_event(node.run)

    def _forget_event(self, run: _Run) -> None:
        if run.event is not None:
            self._waiting.pop(waiting_id(run.event.event_id), None)
        run.event = None
        if (node := self._spans.get(run.key)) is not None:
            self._put(node)

    def _parent(self, key: str, span: ForeignSpan) -> str | None:
        """Return the key of the span around one; None without one, or if that is beneath it."""
        parent = None if span.parent_span_id is None else _key(span.trace_id, span.parent_span_id)
        above = parent
        for _ in range(_MAX_DEPTH):
            if above is None:
                return parent
            if above == key:
                return None
            around = self._find(above)
            above = None if around is None else around.parent
        return parent

    def _find(self, key: str) -> _Span | None:
        node = self._spans.get(key)
        if node is not None:
            self._spans.move_to_end(key)
        return node

    def _adopt(self, arrived: list[_Span]) -> tuple[list[_Span], list[tuple[SessionRecord | EventRecord, Content]]]:
        """Place what now has all that is around it; return the calls among it, and records of sessions and runs."""
        calls, sessions = [], dict[str, _Run]()
        for node, around in self._surrounded(arrived):
            runs = [*reversed(around)] if node.run is None else [*reversed(around), node.run]
            session = session_among(runs, _start_ns(node), _CLOCKS_NS)
            node.outermost = "" if session is None else session.key
            if session is None:
                continue
            sessions[session.key] = session
            if node.run is not None:
                session.serves = session.serves.filled(node.run.ownership)
            if node.call is not None:
                calls.append(node)
                session.has_calls = True
            elif node.run is not session:
                session.waiting.append(node.key)
        with_calls = [session for session in sessions.values() if session.has_calls]
        records = [record for session in with_calls for record in self._session(session)]
        return calls, records + [record for session in with_calls for record in self._runs_in(session)]

    def _surrounded(self, arrived: list[_Span]) -> list[tuple[_Span, list[_Run]]]:
        """Return the calls and runs around which all has come now, by their start, each with the runs around it."""
        surrounded, chains = dict[str, tuple[_Span, list[_Run]]](), [*arrived]
        while chains:
            nodes, chains = self._beneath(chains), []
            for node in nodes:
                if node.outermost or (node.call is None and node.run is None):
                    continue
                if (around := self._runs_around(node)) is not None:
                    surrounded[node.key] = node, around
                    chains += self._with_first_run(node, around)
        return sorted(surrounded.values(), key=lambda entry: _start_ns(entry[0]))

    def _beneath(self, outermost: Iterable[_Span]) -> list[_Span]:
        """Return these spans, and all beneath them."""
        nodes = {node.key: node for node in outermost}
        waiting = [*nodes.values()]
        for node in waiting:
            for child in filter(None, map(self._find, node.children)):
                if child.key not in nodes:
                    nodes[child.key] = child
                    waiting.append(child)
        return waiting

    def _with_first_run(self, node: _Span, around: list[_Run]) -> list[_Span]:
        """Note that a run has others around it; return the chains that are sessions for that reason."""
        if node.run is None or node.run.role == "chain":
            return []
        first = [outer for outer in around if not outer.has_runs]
        for outer in first:
            outer.has_runs = True
        return [*filter(None, (self._find(outer.key) for outer in first if outer.role == "chain"))]

    def _runs_around(self, node: _Span) -> list[_Run] | None:
        """Return the agents and tools around a span, the innermost first; None if one around it has not come."""
        runs: list[_Run] = []
        for _ in range(_MAX_DEPTH):
            if node.is_top:
                return runs
            above = None if node.parent is None else self._find(node.parent)
            if above is None or not above.has_come:
                return None
            if above.run is not None:
                runs.append(above.run)
            node = above
        return None

    def _session(self, run: _Run) -> Iterator[tuple[SessionRecord | EventRecord, Content]]:
        """Yield the record of a session that has none, or not its user, and its agent if it is a conversation."""
        session, user = run.session, run.serves.user
        if run.is_recorded and run.told_user != user:
            seen_ns = (run.end_ns or run.start_ns) + 1
            yield SessionRecord(session_id=session.session_id, seen_ns=seen_ns, user_id=user), run.level
        if not run.is_recorded:
            yield msgspec.structs.replace(session, user_id=user), run.level
            if session.metadata and run.event is not None:
                yield msgspec.structs.replace(run.event, session_id=session.session_id), run.level
        run.is_recorded, run.told_user = True, user
        self._forget_event(run)

    def _runs_in(self, session: _Run) -> Iterator[tuple[SessionRecord | EventRecord, Content]]:
        """Yield the records of the agents and tools that wait for their session."""
        nodes, session.waiting = [*filter(None, map(self._find, session.waiting))], []
        records = [(node.run, self._event(node, node.run, session)) for node in nodes if node.run is not None]
        for run, event in records:
            self._forget_event(run)
            if event is not None:
                yield event, strictest(session.level, run.level)

    def _event(self, node: _Span, run: _Run, session: _Run) -> EventRecord | None:
        """Return the record of an agent or a tool; None if it is another one's, or has none."""
        event, around = run.event, self._runs_around(node) or []
        if event is None:
            return None
        if run.role == "tool":
            if any(child.run is not None and _is_same(child.run, run) for child in self._runs_beneath(node)):
                return None  # the innermost is the run
            for outer in around:
                if not _is_same(run, outer):
                    break
                if outer.event is None:
                    return None  # it was recorded before this one came
                event = joined_events(event, outer.event)
            if _has_run(session, event):
                return None
        above = around[0].key.partition(" ")[2] if around else event.parent_span_id
        return msgspec.structs.replace(event, session_id=session.session.session_id, parent_span_id=above)

    def _runs_beneath(self, node: _Span) -> Iterator[_Span]:
        """Yield the nearest spans of agents and tools beneath one."""
        waiting = [*node.children]
        for _ in range(_MAX_CHILDREN):
            if not waiting:
                return
            child = self._find(waiting.pop())
            if child is not None and child.run is not None:
                yield child
            elif child is not None:
                waiting += child.children

    def _tell_outer(self, node: _Span) -> None:
        """Tell the spans around one which calls are beneath them, instead of those that have turned out to be none."""
        no_calls: set[str] = set()
        for _ in range(_MAX_DEPTH):
            if node.parent is None or node.kind == "scope" or not node.has_come:
                return
            outer = self._above(node.parent)
            for operation, keys in _seen_from_above(node).items():
                if keys != [node.key]:
                    no_calls.add(node.key)
                known = [key for key in outer.inner.get(operation, ()) if key not in no_calls]
                outer.inner[operation] = [*known, *(key for key in keys if key not in known)][:_MAX_INNER]
            node = outer

    def _forget_missing(self, node: _Span) -> bool:
        """Forget calls beneath a span that memory has let go of; return whether the span is therefore a second record.

        A call that had no record before is one even so.
        """
        if node.call is None or node.kind is None:
            return False
        calls = _calls_of(node)
        known = [key for key in calls if self._find(key) is not None]
        if known == calls:
            return False
        node.inner[node.kind] = known
        self._tell_outer(node)
        return not known and not node.call.is_written

    def _changed_by(self, node: _Span) -> Iterator[_Span]:
        """Yield the calls that may have another record now that a span has come."""
        if node.call is not None and not _calls_of(node):
            yield node
        for outer in (node, *self._outer(node)):
            yield from (called for key in _calls_of(outer) if (called := self._find(key)) is not None)

    def _outer(self, node: _Span) -> Iterator[_Span]:
        """Yield the calls' spans around one, the nearest first, that are no calls of their own."""
        operation = node.kind if node.call is not None else None
        for _ in range(_MAX_DEPTH):
            above = None if node.parent is None or node.kind == "scope" else self._find(node.parent)
            if above is None or not above.has_come:
                return
            if above.call is not None:
                if operation not in (None, above.kind):
                    return
                operation = above.kind
                yield above
            node = above

    def _takes_id(self, call: _Call, outer: _Call | None) -> bool:
        """Give a call the id under which a span around it was recorded; return whether both are recorded already."""
        if outer is None or outer.record is None or not outer.is_written or outer.is_replaced:
            return False
        outer.is_replaced = True
        if call.is_written:
            return True
        call.call_id, call.is_written = outer.call_id, True
        return False

    def _version(self, node: _Span, call: _Call) -> tuple[CallRecord, Content] | None:
        """Return the record of a call with all that is known of it; None if it is, or has become, another's."""
        record, spans, levels = call.record, 1, [call.level]
        if record is None or _calls_of(node):
            return None
        keys = {node.key}
        for outer in self._outer(node):
            siblings = len(_calls_of(outer))
            spans += siblings
            keys.add(outer.key)
            if outer.call is not None and outer.call.record is not None:
                levels.append(outer.call.level)
                record = _added(record, outer.call.record, with_numbers=siblings == 1)
        if (answer := _answer(record)) is not None:
            of_answer = _key(str(record.trace_id), answer)
            if self._span_of_answer.setdefault(of_answer, node.key) not in keys:
                return None
            self._span_of_answer.put(of_answer, node.key)
        call.is_written = True
        # Of two versions the one of more spans wins, whichever comes last, and one whose session is known.
        order = None if spans == 1 else spans
        outermost = self._find(node.outermost) if node.outermost else None
        if outermost is not None and outermost.run is not None:
            session = outermost.run.session
            place = msgspec.structs.replace(record.place, session_id=session.session_id, session_name=session.name)
            record, order = msgspec.structs.replace(record, place=place), spans + _PLACED
        lacks = [*record.redactions, *_not_stated(record)]
        return msgspec.structs.replace(record, call_id=call.call_id, seen_ns=order, redactions=lacks), strictest(
            *levels
        )


def _with_messages(record: CallRecord, span: ForeignSpan) -> CallRecord:
    """Return the record of a span with the messages that the span states as its bodies, whose API it then has."""
    endpoint = registry.by_api(SPAN_MESSAGES)
    if endpoint is None or record.operation in NOT_GENERATING:
        return record
    asked, answered = messages_of(span)
    if asked is not None:
        read = endpoint.request(asked)
        request = msgspec.structs.replace(
            record.request,
            message_count=read.message_count,
            tool_names=read.tool_names,
            body=msgspec.Raw(encode_json(asked)),
        )
        record = msgspec.structs.replace(record, api=SPAN_MESSAGES, request=request)
    if answered is not None:
        response = msgspec.structs.replace(record.response or Response(), body=msgspec.Raw(encode_json(answered)))
        record = msgspec.structs.replace(record, api=SPAN_MESSAGES, response=response)
    return record


def _not_stated(record: CallRecord) -> Iterator[Redaction]:
    """Yield what a record lacks since its spans do not state it."""
    bodies = zip(("request.body", "response.body"), bodies_of(record), strict=True)
    removed = removed_from(record)
    for name, body in bodies:
        if not body and name not in removed and (name == "request.body" or record.error is None):
            yield Redaction(what=name, why="not_received")


def _run_of(span: ForeignSpan, level: Content) -> _Run | None:
    """Return the agent, workflow or tool that a span stands for; None for other spans."""
    role = role_of(span.attributes, span.scope, span.name)
    if role is None:
        return None
    name, ownership = run_name(span.attributes, span.name), ownership_of(span)
    tool = tool_run(span) if role == "tool" else None
    event = agent_event(span, name) if role == "agent" else None if tool is None else tool_event(span, tool)
    return _Run(
        role=role,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        ownership=ownership,
        serves=ownership,
        key=_key(span.trace_id, span.span_id),
        name=name,
        level=level,
        session=session_of(span, name),
        event=event,
        tool_call_id=None if tool is None else tool.tool_call_id,
    )


def _start_ns(node: _Span) -> int:
    """Return when a run or a call began; 0 for a call that callspan itself records, which stays where it is."""
    if node.run is not None:
        return node.run.start_ns
    return 0 if node.call is None or node.call.record is None else node.call.record.timing.start_ns


def _noted_run(run: _Run) -> ReadRun:
    """Return what the next reader must know of an agent, a workflow or a tool."""
    return ReadRun(
        role=run.role,
        start_ns=run.start_ns,
        end_ns=run.end_ns,
        ownership=run.ownership,
        serves=run.serves,
        name=run.name,
        level=run.level,
        session=msgspec.Raw(encode(run.session)),
        event=NO_BODY if run.event is None else msgspec.Raw(encode(msgspec.structs.replace(run.event, data=None))),
        tool_call_id=run.tool_call_id,
        has_runs=run.has_runs,
        has_calls=run.has_calls,
        is_recorded=run.is_recorded,
        told_user=run.told_user,
    )


def _run_again(key: str, noted: ReadRun, files: Mapping[str, Path]) -> _Run | None:
    """Return an agent, workflow or tool that a reader before has noted."""
    session, event = decode(bytes(noted.session)), decode(bytes(noted.event)) if bytes(noted.event) else None
    if isinstance(event, EventRecord) and (path := files.get(waiting_id(event.event_id))) is not None:
        event = record_in(path) or event
    if not (isinstance(session, SessionRecord) and isinstance(event, EventRecord | None)):
        return None
    return _Run(
        key=key,
        session=session,
        event=event,
        **{name: getattr(noted, name) for name in ReadRun.__struct_fields__ if name not in ("session", "event")},
    )


def _is_same(inner: _Run, outer: _Run) -> bool:
    """Return whether the span of a run right within another one's is of the same run."""
    if inner.role != "tool" or outer.role != "tool":
        return False
    return is_same_tool(inner.name, inner.tool_call_id, outer.name, outer.tool_call_id)


def _has_run(session: _Run, tool: EventRecord) -> bool:
    """Return whether a tool ran at the same time for the same tool call, and note that this one did."""
    if tool.tool_call_id is None:
        return False
    last_ns = session.tool_ends.get(tool.tool_call_id, 0)
    session.tool_ends[tool.tool_call_id] = max(last_ns, tool.time_ns + (tool.duration_ns or 0))
    return tool.time_ns < last_ns


def _calls_of(node: _Span) -> list[str]:
    """Return the calls beneath the span of a call that make it none; empty for other spans."""
    return [] if node.kind is None or node.call is None else node.inner.get(node.kind, [])


def _seen_from_above(node: _Span) -> dict[Kind, list[str]]:
    """Return the calls beneath a span, or itself, as the spans around it see them: of its own operation alone."""
    if node.call is None or node.kind is None:
        return node.inner
    return {node.kind: _calls_of(node) or [node.key]}


def _without_usage(call: _Call | None) -> Iterator[tuple[CallRecord, Content]]:
    """Yield a version of a record that counts nothing, since another record has its call."""
    if call is not None and call.record is not None:
        yield msgspec.structs.replace(call.record, call_id=call.call_id, usage=None, seen_ns=_WITHOUT_USAGE), call.level


def _added(record: CallRecord, outer: CallRecord, *, with_numbers: bool) -> CallRecord:
    """Return a record with what the span around it states, and it lacks.

    `with_numbers`: the outer span is around this call alone, so that its messages and counters are the call's, too.
    """
    request = msgspec.structs.replace(record.request, model=record.request.model or outer.request.model)
    if request.stream is None:
        request = msgspec.structs.replace(request, stream=outer.request.stream)
    has_messages = with_numbers and any(bodies_of(outer)) and not any(bodies_of(record))
    if has_messages:
        words = {name: getattr(outer.request, name) for name in ("message_count", "tool_names", "body")}
        request = msgspec.structs.replace(request, **words)
    is_stated = outer.api != SPAN_MESSAGES and record.api == UNKNOWN
    record = msgspec.structs.replace(
        record,
        provider=outer.provider if record.provider == UNKNOWN else record.provider,
        api=outer.api if is_stated or has_messages else record.api,
        place=outer.place if record.place.session_id is None else record.place,
        request=request,
        metadata=outer.metadata | record.metadata,
    )
    if not with_numbers:
        return record
    response = _response_added(record.response, outer.response, takes_body=has_messages)
    return msgspec.structs.replace(record, response=response, usage=_usage_added(record, outer))


def _response_added(response: Response | None, outer: Response | None, *, takes_body: bool) -> Response | None:
    if response is None or outer is None:
        return response or outer
    body = outer.body if takes_body else response.body
    added = msgspec.structs.replace(
        response, id=response.id or outer.id, model=response.model or outer.model, body=body
    )
    if response.finish_reasons:
        return added
    words = ("finish_reasons", "truncated", "refused", "unknown_finish")
    return msgspec.structs.replace(added, **{name: getattr(outer, name) for name in words})


def _usage_added(record: CallRecord, outer: CallRecord) -> Usage | None:
    """Return a usage with the counters and the cost that only the outer span states."""
    usage, of_outer = record.usage, outer.usage
    if usage is None or of_outer is None:
        return usage or of_outer
    lacking = {name: value for name in (*_COUNTERS, "cost_usd")
               if getattr(usage, name) is None and (value := getattr(of_outer, name)) is not None}  # fmt: skip
    added = msgspec.structs.replace(usage, **lacking)
    added = msgspec.structs.replace(added, estimated=usage.estimated or contradicts_itself(added))
    is_unknown = usage.cost_estimated and has_unknown_cache(added, record.provider, record.operation)
    return msgspec.structs.replace(added, cost_estimated=is_unknown)


def _answer(record: CallRecord) -> str | None:
    return None if record.response is None else record.response.id


def _key(trace_id: str, ident: str) -> str:
    return f"{trace_id} {ident}"
