"""Adopted: sessions, agents and tools from the spans that other code makes of them, while these are open.

A span processor keeps the spans that an agent, a workflow or a tool has, and which of them is around any other span.
The outermost is a session, those in it are agents and tools. What a span stands for is decided when it is first needed:
some instrumentations say what their spans are after the start, and nobody has asked a model before the first call. So a
session is recorded with its first call, a tool at its end, and an agent that asks no model leaves no record.

What the application, or a hook, records by callspan's own API counts more: a session around a span stays the session,
and a span of the same tool or agent as an own scope right around it, or in it, stands for nothing.

A place below a span proves nothing by itself: a stream that is left early leaves its agent's span current, and the next
user's turn begins there. So nothing that begins after an agent's end is in its session, and an agent that states
another user, tenant or service than the session around it begins a session of its own.

No lock is needed: what two threads may need at once is made by both, and kept of one.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final
from weakref import WeakSet, ref

import msgspec
from opentelemetry.context import Context, get_current, set_value
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import (
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    TracerProvider,
    get_current_span,
    get_tracer_provider,
    set_span_in_context,
)

from callspan import private_names as names
from callspan.agent.context import SCOPE, block_of, content_of, metadata_of
from callspan.agent.kinds import AGENT, SESSION, TOOL, end_of_operation, end_of_session, join_tool_call, read_input
from callspan.agent.operations import Agent, Operation, Tool
from callspan.agent.runtime import current_runtime
from callspan.agent.sessions import Identity, Session
from callspan.agent.tool_requests import Answer, requested_once, requests_named, requests_of, requests_with_id
from callspan.agent.tree import CallEnded, Node, is_within
from callspan.errors import application_error
from callspan.process.processed import ProcessedRecord
from callspan.process.processors import with_fields
from callspan.record.call import CallRecord, ErrorInfo, Place
from callspan.record.events import EventRecord, SessionRecord
from callspan.record.labels import USER, Ownership, label_of, tenant_of
from callspan.record.messages import Conversation, parse_arguments
from callspan.record.plain_json import plain
from callspan.record.span_handle import FOREIGN_RUNS
from callspan.runtime.fail_open import fail_open
from callspan.runtime.forks import in_child
from callspan.runtime.lock_free import LRUCache
from callspan.semconv.agent_spans import (
    ToolRun,
    is_cancelled,
    is_same_tool,
    joined_runs,
    outcome_of,
    run_name,
    tool_run,
)
from callspan.semconv.conversations import CONVERSATION, session_of_conversation
from callspan.semconv.records_from_spans import (
    ForeignSpan,
    conversation_of,
    duration_of,
    error_of,
    id_of_span,
    ownership_of,
)
from callspan.semconv.spans import ScopeSpan, ScopeSpanOptions
from callspan.semconv.vocabularies import (
    ABOUT_RUNS,
    AGENT_WORD,
    ROLE_ATTRIBUTES,
    ROLE_NAMES,
    TOOL_CALL_ID,
    Role,
    first_text,
    role_of,
    says_later,
)
from callspan.settings import Content, strictest
from callspan.spans.foreign import foreign_span
from callspan.spans.session import SessionSpan

_START: Final = fail_open("adopt the start of an agent's span")
_END: Final = fail_open("adopt the end of an agent's span")
_ATTACH: Final = fail_open("watch the spans of a tracer provider")
_LEAVE: Final = fail_open("leave a tracer provider")
_OWN: Final = "callspan"
"""Name of the instrumentation of callspan's own spans."""
_MAX_SPANS: Final = 65_536
"""Most spans within agents that are kept, open and ended."""
_MAX_ENDED: Final = 4096
_MAX_WAITING: Final = 256
"""Most tools of a session that wait for its first call."""
_MAX_TOOLS: Final = 1024
_MAX_EARLY: Final = 64
"""Most calls of a chain that are kept until the first agent or tool in it shows that it is a session."""
_NO_ANSWERS: Final[Sequence[Answer]] = ()
_RUNS: Final = frozenset({"agent", "tool"})
_SESSIONS: Final = frozenset({"agent", "workflow", "chain"})
_UTIL: Final = "opentelemetry.util.genai._conversation_context"
_attributes_of: Final = attrgetter(f"{names.ATTRIBUTES.name}.{names.BOUNDED_DICT.name}")
_NO_ATTRIBUTES: Final[Mapping[str, object]] = {}
_SOURCE: Final = ScopeSpan(ScopeSpanOptions(), None)


