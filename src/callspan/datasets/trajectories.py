"""Trajectories: sessions as ATIF 1.7 (Agent Trajectory Interchange Format, for Harbor); rollouts with token ids.

A tool result is in the step of its call, although it is sent with the next request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Final

import msgspec

from callspan.datasets.chat_messages import ChatMessage, canonical, tool_name
from callspan.datasets.fine_tuning import Row
from callspan.datasets.lineage import Turn, turns
from callspan.datasets.selection import Episode, Options, Statistics
from callspan.providers.wire_json import dig, items, number, objects
from callspan.providers.wire_json import text as text_at
from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.events import EventRecord
from callspan.stores.aggregates import exact_sum, known_sum

_PROMPT_IDS: Final = ("prompt_token_ids", "prompt_ids")


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """The token ids of a call, as the server returned them."""

    prompt_ids: list[int]
    completion_ids: list[int]
    completion_logprobs: list[float] | None
    """One per completion token; None where the server gave none, or not as many."""


def rollout_rows(found: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one row per session; its steps are the calls whose token ids are known, in order."""
    for episode in found:
        every = turns(episode, statistics.dropped, reasoning=options.reasoning)
        steps = [step for turn in every if (step := _step(turn, episode, statistics)) is not None]
        if not steps:
            statistics.left_out["session: no call with token ids"] += 1
            continue
        session = episode.summary.session
        statistics.messages += len(steps)
        yield {
            "trajectory_id": session.session_id or None,
            "example_id": session.task_id,
            "group_id": session.group_id,
            "task": session.name,
            "reward": episode.summary.reward,
            "steps": steps,
            "info": session.metadata,
            "stop_condition": session.outcome,
            "error": session.error.type if session.error else None,
        }


def tokens_of(call: CallRecord) -> Tokens | None:
    """Return the token ids of a call's prompt and first answer; None where the server did not return both."""
    body = bytes(call.response.body) if call.response else b""
    response: object = msgspec.json.decode(body) if body else None
    choice = next(objects(response, "choices"), None)
    prompts = (items(place, name) for name in _PROMPT_IDS for place in (response, choice))
    prompt = next((found for ids in prompts if (found := _ids(ids))), None)
    completion = _ids(items(choice, "token_ids"))
    if not prompt or not completion:
        return None
    return Tokens(prompt_ids=prompt, completion_ids=completion, completion_logprobs=_logprobs(choice, len(completion)))


def _step(turn: Turn, episode: Episode, statistics: Statistics) -> Row | None:
    tokens = tokens_of(turn.call)
    if tokens is None:
        statistics.left_out["call: no token ids"] += 1
        return None
    statistics.trained += 1
    cut = turn.call.response.truncated if turn.call.response else False
    return {
        "prompt": turn.messages,
        "completion": [turn.answer],
        "tokens": {
            "prompt_ids": tokens.prompt_ids,
            "prompt_mask": [0] * len(tokens.prompt_ids),
            "completion_ids": tokens.completion_ids,
            "completion_mask": [1] * len(tokens.completion_ids),
            "completion_logprobs": tokens.completion_logprobs,
            "is_truncated": cut,
        },
        "reward": _reward(turn.call, episode),
        "trajectory_id": episode.id or None,
        "call_id": turn.call.call_id,
    }


def _reward(call: CallRecord, episode: Episode) -> float | None:
    """What the timestep of the call earned; None where it earned nothing of its own."""
    step = call.place.timestep_id
    found = [
        amount
        for item in episode.events
        if step is not None and item.timestep_id == step and (amount := getattr(item, "reward", None)) is not None
    ]
    return float(sum(found)) if found else None


def _logprobs(choice: object, count: int) -> list[float] | None:
    given = dig(choice, "logprobs")
    plain = [number({"": value}, "") for value in items(given, "token_logprobs")]
    found = plain or [number(token, "logprob") for token in objects(given, "content")]
    known = [value for value in found if value is not None]
    return known if len(known) == count == len(found) else None


def _ids(found: Iterable[object]) -> list[int]:
    ids = list(found)
    whole = [one for one in ids if isinstance(one, int) and not isinstance(one, bool)]
    return whole if len(whole) == len(ids) else []


_SOURCES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "agent"}
_US_PER_NS: Final = 1000
_MEDIA_TYPES: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}


