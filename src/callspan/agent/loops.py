"""Tool loops of the SDKs: a loop is an agent, its calls are found by their scope, and its tools in what they carry.

The arguments of a tool are in the response of one call and its result is in the request of a later one, joined by the
tool call's id. Hooks around the run of a tool add its start, duration and error, and the result if it is never sent.
"""

from __future__ import annotations

import re
import time
from asyncio import CancelledError
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec
from opentelemetry.context import Context, get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from callspan.agent.arguments import as_text
from callspan.agent.context import metadata_of
from callspan.agent.operations import TOOL_ERROR, Agent, Tool
from callspan.agent.runtime import Runtime, installed
from callspan.agent.scope import CallEnded, is_within, leave, scope_of
from callspan.agent.tool_requests import parsed
from callspan.errors import application_error
from callspan.fail_open import fail_open, value_of
from callspan.private_names import DECISION_RUN
from callspan.process.processed import Processed
from callspan.providers.hosted_tools import is_of_application
from callspan.record.call import CallRecord, ErrorInfo
from callspan.record.events import EventRecord, Record
from callspan.record.messages import (
    CONTENT_FILTER,
    LENGTH,
    Conversation,
    Message,
    ToolCall,
    ToolResult,
    normalised,
    tool_name,
)
from callspan.semconv.table import output_type, output_type_of_text
from callspan.settings import Content, strictest

LOOPS: Final[WeakValueDictionary[int, Loop]] = WeakValueDictionary()
"""The loop of each runner that runs, by the runner's `id()`."""
_FINISH: Final = fail_open("end the tools of a loop")
_CUT: Final = frozenset({LENGTH, CONTENT_FILTER})
"""Finish reasons with which a turn is the last one, although it requests a tool."""
_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_RAISED: Final = {"max_steps": "step_limit", "cancelled": "cancelled"}
"""What the error of a runner says where it is no failure."""
_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000


def snake_case(name: str) -> str:
    """Return the name of a class as words: `ResponsesToolRunner` is `responses_tool_runner`."""
    return _CAPITAL.sub("_", name).lower()