class _AdoptedMixin(Node):
    """A scope with the span that another instrumentation has made; it is never current by itself."""

    enclosing: Node | None = None
    failure: ErrorInfo | None = None
    is_automatic = True

    def begin(self, run: ForeignRun, enclosing: Node | None) -> None:
        """Start when its span did, in the context of its span."""
        span, parent = run.span, run.span.parent
        self.enclosing = enclosing
        self.span = SessionSpan(NonRecordingSpan(span.context), _SOURCE, None, parent=parent or INVALID_SPAN_CONTEXT)
        if enclosing is not None:
            # The spans between the two have no record. A turn of a conversation has one span as session and as agent.
            around = enclosing.span
            self.span.parent_span_id = around.parent_span_id if around.span_id == self.span.span_id else around.span_id
        self.start_ns, self.has_given_times = span.start_time or 0, True
        self._begin(_outside(run.start_context) if enclosing is None and run.is_apart else run.start_context)

    def finish(self, duration_ns: int | None, failure: ErrorInfo | None) -> None:
        """End after this time."""
        self.duration_ns, self.failure = duration_ns or 0, failure
        self.end()
        self.base = None  # it has the spans around this one

    def _leave(self, error: BaseException | None) -> None:
        """Leave what is current as it is."""


def _enter(node: Any, outside: Context) -> Context:
    """Inherit from the enclosing scope, whatever is current."""
    enclosing: Node = node.enclosing
    node.above, node.runtime = enclosing, current_runtime()
    node.place, node.counted_in = enclosing.place, enclosing.counted_in
    node.agent = enclosing if enclosing.kind.name == "agent" else enclosing.agent
    node.info = {**metadata_of(outside), **node.info}
    return outside


def _last(operation: Any, error: BaseException | None, duration_ns: int) -> EventRecord:
    record = end_of_operation(operation, error, duration_ns)
    return msgspec.structs.replace(record, error=operation.failure)


def _last_of_session(session: Any, error: BaseException | None, duration_ns: int) -> SessionRecord:
    record = end_of_session(session, error, duration_ns)
    if session.failure is None:
        return record
    outcome, ended_by = session.status or outcome_of(session.failure), session.failure
    return msgspec.structs.replace(record, outcome=outcome, error=None if is_cancelled(ended_by) else ended_by)


class _AdoptedSession(_AdoptedMixin, Session):
    kind = msgspec.structs.replace(SESSION, last=_last_of_session)


class _AdoptedAgent(_AdoptedMixin, Agent):
    kind = msgspec.structs.replace(AGENT, enter=_enter, last=_last)


def _join(tool: Any) -> None:
    """Find the model's tool call of a tool, also under another id or by its name alone; take the arguments it lacks."""
    join_tool_call(tool)
    scope, answers = tool.above, _NO_ANSWERS
    while scope is not None and not (answers := scope.latest_answers()):
        scope = scope.above
    request = next(iter(requests_with_id(answers, tool.requested_id or "")), None)
    if request is None and tool.call_id is None:
        named = requests_named(answers, tool.name)
        requests = named if tool.input_value is None else requests_of(answers, tool.name, tool.input_value)
        request = requested_once([request for request in requests if request.is_open])
    if request is not None:
        request.start()
        tool.call_id = tool.call_id or request.answer.call_id
        if tool.input_value is None:
            tool.input_value = plain(parse_arguments(request.tool_call.arguments))


class _AdoptedTool(_AdoptedMixin, Tool):
    kind = msgspec.structs.replace(TOOL, enter=_enter, last=_last, start_type=None, read_input=_join)

    def read(self, run: ToolRun) -> bool:
        """Take what its span says by now of the call that it serves; return whether that was unknown before."""
        before = self.requested_id, self.input_value
        self.requested_id = run.tool_call_id or self.requested_id
        self.input_value = self.input_value if run.arguments is None else run.arguments
        return before != (self.requested_id, self.input_value)

    def ran(self, run: ToolRun) -> None:
        """End as its span says."""
        self.name, self.start_ns = run.name, run.start_ns
        if self.read(run):
            read_input(self)
        if run.result is not None:
            self.result = run.result
        self.finish(run.duration_ns, run.error)


