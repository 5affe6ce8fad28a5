"""Generated histories of agents, and providers with a prompt cache, each turn with what truly became of the cache.

Written from the pages of the providers alone; nothing here is of callspan. What they say, and what is done here:

- Anthropic, Bedrock: the order is tools, system, messages. Kept is what ends at a mark, if it has 1,024 tokens, for 5
  minutes or an hour since its last use; a mark finds what was kept at itself and up to 20 blocks before. `tool_choice`
  and `thinking` are of the messages. https://platform.claude.com/docs/en/build-with-claude/prompt-caching
- OpenAI before GPT-5.6: from 1,024 tokens on in steps of 128; tools, schema, messages; 5 to 10 minutes without use, at
  most an hour, or 24 hours if asked. https://developers.openai.com/cookbook/examples/prompt_caching_201
- GPT-5.6: up to the end of the newest message, exactly, for 30 minutes; the usage states what was written.
  https://developers.openai.com/api/docs/guides/prompt-caching
- Gemini: from some number of tokens on, in steps that no page states; nothing is stated of a cache that read nothing.
  https://ai.google.dev/gemini-api/docs/caching
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Json: TypeAlias = dict[str, Any]
Wire: TypeAlias = Literal["messages", "converse", "chat", "responses", "newer", "gemini"]
WIRES: Final[tuple[Wire, ...]] = ("messages", "converse", "chat", "responses", "newer", "gemini")
MARKED: Final = ("messages", "converse")
STATED: Final = (*MARKED, "newer")
_MODELS: Final = {
    "messages": ("claude-sonnet-4-5", "claude-opus-4-1"),
    "converse": ("anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-opus-4-1-20250805-v1:0"),
    "chat": ("gpt-5", "gpt-5-mini"),
    "responses": ("gpt-5", "gpt-5-mini"),
    "newer": ("gpt-5.6", "gpt-5.6-mini"),
    "gemini": ("gemini-2.5-flash", "gemini-2.5-pro"),
}
_STEP: Final = {"chat": 128, "responses": 128, "gemini": 256}
_LEAST: Final = {"gemini": 2048}
_LIFETIME_S: Final = {"messages": 300, "converse": 300, "chat": 600, "responses": 600, "newer": 1800, "gemini": 900}
_LOOKED_BACK: Final = 20
_WORDS: Final = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "river",
    "stone",
    "window",
    "paper",
    "green",
    "seven",
    "morning",
    "light",
]


@dataclass
class Truth:
    """What became of the cache in one call."""

    cause: str
    lost: int | None = None
    """None: not to be stated."""
    place: tuple[str, int, int] | None = None
    is_certain: bool = True


@dataclass
class Call:
    """One call: the request and the counters of the answer, as the provider's SDK has them."""

    wire: Wire
    agent: int
    number: int
    model: str
    body: Json
    start_s: float
    took_s: float
    truth: Truth
    input: int | None = None
    read: int | None = None
    written: int | None = None
    outcome: str = "success"
    response_id: str | None = None
    continues: str | None = None


@dataclass
class Said:
    """A message: its role and its texts."""

    role: str
    texts: list[str]
    is_plain: bool = True
    """Whether it is sent as a text rather than a list of one."""


@dataclass
class State:
    """What an agent sends."""

    model: str
    tools: list[Json]
    system: str
    messages: list[Said]
    params: Json = field(default_factory=dict)
    schema: str | None = None
    marks: tuple[str, ...] = ("system", "last")
    hour: bool = False
    day: bool = False


Segment: TypeAlias = tuple[str, str]
"""The section and the text of a part that a provider renders; parameters are no tokens."""


def segments(wire: Wire, state: State) -> list[Segment]:
    """Return the parts of a request in the order of the provider."""
    tools = [("tools", json.dumps(tool)) for tool in state.tools]
    schema = [] if state.schema is None else [("schema", state.schema)]
    system = [("system", state.system)]
    said = [
        ("messages", f"{'' if number else message.role}|{text}")
        for message in state.messages
        for number, text in enumerate(message.texts)
    ]
    params = [("param", f"{name}={json.dumps(value)}") for name, value in sorted(state.params.items())]
    model = [("param", state.model)]
    if wire in MARKED:
        return [*model, *tools, *system, *params, *said]
    if wire == "gemini":
        return [*model, *system, *tools, *said]
    return [*model, *params, *tools, *schema, *system, *said]