def trajectory_rows(found: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one trajectory per session."""
    for episode in found:
        # Thinking has a place here, so that nothing of it need be dropped.
        every = turns(episode, statistics.dropped, reasoning=True)
        if not every:
            statistics.left_out["session: content was not kept"] += 1
            continue
        steps = _Steps(statistics.dropped)
        for turn in every:
            steps.add(turn)
        steps.add_tool_events([item for item in episode.events if isinstance(item, EventRecord)])
        statistics.messages += len(steps.steps)
        statistics.trained += len(every)
        yield _trajectory(episode, every, steps.steps, options)


class _Steps:
    """The steps of one trajectory as they grow."""

    def __init__(self, dropped: Counter[str]) -> None:
        self.steps: list[Row] = []
        self._dropped = dropped
        self._nodes: set[bytes] = set()
        self._seen: set[bytes] = set()
        self._open_calls: dict[str, Row] = {}

    def add(self, turn: Turn) -> None:
        """Add what is new in a call's request, then its answer."""
        for message, node in zip(turn.messages, turn.nodes, strict=True):
            if node not in self._nodes:
                self._nodes.add(node)
                self._add_message(message, turn)
        self._nodes.add(turn.answer_node)
        self._seen.add(canonical(turn.answer))
        step = self._agent_step(turn.answer)
        step |= {"timestamp": _iso(turn.call.timing.start_ns), "llm_call_count": 1, "metrics": _metrics(turn)}
        step["extra"] = {"call_id": turn.call.call_id, "timestep": turn.call.place.timestep}
        if turn.call.request.model:
            step["model_name"] = turn.call.request.model
        effort = turn.call.request.params.get("reasoning_effort")
        if isinstance(effort, str):
            step["reasoning_effort"] = effort

    def add_tool_events(self, events: Sequence[EventRecord]) -> None:
        """Answer tool calls whose result was never sent to a model from what the tools themselves recorded."""
        for event in events:
            data = event.data if isinstance(event.data, dict) else {}
            if event.event_type == "tool" and event.tool_call_id in self._open_calls and "result" in data:
                result = data["result"]
                text = result if isinstance(result, str) else encode_json(result).decode()
                self._observe(event.tool_call_id, text)

    def _add_message(self, message: ChatMessage, turn: Turn) -> None:
        if message["role"] == "tool":
            self._add_result(message)
            return
        content = canonical(message)
        copied = content in self._seen
        self._seen.add(content)
        source = _SOURCES.get(str(message["role"]), "user")
        step = self._agent_step(message) if source == "agent" else self._step(source, message)
        if copied and turn.call.timing.start_ns:
            step["is_copied_context"] = True

    def _add_result(self, message: ChatMessage) -> None:
        content = content_of(message.get("content"), self._dropped)
        call_id = str(message.get("tool_call_id"))
        if call_id in self._open_calls:
            self._observe(call_id, content)
        elif self.steps and self.steps[-1]["source"] == "agent" and not self._has_result(call_id):
            self._results(self.steps[-1]).append({"content": content})

    def _observe(self, call_id: str | None, content: object) -> None:
        step = self._open_calls.pop(call_id or "")
        self._results(step).append({"source_call_id": call_id, "content": content})

    def _has_result(self, call_id: str) -> bool:
        """Whether this result was there before: histories that were cut or rewritten repeat it."""
        observed = (step["observation"] for step in self.steps if "observation" in step)
        return any(r.get("source_call_id") == call_id for o in observed if isinstance(o, dict) for r in o["results"])

    @staticmethod
    def _results(step: Row) -> list[Row]:
        observation = step.setdefault("observation", {"results": []})
        found: list[Row] = observation["results"] if isinstance(observation, dict) else []
        return found

    def _step(self, source: str, message: ChatMessage) -> Row:
        step: Row = {"step_id": len(self.steps) + 1, "source": source}
        step["message"] = content_of(message.get("content") or message.get("refusal"), self._dropped)
        self.steps.append(step)
        return step

    def _agent_step(self, message: ChatMessage) -> Row:
        step = self._step("agent", message)
        calls = message.get("tool_calls")
        if isinstance(calls, list) and calls:
            step["tool_calls"] = [_tool_call(call) for call in calls]
            self._open_calls.update((str(call["id"]), step) for call in calls)
        if message.get("reasoning_content"):
            step["reasoning_content"] = message["reasoning_content"]
        return step


def _tool_call(call: dict[str, object]) -> Row:
    inner = call.get("function") or call.get("custom")
    fields = inner if isinstance(inner, dict) else {}
    text = str(fields.get("arguments", fields.get("input", "")))
    arguments, exact = arguments_of(text)
    written: Row = {"tool_call_id": call["id"], "function_name": str(fields.get("name")), "arguments": arguments}
    return written if exact else written | {"extra": {"arguments_text": text}}


def _metrics(turn: Turn) -> Row:
    usage, cost, tokens = turn.call.usage, turn.call.cost, tokens_of(turn.call)
    metrics: Row = {
        "prompt_tokens": usage.input_tokens if usage else None,
        "completion_tokens": usage.output_tokens if usage else None,
        "cached_tokens": usage.cache_read_tokens if usage else None,
        # Written digit by digit: a float would round it.
        "cost_usd": msgspec.Raw(format(cost.usd, "f").encode()) if cost else None,
    }
    if tokens is not None:
        metrics["prompt_token_ids"] = tokens.prompt_ids
        metrics["completion_token_ids"] = tokens.completion_ids
        metrics["logprobs"] = tokens.completion_logprobs
    return {name: value for name, value in metrics.items() if value is not None}


def _trajectory(episode: Episode, every: Sequence[Turn], steps: list[Row], options: Options) -> Row:
    session, summary = episode.summary.session, episode.summary
    usages = [turn.call.usage for turn in every if turn.call.usage]
    cost = exact_sum(turn.call.cost.usd if turn.call.cost else None for turn in every)
    tools = {tool_name(tool): tool for turn in every for tool in turn.tools}
    totals: Row = {
        "total_prompt_tokens": known_sum(usage.input_tokens for usage in usages),
        "total_completion_tokens": known_sum(usage.output_tokens for usage in usages),
        "total_cached_tokens": known_sum(usage.cache_read_tokens for usage in usages),
        "total_cost_usd": None if cost is None else msgspec.Raw(format(cost, "f").encode()),
        "total_steps": len(steps),
        "extra": {"reward": summary.reward, "success": session.success, "outcome": session.outcome},
    }
    agent: Row = {
        "name": options.agent_name or session.name or "agent",
        "version": options.agent_version,
        "model_name": Counter(turn.call.request.model for turn in every).most_common(1)[0][0],
        "tool_definitions": list(tools.values()) or None,
    }
    failed = summary.calls - len(every)
    row: Row = {
        "schema_version": "ATIF-v1.7",
        "session_id": session.session_id,
        "trajectory_id": session.session_id,
        "agent": _known(agent),
        "steps": steps,
        "notes": f"{failed} calls of this session failed or were not chosen." if failed > 0 else None,
        "final_metrics": _known(totals),
        "extra": _known(
            {
                "task_id": session.task_id,
                "group_id": session.group_id,
                "parent_session_id": session.parent_session_id,
                "metadata": session.metadata or None,
            }
        ),
    }
    return _known(row)


def _known(fields: Row) -> Row:
    return {name: value for name, value in fields.items() if value is not None}


def _iso(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, tz=timezone.utc).replace(microsecond=rest // _US_PER_NS).isoformat()


def content_of(content: object, dropped: Counter[str]) -> object:
    """Return the content of a chat message as ATIF takes it; parts it has no place for are counted."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = (
        [part for item in content if (part := _content_part(item, dropped)) is not None]
        if isinstance(content, list)
        else []
    )
    if all(part["type"] == "text" for part in parts):
        return "\n".join(str(part["text"]) for part in parts)
    return parts


def arguments_of(written: str) -> tuple[dict[str, object], bool]:
    """Return a tool call's arguments as an object, and whether that is all that was written."""
    try:
        found = msgspec.json.decode(written) if written else {}
    except (msgspec.DecodeError, RecursionError):
        return {}, False
    return (found, True) if isinstance(found, dict) else ({}, False)


def _content_part(item: object, dropped: Counter[str]) -> dict[str, object] | None:
    kind = text_at(item, "type")
    if kind == "text":
        return {"type": "text", "text": text_at(item, "text") or ""}
    url = text_at(item, "image_url", "url") if kind == "image_url" else None
    media_type = _media_type(url) if url else None
    if media_type is None:
        dropped[f"{kind} of a trajectory"] += 1
        return None
    return {"type": "image", "source": {"media_type": media_type, "path": url}}


def _media_type(url: str) -> str | None:
    if url.startswith("data:"):
        given = url[len("data:") :].partition(";")[0]
        return given if given in _MEDIA_TYPES.values() else None
    # A recorded text may be no URL; the path of one with a query has the suffix.
    path = url.partition("?")[0].partition("#")[0].lower()
    return next((kind for suffix, kind in _MEDIA_TYPES.items() if path.endswith(suffix)), None)
