"""The attributes of the agent's hierarchy: sessions, timesteps, tools, events, messages, rewards.

The conventions' names where they have one, `callspan.*` where they have none. Pure: records in, attributes out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from callspan.record.call import ErrorInfo
from callspan.record.events import (
    AGENT_START,
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Totals,
)
from callspan.record.messages import Conversation
from callspan.record.metadata import METADATA_FIELDS
from callspan.semconv.budgets import Attributes, AttributeValue, ByteBudget, put_json, put_text
from callspan.semconv.call import CONVERSATION_ID, EXCEPTION_TYPE, SESSION_ID, STEP_INDEX
from callspan.semconv.content_parts import Shown
from callspan.semconv.llm import META
from callspan.semconv.table import (
    BOOLEAN,
    DOUBLE,
    INT,
    JSON,
    STRING,
    STRINGS,
    Constant,
    Each,
    Elsewhere,
    From,
    Put,
    Row,
    Source,
    Table,
)

EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
_SPAN_KIND: Final = "openinference.span.kind"
EVALUATOR: Final[Attributes] = {_SPAN_KIND: "EVALUATOR"}
"""What OpenInference calls the span of a reward that stands for itself."""
_ENVIRONMENT: Final = "environment"
_NS: Final = 1e9


def _scalar(value: object) -> AttributeValue | None:
    return value if isinstance(value, str | bool | int | float) else None


def _metadata(field: str) -> Source:
    return From("metadata", lambda metadata: _scalar(metadata.get(field)))


def _text(name: str, path: str, about: str) -> Row:
    """A row for a text of the application, which may be empty."""
    return Row(name, STRING, path, about, if_empty=True)


def _kind(kind: str) -> Row:
    return Row(_SPAN_KIND, STRING, Constant(kind), "What Phoenix shows the span as.", compatibility=True)


def _operation(name: str) -> Row:
    return Row("gen_ai.operation.name", STRING, Constant(name), f"`{name}`.")


def _seconds(totals: Totals) -> tuple[float, float]:
    return totals.model_ns / _NS, totals.tool_ns / _NS


def _rest_s(record: TimestepRecord) -> float | None:
    """What a step took besides its calls and tools; None where it had none. Work side by side leaves no rest."""
    totals, start_ns, end_ns = record.totals, record.start_ns, record.end_ns
    if totals is None or start_ns is None or end_ns is None or not totals.model_ns + totals.tool_ns:
        return None
    return max(0, end_ns - start_ns - totals.model_ns - totals.tool_ns) / _NS


def _end_of_episode(record: EventRecord) -> str:
    if record.terminated or record.truncated:
        return "terminated" if record.terminated else "truncated"
    return "continue"


def _json(name: str, about: str, read: Callable[[Any], object]) -> Row:
    """A row for content as JSON within the budget."""
    return Row(
        name, JSON, Put(lambda found, record, shown: put_json(found, name, read(record), shown.budget)), about
    )  # fmt: skip


def _put_annotation(attributes: Attributes, record: RewardRecord, shown: Shown) -> None:
    if record.annotation is not None:
        put_text(attributes, "gen_ai.evaluation.explanation", record.annotation, shown.budget)


def _put_metadata(attributes: Attributes, record: SessionRecord | TimestepRecord, shown: Shown) -> None:
    if record.metadata:
        put_json(attributes, "callspan.metadata", record.metadata, shown.budget)


def _put_event_data(attributes: Attributes, record: EventRecord, shown: Shown) -> None:
    if record.data is not None:
        put_json(attributes, "callspan.event.data", record.data, shown.budget)


def _put_states(attributes: Attributes, record: EventRecord, shown: Shown) -> None:
    if not isinstance(record.data, dict):
        _put_event_data(attributes, record, shown)
        return
    for name, value in record.data.items():
        put_json(attributes, _STATES.get(name, f"callspan.{name}"), value, shown.budget)


def _put_input_and_output(attributes: Attributes, record: EventRecord, shown: Shown) -> None:
    if isinstance(record.data, dict):
        for name, value in record.data.items():
            put_json(attributes, f"callspan.{name}", value, shown.budget)


def _put_arguments_and_result(attributes: Attributes, record: EventRecord, shown: Shown) -> None:
    if isinstance(record.data, dict):
        for name, value in record.data.items():
            put_json(attributes, f"gen_ai.tool.call.{name}", value, shown.budget)


_STATES: Final = {"after": "callspan.observation", "before": "callspan.observation.before"}
_SECONDS: Final = Each("totals", _seconds)
_OF_STATES: Final = Put(_put_states)
_OF_INPUT_AND_OUTPUT: Final = Put(_put_input_and_output)
_OF_ARGUMENTS_AND_RESULT: Final = Put(_put_arguments_and_result)

_SESSION: Final = (
    _text(SESSION_ID, "session_id", "The session it belongs to."),
    _text(CONVERSATION_ID, "session_id", "The same, by the conventions' name."),
)
_WITHIN: Final = (
    *_SESSION,
    _text("callspan.step.id", "timestep_id", "The timestep it belongs to."),
    Row(STEP_INDEX, INT, "timestep", "Index of that timestep within its session, from 0."),
)
_ERROR: Final = _text("error.type", "error.type", "The exception's class, or what the application says.")
_TERMINATED: Final = (
    Row("callspan.terminated", BOOLEAN, "terminated", "Whether the episode has come to its end, as in Gymnasium."),
    Row("callspan.truncated", BOOLEAN, "truncated", "Whether the episode was cut off, as in Gymnasium."),
)
_REWARD: Final = Row("callspan.reward", DOUBLE, "reward", "The reward of the environment.")
_TOTALS: Final = (
    Row("callspan.reward", DOUBLE, "totals.reward", "Sum of all rewards."),
    Row("callspan.totals.timesteps", INT, "totals.timesteps", "Timesteps.", if_true=True),
    Row("callspan.totals.calls", INT, "totals.calls", "Calls.", if_true=True),
    Row("callspan.totals.errors", INT, "totals.errors", "Calls that failed.", if_true=True),
    Row("callspan.totals.tools", INT, "totals.tools", "Runs of tools.", if_true=True),
    Row("callspan.totals.input_tokens", INT, "totals.input_tokens", "Input tokens of all calls."),
    Row("callspan.totals.output_tokens", INT, "totals.output_tokens", "Output tokens of all calls."),
    Row("callspan.totals.model_s", DOUBLE, _SECONDS, "Seconds of all calls, one after the other.", if_true=True),
    Row("callspan.totals.tool_s", DOUBLE, _SECONDS, "Seconds of all tools, one after the other.", if_true=True),
)

SESSION_START: Final = Table(
    _operation("invoke_workflow"),
    _text("gen_ai.workflow.name", "name", "Name of the session."),
    *_SESSION,
    _text("user.id", "user_id", "As `callspan.session(user_id=...)` has it."),
    _text("callspan.group.id", "group_id", "As `callspan.session(group_id=...)` has it."),
    _text("callspan.task.id", "task_id", "As `callspan.session(task_id=...)` has it."),
    _text("callspan.experiment", "experiment", "As `callspan.session(experiment=...)` has it."),
    _text("callspan.session.parent.id", "parent_session_id", "The session around it."),
    _kind("CHAIN"),
)
TIMESTEP_START: Final = Table(
    *_SESSION,
    _text("callspan.step.id", "timestep_id", "Its id."),
    Row(STEP_INDEX, INT, "index", "Its index within the session, from 0."),
    _text("callspan.step.name", "name", "Its name."),
    Row("callspan.step.turn", INT, "turn", "The number the application gives it."),
    _text("callspan.step.parent.id", "parent_timestep_id", "The timestep around it."),
    _kind("CHAIN"),
)
ENVIRONMENT_START: Final = Table(*_WITHIN, _kind("CHAIN"))
TOOL_START: Final = Table(
    _operation("execute_tool"),
    _text("gen_ai.tool.name", "name", "Name of the tool."),
    Row("gen_ai.tool.type", STRING, Constant("function"), "`function`."),
    _text("gen_ai.tool.call.id", "tool_call_id", "The tool call of the model that it answers."),
    _text("gen_ai.agent.name", "system", "The agent that runs it."),
    *_WITHIN,
    _kind("TOOL"),
)
INVOKED_AGENT_START: Final = Table(
    _operation("invoke_agent"),
    _text("gen_ai.agent.name", "name", "Name of the agent."),
    Row("gen_ai.agent.description", STRING, _metadata("description"), "What it is for.", if_empty=True),
    *_WITHIN,
    _kind("AGENT"),
)
GUARDRAIL_START: Final = Table(
    _text("callspan.guardrail.name", "name", "Name of the guardrail."),
    _text("gen_ai.agent.name", "system", "The agent it guards."),
    *_WITHIN,
    _kind("GUARDRAIL"),
)
HANDOFF_START: Final = Table(
    _text("callspan.handoff.from", "system", "The agent that hands over."),
    _text("callspan.handoff.to", "name", "The agent that takes over."),
    _text("gen_ai.tool.call.id", "tool_call_id", "The tool call of the model that requested it."),
    *_WITHIN,
    _kind("CHAIN"),
)

SESSION_END: Final = Table(
    _text("callspan.outcome", "outcome", "How it ended."),
    Row("callspan.success", BOOLEAN, "success", "Whether it succeeded, as the application says."),
    *_TOTALS,
    _ERROR,
)
TIMESTEP_END: Final = Table(
    _text("callspan.outcome", "outcome", "How it ended."),
    *_TERMINATED,
    *_TOTALS,
    Row("callspan.totals.rest_s", DOUBLE, _rest_s, "Seconds besides those of its calls and tools."),
    _ERROR,
)
ENVIRONMENT_END: Final = Table(_REWARD, *_TERMINATED, _ERROR)
GUARDRAIL_END: Final = Table(
    Row("callspan.guardrail.triggered", BOOLEAN, _metadata("triggered"), "Whether it was triggered."), _ERROR
)
OPERATION_END: Final = Table(_ERROR)

SESSION_CONTENT: Final = Table(
    Row("callspan.metadata", JSON, Put(_put_metadata), "`metadata` of the session or timestep.")
)
TOOL_CONTENT: Final = Table(
    Row("gen_ai.tool.call.arguments", JSON, _OF_ARGUMENTS_AND_RESULT, "The arguments."),
    Row("gen_ai.tool.call.result", JSON, _OF_ARGUMENTS_AND_RESULT, "The result."),
)
OPERATION_CONTENT: Final = Table(
    Row("callspan.input", JSON, _OF_INPUT_AND_OUTPUT, "What went in."),
    Row("callspan.output", JSON, _OF_INPUT_AND_OUTPUT, "What came out."),
)
ENVIRONMENT_CONTENT: Final = Table(
    Row("callspan.observation", JSON, _OF_STATES, "What the environment shows after the action."),
    Row("callspan.observation.before", JSON, _OF_STATES, "What it showed before."),
    Row("callspan.info", JSON, _OF_STATES, "Its `info`, as in Gymnasium."),
)

EVENT: Final = Table(
    _text("callspan.event.id", "event_id", "Its id."),
    _text("callspan.event.name", "name", "Its name."),
    Row("callspan.event.sequence", INT, "sequence", "Its number within the session."),
    _text("callspan.system", "system", "Who says so."),
    _text("callspan.call_id", "call_id", "The call it belongs to."),
    _REWARD,
    *_TERMINATED,
    Row("callspan.flags", STRINGS, From("flags", tuple), "What is wrong with it, by our words."),
    _ERROR,
)
MESSAGE: Final = Table(
    _text("callspan.message.id", "message_id", "Its id."),
    _text("callspan.message.type", "message_type", "Its type."),
    _text("callspan.message.sender", "sender", "Who sent it."),
    _text("callspan.message.receiver", "receiver", "Who got it."),
    Row("callspan.message.sequence", INT, "sequence", "Its number within the session."),
    Row(
        "callspan.message.causal_influence", STRINGS, From("causal_influence", tuple),
        "Ids of the messages that led to it.",
    ),
    _text("callspan.call_id", "call_id", "The call it belongs to."),
    Row("callspan.flags", STRINGS, From("flags", tuple), "What is wrong with it, by our words."),
)  # fmt: skip
REWARD: Final = Table(
    _text("gen_ai.evaluation.name", "objective", "What is judged; `reward` unless the application says otherwise."),
    Row("gen_ai.evaluation.score.value", DOUBLE, "value", "The reward."),
    _text("gen_ai.evaluation.score.label", "label", "The judgement as a word."),
    _text("callspan.reward.id", "reward_id", "Its id."),
    _text("callspan.reward.scope", "scope", "`event`, `session` or `call`: what is judged."),
    _text("callspan.reward.source", "source", "Who judges."),
    _text("callspan.event.id", "event_id", "The event that is judged."),
    _text("callspan.call_id", "call_id", "The call that is judged."),
)
EVALUATION: Final = Table(
    Row("gen_ai.evaluation.name", STRING, Constant("reward"), "`reward`."),
    Row("gen_ai.evaluation.score.value", DOUBLE, "reward", "The reward of the environment."),
    Row("gen_ai.evaluation.score.label", STRING, _end_of_episode, "`terminated`, `truncated` or `continue`."),
)
"""The conventions' event of an environment's reward."""
EVALUATION_SPAN: Final = Table(*_WITHIN)
"""What is judged, on the span of a reward that stands for itself."""

MESSAGE_CONTENT: Final = Table(_json("callspan.message.content", "What it says.", lambda record: record.content))
ACTION_CONTENT: Final = Table(_json("callspan.action", "The action.", lambda record: record.data))
EVENT_CONTENT: Final = Table(Row("callspan.event.data", JSON, Put(_put_event_data), "Its data."))
REWARD_CONTENT: Final = Table(
    Row("gen_ai.evaluation.explanation", STRING, Put(_put_annotation), "Why, in the judge's words.")
)
EXCEPTION: Final = Table(
    *EXCEPTION_TYPE.rows,
    Row("exception.message", STRING, "message", "Its message.", content=True, if_empty=True),
    Row(EXCEPTION_STACKTRACE, STRING, Elsewhere("the exception"), "Its last frames, without the message."),
)


class _Spans(NamedTuple):
    """The tables of the spans of a kind of record."""

    verb: str
    start: Table
    plain_start: Table
    end: Table
    content: Table


def _spans(verb: str, start: Table, end: Table, content: Table) -> _Spans:
    return _Spans(verb, start, start.without_compatibility(), end, content)


_OF_SESSIONS: Final = _spans("invoke_workflow", SESSION_START, SESSION_END, SESSION_CONTENT)
_OF_TIMESTEPS: Final = _spans("timestep", TIMESTEP_START, TIMESTEP_END, SESSION_CONTENT)
_OF_TOOLS: Final = _spans("execute_tool", TOOL_START, OPERATION_END, TOOL_CONTENT)
_OF_AGENTS: Final = _spans("invoke_agent", INVOKED_AGENT_START, OPERATION_END, OPERATION_CONTENT)
_OF_EVENTS: Final = {
    _ENVIRONMENT: _spans("environment", ENVIRONMENT_START, ENVIRONMENT_END, ENVIRONMENT_CONTENT),
    "agent": _OF_AGENTS,
    AGENT_START: _OF_AGENTS,
    "guardrail": _spans("guardrail", GUARDRAIL_START, GUARDRAIL_END, OPERATION_CONTENT),
    "handoff": _spans("handoff", HANDOFF_START, OPERATION_END, OPERATION_CONTENT),
}
_EVENT_CONTENTS: Final = {_ENVIRONMENT: ENVIRONMENT_CONTENT, "action": ACTION_CONTENT}


def _spans_of(record: Record) -> _Spans | None:
    match record:
        case SessionRecord():
            return _OF_SESSIONS
        case TimestepRecord():
            return _OF_TIMESTEPS
        case EventRecord():
            return _OF_EVENTS.get(record.event_type, _OF_TOOLS)
    return None


def span_name(record: Record) -> str:
    """Return the name of a session's, timestep's or tool's span; low in cardinality."""
    of = _spans_of(record)
    if of is None:
        return "timestep"
    if isinstance(record, SessionRecord | EventRecord) and record.name and of.verb != _ENVIRONMENT:
        return f"{of.verb} {record.name}"
    return of.verb