def tokens(parts: Sequence[Segment]) -> int:
    return sum(len(text) for section, text in parts if section != "param") // 4


@dataclass
class Kept:
    """What a cache has: parts from the first on, and when it was last used."""

    parts: tuple[Segment, ...]
    used_s: float
    from_s: float
    lifetime_s: float


class Cache:
    """The cache of one provider."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.kept: list[Kept] = []
        self.evicted_s = 0.0
        """When everything was last evicted."""

    def serve(self, state: State, at_s: float, begins_s: float) -> tuple[int, int, int | None]:
        """Return the input tokens, those read and those written; None: not stated."""
        parts = segments(self.wire, state)
        live = [each for each in self.kept if each.from_s <= at_s <= each.used_s + each.lifetime_s]
        return (self._exactly if self.wire in STATED else self._by_step)(state, parts, live, at_s, begins_s)

    def _exactly(
        self, state: State, parts: list[Segment], live: list[Kept], at_s: float, begins_s: float
    ) -> tuple[int, int, int]:
        ends = marks_of(self.wire, state, parts)
        found: Kept | None = None
        for each in live:
            size = len(each.parts)
            reached = any(_blocks(parts[size:end]) <= _LOOKED_BACK for end in ends if end >= size)
            if (reached or (self.wire == "newer" and ends)) and tuple(parts[:size]) == each.parts:
                found = each if found is None or size > len(found.parts) else found
        read = 0
        if found is not None:
            found.used_s, read = at_s, tokens(found.parts)
        last = 0
        for end in ends:
            if tokens(parts[:end]) >= 1024:
                last = max(last, tokens(parts[:end]))
                if found is None or end > len(found.parts):
                    lifetime_s = 3600 if state.hour else _LIFETIME_S[self.wire]
                    self.kept.append(Kept(tuple(parts[:end]), at_s, begins_s, lifetime_s))
        return tokens(parts), read, max(last - read, 0)

    def _by_step(
        self, state: State, parts: list[Segment], live: list[Kept], at_s: float, begins_s: float
    ) -> tuple[int, int, None]:
        step, least = _STEP[self.wire], _LEAST.get(self.wire, 1024)
        text, head = _rendered(parts)
        common = max(
            (_common(text, _rendered(each.parts)) for each in live if _rendered(each.parts)[1] == head), default=0
        )
        read = common // 4 // step * step
        self.kept.append(Kept(tuple(parts), at_s, begins_s, 86_400 if state.day else _LIFETIME_S[self.wire]))
        return tokens(parts), read if read >= least else 0, None


def _rendered(parts: Sequence[Segment]) -> tuple[str, str]:
    texts = "".join(text for section, text in parts if section != "param")
    return texts, "".join(text for section, text in parts if section == "param")


def _common(text: str, other: tuple[str, str]) -> int:
    low, high = 0, min(len(text), len(other[0]))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text[:middle] == other[0][:middle] else (low, middle - 1)
    return low


def _blocks(parts: Sequence[Segment]) -> int:
    return sum(section != "param" for section, _ in parts)


def marks_of(wire: Wire, state: State, parts: Sequence[Segment]) -> list[int]:
    """Return how many parts are before each mark of a request, and before its end for the newer OpenAI."""
    if wire == "newer":
        return [len(parts)]
    ends = {"system": max(number for number, part in enumerate(parts) if part[0] == "system") + 1, "last": len(parts)}
    return [ends[mark] for mark in state.marks]


def body_of(wire: Wire, state: State, *, only_last: bool = False) -> Json:
    """Return a request as it is sent."""
    return _BODIES[wire](state, only_last)


def _mark(state: State, name: str, on: str) -> Json:
    ttl = {"ttl": "1h"} if state.hour else {}
    return {name: {"type": "ephemeral" if name == "cache_control" else "default", **ttl}} if on in state.marks else {}


def _anthropic(state: State, _: bool) -> Json:
    messages = []
    for number, message in enumerate(state.messages):
        blocks: Any = [{"type": "text", "text": text} for text in message.texts]
        if number == len(state.messages) - 1:
            blocks[-1] |= _mark(state, "cache_control", "last")
        elif message.is_plain and len(blocks) == 1:
            blocks = message.texts[0]
        messages.append({"role": message.role, "content": blocks})
    system = [{"type": "text", "text": state.system} | _mark(state, "cache_control", "system")]
    return {
        "model": state.model,
        "max_tokens": 99,
        **state.params,
        "tools": state.tools,
        "system": system,
        "messages": messages,
    }


def _bedrock(state: State, _: bool) -> Json:
    system_point, last_point = (
        [_mark(state, "cachePoint", on)] if on in state.marks else [] for on in ("system", "last")
    )
    messages = [{"role": each.role, "content": [{"text": text} for text in each.texts]} for each in state.messages]
    messages[-1]["content"] += last_point  # type: ignore[operator]
    tools = {"tools": [{"toolSpec": tool} for tool in state.tools], **state.params}
    return {"toolConfig": tools, "system": [{"text": state.system}, *system_point], "messages": messages}


def _openai_messages(state: State, kind: str) -> list[Json]:
    messages = []
    for each in state.messages:
        word = "text" if kind == "chat" else "output_text" if each.role == "assistant" else "input_text"
        blocks = [{"type": word, "text": text} for text in each.texts]
        content = each.texts[0] if each.is_plain and len(blocks) == 1 else blocks
        messages.append({"role": each.role, "content": content})
    return messages


def _chat(state: State, _: bool) -> Json:
    tools = [{"type": "function", "function": tool} for tool in state.tools]
    schema = (
        {}
        if state.schema is None
        else {"response_format": {"type": "json_schema", "json_schema": {"name": state.schema}}}
    )
    day = {"prompt_cache_retention": "24h"} if state.day else {}
    messages = [{"role": "system", "content": state.system}, *_openai_messages(state, "chat")]
    return {"model": state.model, "messages": messages, "tools": tools, **schema, **day, **state.params}


def _responses(state: State, only_last: bool) -> Json:
    tools = [{"type": "function", **tool} for tool in state.tools]
    schema = {} if state.schema is None else {"text": {"format": {"type": "json_schema", "name": state.schema}}}
    day = {"prompt_cache_retention": "24h"} if state.day else {}
    said = _openai_messages(state, "responses")[-1 if only_last else 0 :]
    params = {"reasoning": {"effort": state.params["reasoning_effort"]}} if state.params else {}
    return {
        "model": state.model,
        "instructions": state.system,
        "input": said,
        "tools": tools,
        **schema,
        **day,
        **params,
    }


def _gemini(state: State, _: bool) -> Json:
    contents = [
        {"role": "model" if each.role == "assistant" else each.role, "parts": [{"text": text} for text in each.texts]}
        for each in state.messages
    ]
    tools = [{"functionDeclarations": state.tools}]
    return {"systemInstruction": {"parts": [{"text": state.system}]}, "tools": tools, "contents": contents}


_BODIES: Final[dict[Wire, Callable[[State, bool], Json]]] = {
    "messages": _anthropic, "converse": _bedrock, "chat": _chat, "responses": _responses, "newer": _responses,
    "gemini": _gemini,
}  # fmt: skip

Change: TypeAlias = Callable[["Agent"], "tuple[str, tuple[str, int, int] | None] | None"]
"""Changes what an agent sends; returns the cause and place that follow, or None if there is nothing to change."""


class Agent:
    """One conversation: its state, and what it has sent."""

    def __init__(self, wire: Wire, number: int, rng: random.Random, system: str) -> None:
        self.wire, self.number, self.rng, self.made = wire, number, rng, 0
        self.by_id = wire == "responses" and rng.random() < 0.25
        tools = [self.tool() for _ in range(rng.randint(3, 5))]
        self.state = State(_MODELS[wire][0], tools, f"{self.clock()} {system}", [self.said("user")])
        self.state.hour = wire in MARKED and rng.random() < 0.2
        self.state.day = wire in ("chat", "responses") and rng.random() < 0.2
        self.orders = {self.order()}
        self.sent: list[tuple[Call, State]] = []

    def words(self, count: int) -> str:
        return " ".join(self.rng.choice(_WORDS) for _ in range(count))

    def clock(self) -> str:
        self.made += 1
        return f"It is {self.rng.randint(10, 23)}:{self.rng.randint(10, 59)} ({self.number}.{self.made})."

    def said(self, role: str) -> Said:
        self.made += 1
        text = f"{self.made} of {self.number}: {self.words(self.rng.choice((8, 40, 160)))}"
        return Said(role, [text, self.words(30)] if self.rng.random() < 0.2 else [text], self.rng.random() < 0.7)

    def tool(self) -> Json:
        self.made += 1
        schema = {"type": "object", "properties": {"query": {"type": "string", "description": self.words(20)}}}
        field = {"messages": "input_schema", "converse": "inputSchema"}.get(self.wire, "parameters")
        value = {"json": schema} if self.wire == "converse" else schema
        return {"name": f"tool_{self.number}_{self.made}", "description": self.words(20), field: value}

    def order(self) -> str:
        return json.dumps(self.state.tools)

    def at(self, number: int, block: int = 0) -> tuple[str, int, int]:
        return "messages", number + (self.wire == "chat"), block

    def new_order(self, tools: list[Json]) -> bool:
        """Take tools in an order that was never sent."""
        before, self.state.tools = self.state.tools, tools
        if self.order() in self.orders:
            self.state.tools = before
            return False
        self.orders.add(self.order())
        return True

    def old(self) -> int | None:
        """Return the index of a message before the last three."""
        return None if len(self.state.messages) < 5 or self.by_id else self.rng.randrange(len(self.state.messages) - 4)


def _clock(agent: Agent) -> Any:
    agent.state.system = f"{agent.clock()}{agent.state.system.partition(').')[2]}"
    return "system: changed", ("system", 0, 0)


def _swap(agent: Agent) -> Any:
    tools = [*agent.state.tools]
    if len(tools) < 2:
        return None
    at = agent.rng.randrange(len(tools) - 1)
    tools[at], tools[at + 1] = tools[at + 1], tools[at]
    return ("tools: another order", ("tools", at, 0)) if agent.new_order(tools) else None


def _add(agent: Agent) -> Any:
    tools = [*agent.state.tools]
    at = agent.rng.choice((len(tools), agent.rng.randint(0, len(tools))))
    tools.insert(at, agent.tool())
    agent.new_order(tools)
    return f"tools: 1 added ({tools[at]['name']})", ("tools", at, 0)


def _remove(agent: Agent) -> Any:
    tools = [*agent.state.tools]
    at = agent.rng.randrange(len(tools))
    gone = tools.pop(at)
    return (f"tools: 1 removed ({gone['name']})", ("tools", at, 0)) if tools and agent.new_order(tools) else None


def _keys(agent: Agent) -> Any:
    tools = deepcopy(agent.state.tools)
    at = agent.rng.randrange(len(tools))
    tools[at] = dict(reversed(tools[at].items()))
    return ("tools: changed", ("tools", at, 0)) if agent.new_order(tools) else None


def _cut(agent: Agent) -> Any:
    at = agent.old()
    if at is None or len(agent.state.messages[at].texts[-1]) < 80:
        return None
    agent.made += 1
    message = deepcopy(agent.state.messages[at])
    message.texts[-1] = f"{message.texts[-1][:40]} [cut {agent.made}]"
    agent.state.messages[at] = message
    return "messages: an earlier one was changed", agent.at(at, len(message.texts) - 1)


def _drop(agent: Agent) -> Any:
    at = agent.old()
    if at is None:
        return None
    del agent.state.messages[at : at + 2]
    return "messages: an earlier one was removed", agent.at(at)


def _insert(agent: Agent) -> Any:
    at = agent.old()
    if at is None:
        return None
    agent.state.messages[at:at] = [agent.said("user"), agent.said("assistant")]
    return "messages: something was put in before", agent.at(at)


def _compact(agent: Agent) -> Any:
    if agent.old() is None:
        return None
    agent.state.messages[:-3] = [agent.said("user")]
    return "messages: an earlier one was changed", agent.at(0)


def _model(agent: Agent) -> Any:
    one, other = _MODELS[agent.wire]
    agent.state.model = other if agent.state.model == one else one
    return "model: changed", None


def _param(agent: Agent) -> Any:
    agent.made += 1
    if agent.wire == "gemini":
        return None
    if agent.wire == "messages" and agent.rng.random() < 0.5:
        agent.state.params = {**agent.state.params, "thinking": {"type": "enabled", "budget_tokens": 1024 + agent.made}}
        return "thinking: changed", None
    if agent.wire in MARKED:
        name = "tool_choice" if agent.wire == "messages" else "toolChoice"
        agent.state.params = {**agent.state.params, name: {"type": "tool", "name": f"tool_{agent.made}"}}
        return f"{'' if agent.wire == 'messages' else 'toolConfig.'}{name}: changed", None
    agent.state.params = {"reasoning_effort": f"effort-{agent.made}"}
    return ("reasoning_effort: changed" if agent.wire == "chat" else "reasoning.effort: changed"), None


def _schema(agent: Agent) -> Any:
    if agent.wire not in ("chat", "responses", "newer"):
        return None
    agent.made += 1
    agent.state.schema = f"schema_{agent.number}_{agent.made}"
    return "schema: changed", None


def _unmark(agent: Agent) -> Any:
    if agent.wire not in MARKED:
        return None
    agent.state.marks = agent.rng.choice((("system",), ()))
    name = "cache_control" if agent.wire == "messages" else "cachePoint"
    return f"{name}: missing where it was before", None


def _many(agent: Agent) -> Any:
    if agent.wire not in MARKED:
        return None
    last = agent.state.messages[-1]
    agent.state.messages[-1] = Said(last.role, [*last.texts, *(f"{n} {agent.clock()}" for n in range(25))])
    return "messages: more than 20 new blocks", None


def _plain(agent: Agent) -> Any:
    at = agent.old()
    if at is None:
        return None
    message = agent.state.messages[at]
    agent.state.messages[at] = Said(message.role, message.texts, not message.is_plain)
    return "hit", None


def _back(agent: Agent) -> Any:
    """Go back to an earlier request, and end it in another way."""
    if len(agent.sent) < 4 or agent.by_id:
        return None
    messages = agent.sent[-3][1].messages
    if messages[0] is not agent.state.messages[0] or len(messages) + 4 > len(agent.state.messages):
        return None
    if any(a is not b for a, b in zip(messages, agent.state.messages, strict=False)):
        return None
    agent.state.messages = [*messages[:-1], agent.said("user")]
    return "messages: an earlier one was changed", agent.at(len(messages) - 1)


_CHANGES: Final[tuple[Change, ...]] = (
    _clock, _swap, _add, _remove, _keys, _cut, _drop, _insert, _compact, _model, _param, _schema, _unmark, _many,
    _plain, _back,
)  # fmt: skip
_BY_ID: Final = (_clock, _swap, _add, _remove, _keys, _model, _param, _schema)


def history(wire: Wire, seed: int, turns: int = 14) -> list[Call]:
    """Return the calls of one session, by their start: one to three agents in turn, each with a change now and then."""
    rng = random.Random(f"{wire} {seed}")
    cache, calls, now = Cache(wire), list[Call](), 1_760_000_000.0
    system = " ".join(rng.choice(_WORDS) for _ in range(rng.choice((700, 1100, 1800))))
    is_alike = rng.random() < 0.5  # agents of one kind, with other tasks
    agents = list[Agent]()
    for number in range(rng.choice((1, 1, 2, 3))):
        own = system if is_alike else " ".join(rng.choice(_WORDS) for _ in range(900))
        agents.append(Agent(wire, number, rng, own))
    if is_alike:
        for agent in agents:
            agent.state.system, agent.state.tools = agents[0].state.system, [*agents[0].state.tools]
            agent.orders = {agent.order()}
    for _ in range(turns):
        agent = rng.choice(agents)
        now += rng.uniform(8, 30)
        calls += _turn(agent, cache, calls, now)
        now = max(call.start_s + call.took_s for call in calls)
    return sorted(calls, key=lambda call: (call.start_s, call.number))


def _turn(agent: Agent, cache: Cache, calls: Sequence[Call], now: float) -> Iterator[Call]:
    wire, state = agent.wire, agent.state
    cause, place, number = "hit", None, len(calls)
    if agent.sent:
        state.marks = ("system", "last")
        state.messages = [*state.messages, agent.said("assistant"), agent.said("user")]
        chance = agent.rng.random()
        if chance < 0.12:
            body, is_error = body_of(wire, state), chance < 0.08
            outcome, word = ("error", "failed") if is_error else ("success", "gateway")
            yield Call(wire, agent.number, number, state.model, body, now, 1.0, Truth(word), None, None, None, outcome)
            number, now = number + 1, now + 2
        elif chance < 0.20:
            cache.kept.clear()
            cache.evicted_s = now
        elif chance < 0.28:
            now += 90_000 if state.day else 4_000
        elif chance < 0.70:
            cause, place = agent.rng.choice(_BY_ID if agent.by_id else _CHANGES)(agent) or ("hit", None)
    yield from _served(agent, cache, calls, _asked(agent, number, now), cause, place)


def _asked(agent: Agent, number: int, now: float) -> Call:
    """Return the next call, with the whole conversation or with the id of the last response."""
    continues = agent.sent[-1][0].response_id if agent.by_id and agent.sent else None
    body = body_of(agent.wire, agent.state, only_last=continues is not None)
    if continues is not None:
        body["previous_response_id"] = continues
    took = agent.rng.uniform(1, 6)
    ident = f"resp_{agent.wire}_{number}_{agent.rng.random()}"
    call = Call(agent.wire, agent.number, number, agent.state.model, body, now, took, Truth(""))
    call.response_id, call.continues = ident, continues
    return call


def _served(agent: Agent, cache: Cache, calls: Sequence[Call], call: Call, cause: str, place: Any) -> Iterator[Call]:
    """Yield the call with its counters, and now and then the same again, sent at once."""
    twins = [call]
    if agent.sent and agent.rng.random() < 0.05:
        twins.append(deepcopy(call))
        twins[1].number, twins[1].start_s, twins[1].response_id = (
            call.number + 1,
            call.start_s + 0.01,
            f"{call.response_id}t",
        )
    for each in twins:
        each.input, each.read, each.written = cache.serve(agent.state, each.start_s, each.start_s + each.took_s)
        each.truth = truth(agent, cache, calls, each, cause, place)
        if each.wire == "gemini" and each.read == 0:
            each.read = None
        yield each
    agent.sent.append((call, deepcopy_of(agent.state)))


def deepcopy_of(state: State) -> State:
    """Return a state with its own lists of the same messages and tools."""
    return State(**{**vars(state), "tools": [*state.tools], "messages": [*state.messages]})


def _left(call: Call) -> int:
    """Return how many tokens a call left in the cache."""
    if call.wire in STATED:
        return (call.read or 0) + (call.written or 0)
    step = _STEP[call.wire] if call.wire != "gemini" else 1
    return (call.input or 0) // step * step if (call.input or 0) >= 1024 or call.wire == "gemini" else 0


def truth(agent: Agent, cache: Cache, calls: Sequence[Call], call: Call, cause: str, place: Any) -> Truth:
    """Return what became of the cache in this call, by what was done to it."""
    counted = [each for each in calls if each.input and each.start_s + each.took_s <= call.start_s]
    read = call.read or 0
    if call.wire == "gemini" and not read and all(each.read is None for each in counted):
        return Truth("states nothing about its cache")
    if not counted:
        return Truth("first")
    readable = _left(call) if call.wire not in STATED else (call.input or 0)
    most = max(min(_left(each), readable) for each in counted)
    if most == 0:
        return Truth("none was written" if call.wire in STATED else "shorter than the least")
    if read >= most:
        return Truth("hit", 0)
    if not agent.sent:
        return Truth("first")
    before, earlier = agent.sent[-1]
    expected = min(_left(before), readable)
    if expected == 0:
        return Truth("none was written" if call.wire in STATED else "shorter than the least")
    if read >= expected:
        return Truth("hit", 0)
    if _goes_back(agent, earlier, call):
        return Truth("hit", 0)
    lost = None if call.wire == "gemini" else expected - read
    if cause == "hit":
        cause, certain = _without_change(agent, cache, before, call)
        return Truth(cause, lost, None, certain)
    return Truth(cause, lost, place)


def _goes_back(agent: Agent, earlier: State, call: Call) -> bool:
    """Return whether it read all that an older request left which it repeats further than the last one."""
    parts = segments(call.wire, agent.state)
    same = _same(parts, segments(call.wire, earlier))
    for other, sent in agent.sent[:-1]:
        also = _same(parts, segments(call.wire, sent))
        if 0 < _left(other) <= (call.read or 0) and (also > same or also == len(parts)):
            return True
    return False


def _without_change(agent: Agent, cache: Cache, before: Call, call: Call) -> tuple[str, bool]:
    """Return why a request that was only continued read too little, and whether the provider states that."""
    if call.wire == "gemini":
        return "unknown", False
    lifetime_s = 86_400 if agent.state.day else 3_600 if agent.state.hour else _LIFETIME_S[call.wire]
    if call.start_s - before.start_s > lifetime_s:
        return "expired", call.wire in STATED or agent.state.day
    assert cache.evicted_s >= before.start_s, "nothing else empties a cache"
    return "unknown", False


def _same(a: Sequence[Segment], b: Sequence[Segment]) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