class ForeignRun:
    """A span of an agent, a workflow or a tool, and the scopes that it stands for."""

    __slots__ = (
        "_kept", "_open", "above", "early", "ended", "failure", "handled", "has_ended", "has_runs", "inner", "is_apart",
        "is_nothing", "level", "nodes", "own", "role", "start_context", "tool_ends", "tools_are_received", "waiting",
    )  # fmt: skip

    def __init__(self, span: ReadableSpan, above: ForeignRun | None, context: Context, role: Role) -> None:
        """`above` is the run around it, `context` that of its start."""
        self.above, self.start_context, self.role = above, context, role
        self._open: ref[ReadableSpan] | None = ref(span, partial(_forget_lost, span.context.span_id))
        """The span while it is open; nobody else may keep one that its framework never ends."""
        self._kept = _outline(span)
        self.level: Content = strictest(content_of(context), block_of(get_current()))
        """The content level of what is in it, of whatever thread."""
        self.handled = id(sys.exc_info()[1])
        """The exception that is being handled as it starts, and does not end it."""
        self.is_apart = False
        """Whether it is a session of its own within another one, of another user for example."""
        own: Any = context.get(SCOPE)
        self.own: Node | None = own
        """The scope of callspan's own that was current at its start."""
        self.nodes: dict[str, Node] = {}
        """Its session, then its agent or tool, once they are needed."""
        self.is_nothing = False
        """Whether it stands for nothing of its own: another record has it."""
        self.has_runs = False
        """Whether an agent or a tool runs in it."""
        self.tools_are_received = False
        """Whether the program that is the agent tells of its tools itself."""
        self.has_ended = False
        self.failure: ErrorInfo | None = None
        """The cancellation that ended it, if its span does not state an error."""
        self.ended: ForeignSpan | None = None
        """What it says at its end, until that is recorded."""
        self.inner: ToolRun | None = None
        """What the span of the same tool right within it says."""
        self.early: list[tuple[ProcessedRecord[CallRecord], Conversation | None]] = []
        """Of a chain: the calls that ended in it before it was a session."""
        self.waiting: list[ForeignRun] = []
        """Of a session: what ended in it before its first call."""
        self.tool_ends: LRUCache[str, int] = LRUCache(_MAX_TOOLS)
        """When the tools in it ended, by the ids of their tool calls."""

    @property
    def span(self) -> ReadableSpan:
        """Its span, which may state more while it is open, else what it said without content."""
        return (None if self._open is None else self._open()) or self._kept

    @property
    def name(self) -> str:
        """The name of its agent, workflow or tool, as far as its span says by now."""
        return run_name(self.span.attributes or _NO_ATTRIBUTES, self.span.name)

    def nearest(self, own: Node | None, newcomer: Node | None = None) -> Node | None:
        """Return the scope of code in this span: callspan's `own` current one, or what this stands for if within that.

        `newcomer` is a scope of callspan's own that starts here.
        """
        if self.has_ended and not self._has_begun(own):
            return self.own if self.above is None else self.above.nearest(self.own, newcomer)
        return self.within(own, newcomer)

    def within(self, own: Node | None, newcomer: Node | None = None) -> Node | None:
        """Return the scope of code that began before this span's end, see `nearest`."""
        if self._has_begun(own):
            return own
        if newcomer is not None and not self.nodes and self._is_within() and self._is_same_as(newcomer):
            self.is_nothing = True
            return self._around(newcomer)
        return self.scope()

    def _has_begun(self, own: Node | None) -> bool:
        """Return whether a scope of callspan's own began within this span."""
        return own is not None and own is not self.own and not is_within(self.own, own)

    def scope(self) -> Node | None:
        """Return the scope that it stands for, else the one around it; None if it is, or would be, no session."""
        nodes = self.nodes
        if (node := nodes.get("operation") or nodes.get("session")) is not None:
            return node
        if self.is_nothing:
            return self._around()
        self.role = _role(self.span) or self.role
        if self.above is not None and not self.above.nodes and self._is_tool_above():
            self.above.is_nothing = True
        around = self._around()
        if around is not None and self.role in _SESSIONS and self._is_of_another(around):
            self.is_apart, around = True, None
        if around is None:
            return self._session() if self._is_session() else None
        if self.role not in _RUNS or self._repeats(around):
            self.is_nothing = True
            return around
        return self._operation(around)

    def keeper(self) -> CallEnded | None:
        """Return what keeps a call of a chain in which no agent or tool has run yet."""
        return self._keep if self.role == "chain" and not self.has_ended else None

    def _keep(self, processed: ProcessedRecord[CallRecord], conversation: Conversation | None) -> None:
        if self.nodes:
            self._take(processed, conversation)
        elif len(self.early) < _MAX_EARLY and not processed.record.is_first_version:
            self.early.append((processed, conversation))

    def has_run(self) -> None:
        """Note that an agent or a tool runs in it. A chain is a session from now on, with the calls before."""
        self.has_runs = True
        if self.early and self.scope() is not None:
            while self.early:
                self._take(*self.early.pop(0))

    def _take(self, processed: ProcessedRecord[CallRecord], conversation: Conversation | None) -> None:
        """Write a newer version of a call that says in which session it is."""
        scope = self.scope()
        if scope is not None and scope.runtime is not None:
            placed = with_fields(processed, {"place": scope.place, "seen_ns": time.time_ns()})
            scope.runtime.write_unmeasured(placed)
            scope.call_ended(placed, conversation)

    def recorded(self) -> Node | None:
        """Return its scope if it is in a session that is recorded, else None."""
        outermost = self._outermost()
        return self.scope() if outermost is None or outermost.nodes else None

    def end(self, span: ReadableSpan) -> None:
        """Record its end; in a session without a call yet, once that has one."""
        outermost = self._outermost()
        if outermost is not None and outermost is not self and len(outermost.waiting) >= _MAX_WAITING:
            outermost.scope()  # an agent with so many tools is a session, also without a call
        self.ended, self.failure = foreign_span(span), self._cancelled_by()
        self._open, self._kept, self.has_ended = None, _outline(span), True
        if outermost is None or outermost.nodes:
            self.record()
        elif self is not outermost:
            outermost.waiting.append(self)
        else:
            self.waiting.clear()
            self.early.clear()
            self._forget_content()

    def is_lost(self, span: ref[ReadableSpan]) -> bool:
        """Return whether this is the run of a span that was collected before its end."""
        return self._open is span

    def _cancelled_by(self) -> ErrorInfo | None:
        """Return the cancellation that leaves its block as it ends; None if an exception or nothing does."""
        raised = sys.exc_info()[1]
        if raised is None or isinstance(raised, Exception) or id(raised) == self.handled:
            return None
        return application_error(raised)

    def _is_within(self) -> bool:
        return self.above is not None or self.own is not None

    def _around(self, newcomer: Node | None = None) -> Node | None:
        if self.is_apart:
            return None
        return self.own if self.above is None else self.above.within(self.own, newcomer)

    def _outermost(self) -> ForeignRun | None:
        """Return the run that is the session of this one; None in a session of callspan's own."""
        run = self
        while run.above is not None and not run.is_apart:
            run = run.above
        return run if run.is_apart or (run.own is None and self.own is None) else None

    def _is_of_another(self, around: Node) -> bool:
        """Return whether it states another user, tenant or service than the session around it."""
        outermost = self._outermost()
        known = _ownership_in(around) if outermost is None else _ownership_in(around).filled(outermost.ownership())
        return self.ownership().contradicts(known)

    def ownership(self) -> Ownership:
        """Return whom it serves, as far as its span and the code around its start say by now."""
        metadata, runtime = metadata_of(self.start_context), current_runtime()
        around = Ownership(label_of(metadata, USER), tenant_of(metadata), None if runtime is None else runtime.service)
        return around.filled(ownership_of(foreign_span(self.span)))

    def _tell_session(self) -> None:
        """Let the session have what this states of a user and a conversation that it did not know at its start."""
        scope = self.scope()
        session = None if scope is None else scope.session
        if session is None:
            return
        conversation = conversation_of(self.span.attributes or _NO_ATTRIBUTES)
        user = self.ownership().user if _ownership_in(session).user is None else None
        is_named = conversation is not None and session.is_automatic and CONVERSATION not in session.info
        if user is not None or is_named:
            session.update(user_id=user, metadata={CONVERSATION: conversation} if is_named else None)

    def record(self) -> None:
        """Record its end."""
        self._record()
        self._forget_content()

    def _forget_content(self) -> None:
        """Keep of the span only what says where later ones belong."""
        self.ended, self.start_context = None, Context()

    def _record(self) -> None:
        ended, above = self.ended, self.above
        if ended is None or self.is_nothing:
            return
        run = None
        if self.role == "tool":
            run = tool_run(ended)
            run = run._replace(error=run.error or self.failure)
        if run is not None and not self.nodes and self._is_tool_above() and above is not None and not above.nodes:
            above.inner = run
            return
        if (run is not None and self._was_recorded(run)) or self.scope() is None:
            return
        self._tell_session()
        for node in reversed(self.nodes.values()):
            if isinstance(node, _AdoptedTool) and run is not None:
                node.ran(run if self.inner is None else joined_runs(self.inner, run))
            elif isinstance(node, _AdoptedMixin):
                node.finish(duration_of(ended), error_of(ended) or self.failure)

    def _was_recorded(self, run: ToolRun) -> bool:
        """Return whether the tool is recorded by what a program tells, or by another span of its call at that time."""
        outermost = self
        while outermost.above is not None and not (outermost.tools_are_received or outermost.is_apart):
            outermost = outermost.above
        if outermost.tools_are_received or run.tool_call_id is None:
            return outermost.tools_are_received
        last_ns = outermost.tool_ends.get(run.tool_call_id) or 0
        outermost.tool_ends.put(run.tool_call_id, max(last_ns, run.start_ns + (run.duration_ns or 0)))
        return run.start_ns < last_ns

    def _is_session(self) -> bool:
        """Return whether it is a session if nothing is around it."""
        if self.has_ended:
            return False
        return self.role in ("agent", "workflow") or (self.role == "chain" and self.has_runs)

    def _is_same_as(self, own: Node) -> bool:
        """Return whether a scope of callspan's own, right around or within this, is the same tool or agent."""
        if not isinstance(own, Operation) or own.kind.name != self.role:
            return False
        if isinstance(own, Tool):
            tool_call_id = first_text(self.span.attributes or _NO_ATTRIBUTES, TOOL_CALL_ID)
            return is_same_tool(self.name, tool_call_id, own.name, own.requested_id)
        return own.name == self.name

    def _repeats(self, around: Node) -> bool:
        """Return whether the scope right around it stands for the same."""
        if around is self.own:
            # A hook's session has the name of its outermost agent.
            is_run = around.kind.name == "session" and around.is_automatic and around.name == self.name
            return is_run or self._is_same_as(around)
        above = self.above
        if above is None or self.role != "agent" or above.role != "agent" or above.name != self.name:
            return False
        return _instrumentation(above.span) != _instrumentation(self.span)

    def _is_tool_above(self) -> bool:
        """Return whether the run right around it is the same run of a tool."""
        above = self.above
        if above is None or self.role != "tool" or above.role != "tool" or above.own is not self.own:
            return False
        ids = [first_text(run.span.attributes or _NO_ATTRIBUTES, TOOL_CALL_ID) for run in (self, above)]
        return is_same_tool(self.name, ids[0], above.name, ids[1])

    def _session(self) -> Node | None:
        if current_runtime() is None:
            return None
        attributes, ownership = self.span.attributes or _NO_ATTRIBUTES, self.ownership()
        conversation = conversation_of(attributes) or _ambient_conversation(self.start_context)
        session_id = self._id() if conversation is None else session_of_conversation(conversation, ownership)
        metadata = None if conversation is None else {CONVERSATION: conversation}
        session = _AdoptedSession(
            Identity(name=self.name, session_id=session_id, user_id=ownership.user, metadata=metadata)
        )
        kept = self.nodes.setdefault("session", session)
        if kept is not session:  # another thread was faster
            return kept
        session.begin(self, None)
        # A conversation has many turns: each is a run of its agent.
        scope = session if conversation is None or self.role != "agent" else self._operation(session)
        while self.waiting:
            self.waiting.pop(0).record()
        return scope

    def _operation(self, around: Node) -> Node:
        node = (_AdoptedTool if self.role == "tool" else _AdoptedAgent)(self.name)
        node.id, node.place, node.counted_in = self._id(), around.place, around.counted_in
        kept = self.nodes.setdefault("operation", node)
        if kept is node:
            if isinstance(node, _AdoptedTool):
                node.read(tool_run(self.ended or foreign_span(self.span)))
            node.begin(self, around)
        return kept

    def _id(self) -> str:
        return id_of_span(foreign_span(self.span))