class Loop(Agent):
    """One run of a tool loop of an SDK: an agent of its own, or that of the block which holds it alone.

    In the latter case it has no span and no row, and the block has what is known of the loop.
    """

    __slots__ = (
        "_asked", "_block", "_has_final_turn", "_holder", "_is_closed", "_module", "_runner_id", "_stopped", "_tools"
    )  # fmt: skip

    def __init__(self, runner: object) -> None:
        super().__init__(snake_case(type(runner).__name__))
        self._block: Agent | None = None
        self._holder: Agent | None = None
        """The block directly around it, also if that holds other loops."""
        self._tools: dict[str, LoopTool] = {}
        """Tools that were requested or run, and whose result has not been sent."""
        self._has_final_turn = self._is_closed = False
        self._asked: str | None = None
        """The id of its last call."""
        self._stopped: str | None = None
        """Why it stops, as far as its diagnostics say."""
        self._runner_id, self._module = id(runner), type(runner).__module__

    def ran(self, tool_call_id: str, name: str | None, given: object, **facts: object) -> LoopTool:
        """Start the run of a tool, current for the running code; `halt` ends it.

        `given` are its arguments if the call that has requested it does not end before the loop.
        """
        tool = self._tools.get(tool_call_id)
        if tool is not None and tool.state != "new":
            tool.abandon(None)  # its id is used again: what it returned is all that will be known of it
            tool = None
        if tool is None:
            tool = self._tools[tool_call_id] = LoopTool(self, tool_call_id, name)
        tool.given = given
        tool.facts.update(facts)
        tool.start()
        return tool

    def diagnosed(self, diagnostic: Mapping[str, Any]) -> None:
        """Take a diagnostic of a runner of openai: the time of a tool that is not hooked, a refusal, the step limit."""
        stage, reason, call_id = diagnostic["stage"], diagnostic["reason"], diagnostic["call_id"]
        if stage == "action" and call_id is not None:
            self._acted(diagnostic, call_id)
        elif stage == "request":
            self._stopped = None
        elif reason in {"refused", "step_limit"}:
            self._stopped = reason

    def _acted(self, diagnostic: Mapping[str, Any], call_id: str) -> None:
        is_candidate = diagnostic["api"] == "decisions"
        key = f"{self._asked}:{call_id}" if is_candidate else call_id
        tool = LoopTool(self, key, call_id) if is_candidate else self._tools.get(key)
        if tool is None or tool.state != "new":
            return
        tool.lasted(int(diagnostic["duration_ms"] * _NS_PER_MS), failed=diagnostic["reason"] != "completed")
        if is_candidate:
            tool.end()

    def exchanged(self, wire: Conversation, record: CallRecord) -> None:
        """Take what a call of this loop has sent and received."""
        self._asked = record.call_id
        self._answered(wire.input)
        requested = list(_tool_calls(wire.output))
        for call in requested:
            tool = self._tools.get(str(call.id))
            if tool is None:
                tool = self._tools[str(call.id)] = LoopTool(self, str(call.id), call.name)
            if not tool.is_requested:  # else another call of this answer has its id
                tool.requested(call, wire.tools, record)
        reasons = {normalised(message.finish_reason or "") for message in wire.output}
        self._has_final_turn = record.outcome == "success" and (not requested or not reasons.isdisjoint(_CUT))

    def _answered(self, sent: list[Message]) -> None:
        """End the tools whose results were sent."""
        for message in reversed(sent):
            if not self._tools:
                return
            for part in message.parts:
                tool = self._tools.get(str(part.id)) if isinstance(part, ToolResult) else None
                # One that was not requested before runs while the answer to this request still streams.
                if isinstance(part, ToolResult) and tool is not None and tool.is_requested:
                    del self._tools[str(part.id)]
                    tool.answer(part.content, failed=part.is_error is True)

    def _takes_calls(self) -> CallEnded:
        return LoopCalls(self)

    def _call_ended(self, processed: Processed[CallRecord], conversation: Conversation | None = None) -> None:
        super()._call_ended(processed, conversation)
        record, agent = processed.record, self._block or self
        if record.outcome != "started" and "provider" not in agent._facts:
            params = record.request.params
            kind = output_type(params.get("output_format")) or output_type_of_text(params.get("output_config"))
            agent._facts |= {
                "provider": record.provider, "model": record.request.model, "output_type": kind,
            }  # fmt: skip

    def _open(self, current: Context) -> Context:
        around = scope_of(current)
        self._holder = around if type(around) is Agent and around.state == "running" else None
        if self._holder is not None and not self._holder._has_loop:
            self._holder._has_loop, self._block, self.name = True, self._holder, self._holder.name or self.name
        else:
            self.name = as_text(metadata_of(current).get("agent")) or self.name
        running = LOOPS.get(self._runner_id)
        if running is None or running.state != "running":  # else it is refused: the runner is busy
            LOOPS[self._runner_id] = self
        return super()._open(current)

    def _announce(self, runtime: Runtime, base: Context) -> None:
        if self._block is None:
            super()._announce(runtime, base)
        else:
            self._metadata = metadata_of(base)

    def stopped(self) -> None:
        """Note that its runner is closed, also by its own tool or by another task: it ends with its next step."""
        self._is_closed = True

    def _closed(self, error: BaseException | None) -> None:
        """End, as its iterator is closed: perhaps by the garbage collector, where no span may be ended."""
        del error  # runners raise at the end of an event loop, which closes what they close too
        if not self._ended and self._started:
            self._lasted_ns, self._ended, self._is_closed = self._elapsed_ns(), True, True
            self._finish_later(None)

    def _close(self, error: BaseException | None) -> Processed[Record] | None:
        with _FINISH:
            if error is not None and not isinstance(error, Exception | CancelledError):
                self._interrupted(error)
            for tool in list(self._tools.values()):
                tool.abandon(error)
            self._tools.clear()
        outcome = self._outcome(error)
        for agent in (self, self._block, self._holder):
            if agent is not None:
                agent._facts["outcome"] = outcome
        # What outlives its block has a row of its own, which says how it ended.
        return super()._close(error) if self._block is None or self._block.state == "ended" else None

    def _interrupted(self, error: BaseException) -> None:
        """Record the candidate of a decision that an exception has interrupted of which the runner says nothing."""
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals.get("__name__") != self._module:
            trace = trace.tb_next
        found: dict[str, Any] = {} if trace is None else trace.tb_frame.f_locals
        run = found.get(DECISION_RUN)
        for candidate in getattr(run, "attempted", ())[len(getattr(run, "completed", ())) :]:
            tool = LoopTool(self, f"{self._asked}:{candidate}", candidate)
            tool.lasted(int((time.monotonic() - found["started"]) * _NS_PER_S), failed=False)
            tool.end(error)

    def _outcome(self, error: BaseException | None) -> str | None:
        """Return how it ended; None where its last calls were not seen, as in a suppressed block."""
        if self._stopped is not None:
            return self._stopped
        if error is not None:
            return self._raised(error) if isinstance(error, Exception) else "cancelled"
        if self._has_final_turn:
            return "success"
        if self._is_closed:
            return "cancelled"
        was_observed = self._asked is not None and installed() is self._runtime and is_instrumentation_enabled()
        return "step_limit" if was_observed else None

    def _raised(self, error: Exception) -> str:
        """Return what an exception says of the end: a runner has words of its own where it is no failure."""
        text = (value_of(partial(str, error)) or "") if self._module in _modules(error) else ""
        return next((outcome for word, outcome in _RAISED.items() if word in text), "error")


class LoopCalls:
    """Takes the calls of a loop as they end."""

    __slots__ = ("_loop", "exchanged")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.exchanged = loop.exchanged
        """Takes what a call has sent and received, as the wire has it, and its record."""

    def __call__(self, processed: Processed[CallRecord], conversation: Conversation | None) -> None:
        """Take an ended call and its messages."""
        self._loop._call_ended(processed, conversation)