def start_attributes(record: Record, *, compatibility: bool, llm: bool = True) -> Attributes:
    """Return what is known of a session, timestep or tool at its start, for samplers; no content.

    With `llm` also what `callspan.metadata` says around it, as `llm.meta.*`.
    """
    of = _spans_of(record)
    if of is None:
        return {}
    attributes = (of.start if compatibility else of.plain_start).of(record)
    if llm and record.metadata:
        known = {key: _scalar(value) for key, value in record.metadata.items() if key in METADATA_FIELDS}
        attributes |= {META + key: value for key, value in known.items() if value is not None}
    return attributes


def end_attributes(record: Record) -> Attributes:
    """Return what is known of a session, timestep or tool only at its end; no content."""
    of = _spans_of(record)
    return {} if of is None else of.end.of(record)


def span_content(record: Record, budget: ByteBudget) -> Attributes:
    """Return the content of a session, timestep, tool or step of the environment, as JSON.

    Metadata of the first two, arguments and result of a tool, observations of an environment, input and output of
    an agent, a guardrail or a handoff.
    """
    of = _spans_of(record)
    return {} if of is None else of.content.of(record, Shown(None, budget))


def event_name(record: Record) -> str:
    """Return the name of the span event of an event, message or reward."""
    match record:
        case EventRecord():
            return f"callspan.{record.event_type}"
        case MessageRecord():
            return "callspan.message"
    return EVALUATION_EVENT