class AgentSpans(SpanProcessor):
    """Adopts the spans of agents, workflows and tools of any tracer provider, from their start on. Thread-safe.

    A span that is none, and is in none, costs next to nothing.
    """

    def __init__(self) -> None:
        self.is_on = False
        """Whether spans that start are adopted."""
        self._follows_global = False
        self._providers: WeakSet[TracerProvider] = WeakSet()
        self._ended: deque[int] = deque()
        """The ids of ended spans that are still known, for what starts below them later."""
        in_child(self, AgentSpans._forget)

    def watch(self, given: TracerProvider | None) -> None:
        """See the spans of the provider that was given from now on; of None: of the global one, whenever it is set."""
        self._follows_global = given is None
        if given is None:
            self.attach_global()
        else:
            self._attach(given)

    def attach_global(self) -> None:
        """See the spans of the global provider, unless another one was given."""
        if self.is_on and self._follows_global:
            self._attach(get_tracer_provider())

    def leave(self) -> None:
        """Leave the providers; with an agent open, at its end."""
        if not self.is_on and all(run.has_ended for run in list(FOREIGN_RUNS.values())):  # type: ignore[attr-defined]
            with _LEAVE:
                for provider in list(self._providers):
                    _detach(self, provider)
            self._providers.clear()
            self._forget()

    def _attach(self, provider: Any) -> None:
        with _ATTACH:
            add: Any = getattr(provider, "add_span_processor", None)
            if add is None or provider in self._providers:
                return
            self._providers.add(provider)
            inner = getattr(provider, names.SPAN_PROCESSOR.name, None)
            if not isinstance(inner, ConcurrentMultiSpanProcessor):  # other threads have another content level
                add(self)

    def place_of(self, span_id: int) -> Place | None:
        """Return where a span is in what was adopted and recorded; None if it is in nothing of that."""
        run: Any = FOREIGN_RUNS.get(span_id)
        scope = run.recorded() if isinstance(run, ForeignRun) else None
        return None if scope is None else scope.place

    def leave_tools_to_receiver(self) -> None:
        """Leave the tools of the agent that runs here to what its program tells, which is received."""
        run: Any = FOREIGN_RUNS.get(get_current_span().get_span_context().span_id)
        if isinstance(run, ForeignRun):
            run.tools_are_received = True

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Keep a span of an agent, and one within an agent."""
        # This runs for every span of the application: three calls of functions for one that is no agent's.
        try:
            above = None
            if FOREIGN_RUNS and (parent := span.parent) is not None:
                above = FOREIGN_RUNS.get(parent.span_id)
            if above is None:
                try:
                    attributes = _attributes_of(span)
                except AttributeError:
                    attributes = span.attributes or _NO_ATTRIBUTES
                if ROLE_ATTRIBUTES.isdisjoint(attributes):
                    name = span.name
                    if not (name.startswith(ROLE_NAMES) or (AGENT_WORD in name and says_later(_instrumentation(span)))):
                        return
                scope = span.instrumentation_scope
                if scope is not None and scope.name == _OWN:
                    return  # of all spans that may be an agent's, nearly each is a call of callspan's own
            self._begin(span, parent_context, above)
        except Exception as error:
            _START.report(error)

    def on_end(self, span: ReadableSpan) -> None:
        """Record the end of an agent or a tool."""
        if not FOREIGN_RUNS:
            return
        try:
            context = span.context
            if context is not None and (run := FOREIGN_RUNS.get(context.span_id)) is not None:
                self._finish(context.span_id, run, span)
        except Exception as error:
            _END.report(error)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: nothing waits here."""
        # In the oldest supported version the base class returns None, which the provider takes for a failure.
        del timeout_millis
        return True

    def _begin(self, span: Span, parent_context: Context | None, above: Any) -> None:
        span_id = span.context.span_id
        if (told := FOREIGN_RUNS.get(span_id)) is not None and told.span is span:  # type: ignore[attr-defined]
            return
        context = get_current() if parent_context is None else parent_context
        role = _role(span) if self.is_on else None
        while above is not None and above.has_ended:
            above = above.above
        run: ForeignRun | None = above
        if role is not None and above is not None:
            above.has_run()
        if role is not None and (above is None or role in _RUNS):
            run = ForeignRun(span, above, context, role)
        if run is not None:
            FOREIGN_RUNS[span_id] = run
            if len(FOREIGN_RUNS) > _MAX_SPANS:
                FOREIGN_RUNS.pop(next(iter(FOREIGN_RUNS)), None)

    def _finish(self, span_id: int, run: Any, span: ReadableSpan) -> None:
        self._ended.append(span_id)
        if len(self._ended) > _MAX_ENDED:
            FOREIGN_RUNS.pop(self._ended.popleft(), None)
        if run.span.context.span_id != span_id and (role := _role(span)) in _RUNS:
            # It says so only now: what ran in it is in what is around it.
            run = ForeignRun(span, run, get_current(), role)
        if run.span.context.span_id == span_id and not run.has_ended:
            run.end(span)
        if not self.is_on:
            self.leave()

    def _forget(self) -> None:
        FOREIGN_RUNS.clear()
        self._ended.clear()