class LoopTool(Tool):
    """One run of a tool of a loop. It is recorded once its result is known: sent, or never to be."""

    __slots__ = (
        "_error",
        "_has_run",
        "_is_unseen",
        "_loop",
        "_of_level",
        "_requested_ns",
        "_returned_value",
        "facts",
        "given",
    )

    def __init__(self, loop: Loop, tool_call_id: str, name: str | None) -> None:
        super().__init__(name, tool_call_id)
        self._loop = loop
        self._of_level: Content = "full"
        self._requested_ns: int | None = None
        self._has_run = self._is_unseen = False
        self._returned_value: object = msgspec.UNSET
        self._error: ErrorInfo | None = None
        self.given: object = None
        self.facts: dict[str, object] = {}
        """What its metadata have beside those around it; None: not known."""

    @property
    def is_requested(self) -> bool:
        """Whether the answer that requests it has ended."""
        return self._requested_ns is not None

    def requested(self, call: ToolCall, tools: list[object], record: CallRecord) -> None:
        """Add what the response says that requests it, and the definition of the tool in the request."""
        self._input, self._of_level = call.arguments, record.content_level
        self.name = call.name or self.name
        if self.state == "running":
            self._read_arguments()
            self._level = strictest(self._level, record.content_level)
        self._requested_ns = record.timing.start_ns + (record.timing.duration_ns or 0)
        defined = next((one for one in tools if isinstance(one, dict) and tool_name(one) == call.name), {})
        inner = defined.get("function", defined)
        self.facts |= {
            "description": inner.get("description") if isinstance(inner, dict) else None,
            "provider": record.provider,
            "toolset": (call.extra or {}).get("toolset_name"),
        }

    def halt(self, error: BaseException | None, value: object, *, failed: bool = False) -> None:
        """End the run, but not the record; `value` is the result if none is sent."""
        if self._has_run or self.state != "running":
            return
        self._lasted_ns, self._has_run = time.perf_counter_ns() - self._clock_ns, True
        current = scope_of(get_current())
        if current is not self and is_within(current, self):
            self._end_inner(current, error)
        if self._outer is not None:
            leave(self, self._outer)
        self._counted = True
        self._count(self._lasted_ns)
        self._returned_value, self._error = value, application_error(error) or (TOOL_ERROR if failed else None)

    def lasted(self, duration_ns: int, *, failed: bool) -> None:
        """Record that it has just run."""
        self.start(current=False, at=time.time_ns() - duration_ns)
        self._lasted_ns, self._has_run, self._counted = duration_ns, True, True
        self._count(duration_ns)
        self._error = TOOL_ERROR if failed else None

    def answer(self, content: object, *, failed: bool) -> None:
        """End it with the result that was sent."""
        if self.state == "new":
            self._is_unseen = True
            self.start(current=False, at=self._requested_ns)
        self.result = content
        self._error = self._error or (TOOL_ERROR if failed else None)
        self.end()

    def abandon(self, error: BaseException | None) -> None:
        """End it with its loop: it has run and its result was not sent, or it runs, or it was only requested."""
        if self._returned_value is not msgspec.UNSET:
            self.result = self._returned_value
        if self._input is None:
            self._input = self.given
            self._read_arguments()
        self.end(None if self._has_run else error)

    def _open(self, current: Context) -> Context:
        loop, around = self._loop, scope_of(current)
        if not is_within(around, loop):
            around, current = loop, loop._inner or current
        self._above = around
        self._runtime, self._place = loop._runtime, loop._place
        return current

    def _read_arguments(self) -> None:
        with fail_open("read the arguments of a tool"):
            self._input = parsed(self._input)

    def _own_level(self) -> Content:
        return strictest(super()._own_level(), self._of_level)

    def _elapsed_ns(self) -> int:
        return 0 if self._is_unseen else super()._elapsed_ns()

    def _record(self, error: BaseException | None, duration_ns: int | None) -> EventRecord:
        return super()._record(error, None if self._is_unseen else duration_ns)

    def _failure(self, error: BaseException | None) -> ErrorInfo | None:
        return self._error or super()._failure(error)

    def _own_metadata(self) -> dict[str, object]:
        if self.state == "new":
            kind = self.facts.get("tool_type")
            return {**self._metadata} if kind is None else {**self._metadata, "tool_type": kind}
        hidden = () if self._content_level == "full" else ("description",)
        facts = {name: value for name, value in self.facts.items() if value is not None and name not in hidden}
        return {**self._metadata, **facts}


def running_loop(runner: object) -> Loop | None:
    """Return the loop that a runner runs; None: none, or none that is recorded."""
    loop = LOOPS.get(id(runner))
    return loop if loop is not None and loop.state == "running" else None


def _modules(error: Exception) -> set[str]:
    return {kind.__module__ for kind in type(error).__mro__}


def _tool_calls(output: list[Message]) -> Iterator[ToolCall]:
    for message in output:
        for part in message.parts:
            if isinstance(part, ToolCall) and part.id is not None and is_of_application(part.tool_type, part.extra):
                yield part