def event_attributes(record: Record) -> Attributes:
    """Return the attributes of the span event of an event, message or reward; no content."""
    match record:
        case EventRecord():
            return EVENT.of(record)
        case MessageRecord():
            return MESSAGE.of(record)
        case RewardRecord():
            return REWARD.of(record)
    return {}


def event_content(record: Record, budget: ByteBudget) -> Attributes:
    """Return the content of an event, message or reward within the budget."""
    shown = Shown(None, budget)
    match record:
        case MessageRecord():
            return MESSAGE_CONTENT.of(record, shown)
        case EventRecord():
            return _EVENT_CONTENTS.get(record.event_type, EVENT_CONTENT).of(record, shown)
        case RewardRecord():
            return REWARD_CONTENT.of(record, shown)
    return {}


def evaluation_attributes(record: Record) -> Attributes | None:
    """Return the conventions' evaluation event of an environment's reward; None where the event has none."""
    if not isinstance(record, EventRecord) or record.reward is None:
        return None
    return EVALUATION.of(record)


def evaluation_span_name(record: Record) -> str:
    """Return the name of the span of a reward that stands for itself."""
    return f"evaluation {record.objective}" if isinstance(record, RewardRecord) else "evaluation reward"


def late_evaluation(record: Record, response_id: str | None) -> Attributes | None:
    """Return what stands for itself of a reward: what it is for, and the evaluation; None for other records.

    `response_id` is the provider's id of the answer that was judged. No content.
    """
    if not isinstance(record, EventRecord | RewardRecord):
        return None
    evaluation = REWARD.of(record) if isinstance(record, RewardRecord) else evaluation_attributes(record)
    if evaluation is None:
        return None
    attributes = EVALUATION_SPAN.of(record)
    if response_id is not None:
        attributes["gen_ai.response.id"] = response_id
    return attributes | evaluation


def exception_attributes(error: ErrorInfo, *, content: bool) -> Attributes:
    """Return the attributes of the `exception` event; the message only with content."""
    return EXCEPTION.of(error, Shown(Conversation() if content else None, ByteBudget(0, 0)))