AGENT_SPANS: Final = AgentSpans()


def _detach(processor: SpanProcessor, provider: TracerProvider) -> None:
    """Take a processor from a provider. OpenTelemetry has no public way."""
    inner: Any = getattr(provider, names.SPAN_PROCESSOR.name, None)
    processors: tuple[SpanProcessor, ...] | None = getattr(inner, names.PROCESSORS.name, None)
    if processors and processor in processors:
        with getattr(inner, names.PROCESSORS_LOCK.name):
            others = tuple(other for other in getattr(inner, names.PROCESSORS.name) if other is not processor)
            setattr(inner, names.PROCESSORS.name, others)


def _forget_lost(span_id: int, span: ref[ReadableSpan]) -> None:
    """Forget a span that was collected before its end."""
    run = FOREIGN_RUNS.get(span_id)
    if isinstance(run, ForeignRun) and run.is_lost(span):
        FOREIGN_RUNS.pop(span_id, None)


def _outline(span: ReadableSpan) -> ReadableSpan:
    """Return a span with only what says where it belongs, and no content."""
    attributes = span.attributes or _NO_ATTRIBUTES
    return ReadableSpan(
        span.name, span.context, span.parent, span.resource,
        attributes={name: attributes[name] for name in ABOUT_RUNS if name in attributes},  # type: ignore[misc]
        start_time=span.start_time, end_time=span.end_time, instrumentation_scope=span.instrumentation_scope,
    )  # fmt: skip


def _outside(context: Context) -> Context:
    """Return a context without what is around its code."""
    return set_value(SCOPE, None, set_span_in_context(INVALID_SPAN, context))


def _ownership_in(scope: Node) -> Ownership:
    """Return whom the session of a scope serves, as far as it says so."""
    session, service = scope.session, None if scope.runtime is None else scope.runtime.service
    if session is None:
        return Ownership(service=service)
    user = session.identity.user_id or label_of(session.info, USER)
    return Ownership(user, tenant_of(session.info), service)


def _role(span: ReadableSpan) -> Role | None:
    """Return what a span is of an agent's work, as far as it says by now; None for other spans, and callspan's own."""
    scope = _instrumentation(span)
    return None if scope == _OWN else role_of(span.attributes or _NO_ATTRIBUTES, scope, span.name)


def _instrumentation(span: ReadableSpan) -> str | None:
    scope = span.instrumentation_scope
    return None if scope is None else scope.name


def _ambient_conversation(context: Context) -> str | None:
    """Return the conversation that OpenTelemetry's GenAI utilities have in the context, before their span states it."""
    key = getattr(sys.modules.get(_UTIL), names.CONVERSATION_ID_KEY.name, None)
    conversation = None if key is None else context.get(key)
    return conversation if isinstance(conversation, str) and conversation else None
