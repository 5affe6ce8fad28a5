"""Trajectories: sessions as ATIF 1.7 (Agent Trajectory Interchange Format, for Harbor), and rollouts with token ids.

A tool result belongs to the step of its tool call, although it is sent with the next request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from itertools import islice, takewhile
from typing import Final

import msgspec

from callspan.datasets.chat_messages import ChatMessage, arguments_of, canonical
from callspan.datasets.fine_tuning import Row
from callspan.datasets.lineage import Turn, turns
from callspan.datasets.selection import Episode, Options, Statistics, is_cut_off
from callspan.datasets.token_ids import tokens_of
from callspan.providers.wire_json import text as text_at
from callspan.records import EventRecord, encode_json, tool_name
from callspan.runtime.amounts import as_number
from callspan.stores import Event, exact_sum, known_sum

_JUDGED: Final = frozenset({"success", "failure", "in_progress"})
"""Outcomes of a session that do not say what ended it."""
_SOURCES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "agent"}
_US_PER_NS: Final = 1000
_MEDIA_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def rollout_rows(episodes: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one row per session; its steps are the calls with known token ids, in order."""
    for episode in episodes:
        found_steps = [(turn, _step(turn, episode, statistics)) for turn in turns(episode, options, statistics)]
        steps = [step for _, step in found_steps if step is not None]
        if found_steps and not steps:
            statistics.left_out["session: no call with token ids"] += 1
        if not steps:
            continue
        last_steps = {turn.call.place.timestep_id: step for turn, step in found_steps if step is not None}
        rewards = _step_rewards(episode, options.objective, last_steps)
        for timestep_id, step in last_steps.items():
            step["reward"] = rewards.get(timestep_id)
        session = episode.summary.session
        statistics.messages += len(steps)
        yield {
            "trajectory_id": session.session_id or None,
            "example_id": session.task_id,
            "group_id": session.group_id,
            "task": session.name,
            "reward": episode.summary.score(options.objective),
            "steps": steps,
            "info": session.metadata,
            "stop_condition": _stop_condition(episode),
            "outcome": session.outcome,
            "success": session.success,
            "error": session.error.type if session.error else None,
        }


def _step(turn: Turn, episode: Episode, statistics: Statistics) -> Row | None:
    tokens = tokens_of(turn.call)
    if tokens is None:
        statistics.left_out["call: no token ids"] += 1
        return None
    if tokens.misfit is not None:
        statistics.left_out[f"call: {tokens.misfit}"] += 1
        return None
    statistics.trained_messages += 1
    statistics.cut_off_answers += is_cut_off(turn.call)
    is_truncated = turn.call.response.truncated if turn.call.response else False
    return {
        "prompt": turn.messages,
        "completion": [turn.answer],
        "tokens": {
            "prompt_ids": tokens.prompt_ids,
            "prompt_mask": [0] * len(tokens.prompt_ids),
            "completion_ids": tokens.completion_ids,
            "completion_mask": [1] * len(tokens.completion_ids),
            "completion_logprobs": tokens.completion_logprobs,
            "is_truncated": is_truncated,
        },
        "token_fields": {"prompt_ids": tokens.prompt_field, "completion_ids": tokens.completion_field},
        "reward": None,
        "trajectory_id": episode.id or None,
        "call_id": turn.call.call_id,
    }


def _stop_condition(episode: Episode) -> str | None:
    """Return what ended an episode: an error, the application's own word, else the flags of its last step.

    None if nothing says so: an episode that failed may have ended in any way.
    """
    outcome = episode.summary.session.outcome
    if outcome is not None and outcome not in _JUDGED:
        return outcome
    flags: str | None = None
    for event in episode.events():
        if isinstance(event, EventRecord) and (event.terminated is not None or event.truncated is not None):
            flags = "terminated" if event.terminated else "truncated" if event.truncated else None
    return flags


def _step_rewards(
    episode: Episode, objective: str, trained: Collection[str | None]
) -> Mapping[str | None, float | None]:
    """Return the reward of each timestep, or its mean score for another objective.

    Each reward counts at one of the timesteps in `trained`: the innermost that contains it.
    """
    scores = episode.reader.timestep_scores(episode.id, excluding=trained)
    return {key: of_step.get(objective) for key, of_step in scores.items()}


def trajectory_rows(episodes: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one trajectory per session."""
    for episode in episodes:
        steps, totals = _Steps(statistics.dropped, episode.step_positions()), _Totals()
        for turn in turns(episode, options, statistics, reasoning=True):
            steps.add(turn)
            totals.add(turn)
            statistics.cut_off_answers += is_cut_off(turn.call)
        if not totals.calls:
            continue
        steps.add_tool_events(episode.events())
        statistics.messages += len(steps.steps)
        statistics.trained_messages += totals.calls
        yield _trajectory(episode, totals, steps.steps, options)


class _Totals:
    """The sums over a trajectory's calls, and how many calls are not in them."""

    def __init__(self) -> None:
        self.calls = self.without_usage = self.without_cost = 0
        self.models: Counter[str | None] = Counter()
        self.tools: dict[str | None, Row] = {}
        self.prompt: int | None = None
        self.completion: int | None = None
        self.cached: int | None = None
        self.cost: Decimal | None = None

    def add(self, turn: Turn) -> None:
        call, usage = turn.call, turn.call.usage
        self.calls += 1
        self.models[call.request.model] += 1
        self.tools.update((tool_name(tool), tool) for tool in turn.tools)
        if call.is_bought:
            self.without_usage += usage is None or None in {usage.input_tokens, usage.output_tokens}
            self.without_cost += call.cost is None or call.cost.usd is None
        self.cost = exact_sum((self.cost, call.cost.usd if call.cost else None))
        if usage is not None:
            self.prompt = _plus(self.prompt, usage.input_tokens)
            self.completion = _plus(self.completion, usage.output_tokens)
            self.cached = _plus(self.cached, usage.cache_read_tokens)


def _plus(total: int | None, value: int | None) -> int | None:
    count = known_sum((value,))
    return total if count is None else count + (total or 0)


class _Steps:
    """The steps of one trajectory."""

    def __init__(self, dropped: Counter[str], positions: Mapping[str, int]) -> None:
        """`positions` has the position of each timestep of the session, by id."""
        self.steps: list[Row] = []
        self._dropped = dropped
        self._positions = positions
        self._nodes: set[bytes] = set()
        self._ends: set[bytes] = set()
        """The nodes of answers that no request continues yet."""
        self._seen = Counter[bytes]()
        self._callers: dict[str | None, list[tuple[int, Row]]] = {}
        """The steps with a call of this id, which servers may use again, and when each was requested."""

    def add(self, turn: Turn) -> None:
        """Add the new messages of a request, then the answer."""
        # All messages before a known node are known.
        unknown = [*takewhile(lambda pair: pair[0] not in self._nodes, turn.backwards())]
        repeatable = self._repeatable(turn, unknown)
        for node, message in reversed(unknown):
            self._nodes.add(node)
            content = canonical(message)
            if copied := repeatable[content] > 0:
                repeatable[content] -= 1
            else:
                self._seen[content] += 1
            self._add_message(message, turn, copied=copied)
        step = self._agent_step(self._answer(turn), turn)
        step |= {"timestamp": _iso(turn.call.timing.start_ns), "llm_call_count": 1, "metrics": _metrics(turn)}
        position = self._positions.get(turn.call.place.timestep_id or "")
        step["extra"] = {"call_id": turn.call.call_id, "timestep_position": position}
        if turn.call.request.model:
            step["model_name"] = turn.call.request.model
        effort = turn.call.request.params.get("reasoning_effort")
        if isinstance(effort, str):
            step["reasoning_effort"] = effort

    def _answer(self, turn: Turn) -> ChatMessage:
        """Return the answer without an earlier answer that it continues. Later requests may contain either."""
        self._note(turn.answer_node, turn.answer)
        if turn.prefill_node is None or turn.generated_node is None or turn.prefill_node not in self._nodes:
            return turn.answer
        self._ends.discard(turn.prefill_node)
        self._note(turn.generated_node, turn.generated)
        return turn.generated

    def _note(self, node: bytes, answer: ChatMessage) -> None:
        self._nodes.add(node)
        self._ends.add(node)
        self._seen[canonical(answer)] += 1

    def add_tool_events(self, events: Iterable[Event]) -> None:
        """Add the recorded results of tool calls, if the results were not sent to a model."""
        for event in events if self._callers else ():
            if not isinstance(event, EventRecord) or event.event_type != "tool":
                continue
            callers = self._callers.get(event.tool_call_id)
            if callers and isinstance(event.data, dict) and "result" in event.data:
                result = event.data["result"]
                text = result if isinstance(result, str) else encode_json(result).decode()
                step = next((step for start, step in reversed(callers) if start <= event.time_ns), callers[0][1])
                self._observe(step, event.tool_call_id, text)

    def _repeatable(self, turn: Turn, unknown: list[tuple[bytes, ChatMessage]]) -> Counter[bytes]:
        """Return how often a request may repeat each message: never if its history only grew, else as often as known.

        `unknown` are its last messages, the last first.
        """
        known_pairs = [*islice(turn.backwards(), len(unknown), None)]
        if (
            known_pairs
            and known_pairs[0][0] in self._ends
            and all(message["role"] != "assistant" for _, message in unknown)
        ):
            self._ends.remove(known_pairs[0][0])
            return Counter()
        return self._seen - Counter(canonical(message) for _, message in known_pairs)

    def _add_message(self, message: ChatMessage, turn: Turn, *, copied: bool) -> None:
        if message["role"] == "tool":
            self._add_result(message, copied=copied)
            return
        source = _SOURCES.get(str(message["role"]), "user")
        is_agent = source == "agent"
        step = self._agent_step(message, turn, copied=copied) if is_agent else self._step(source, message)
        if copied and turn.call.timing.start_ns:
            step["is_copied_context"] = True

    def _add_result(self, message: ChatMessage, *, copied: bool) -> None:
        content = content_of(message.get("content"), self._dropped)
        call_id = str(message.get("tool_call_id"))
        callers = self._callers.get(call_id)
        if callers and not (copied and len(callers) > 1):
            self._observe(callers[-1][1], call_id, content)
        # Truncated or rewritten histories may repeat a result.
        elif not callers and self.steps and self.steps[-1]["source"] == "agent":
            self._results(self.steps[-1]).append({"content": content})

    def _observe(self, step: Row, call_id: str | None, content: object) -> None:
        """Add a result to the step of its call, which has one result."""
        results = self._results(step)
        if all(result.get("source_call_id") != call_id for result in results):
            results.append({"source_call_id": call_id, "content": content})

    @staticmethod
    def _results(step: Row) -> list[Row]:
        observation = step.setdefault("observation", {"results": []})
        results: list[Row] = observation["results"] if isinstance(observation, dict) else []
        return results

    def _step(self, source: str, message: ChatMessage) -> Row:
        step: Row = {"step_id": len(self.steps) + 1, "source": source}
        step["message"] = content_of(message.get("content") or message.get("refusal"), self._dropped)
        self.steps.append(step)
        return step

    def _agent_step(self, message: ChatMessage, turn: Turn, *, copied: bool = False) -> Row:
        step = self._step("agent", message)
        calls = message.get("tool_calls")
        if isinstance(calls, list) and calls:
            step["tool_calls"] = [_tool_call(call) for call in calls]
            for call in calls:
                callers = self._callers.setdefault(str(call["id"]), [])
                if not (copied and callers):
                    callers.append((turn.call.timing.start_ns, step))
        if message.get("reasoning_content"):
            step["reasoning_content"] = message["reasoning_content"]
        return step


def _tool_call(call: dict[str, object]) -> Row:
    function = call.get("function") or call.get("custom")
    fields = function if isinstance(function, dict) else {}
    text = str(fields.get("arguments", fields.get("input", "")))
    arguments, exact = arguments_of(text)
    tool_call: Row = {"tool_call_id": call["id"], "function_name": str(fields.get("name")), "arguments": arguments}
    return tool_call if exact else tool_call | {"extra": {"arguments_text": text}}


def _number(usd: Decimal | None) -> msgspec.Raw | None:
    """Return an amount as an exact JSON number, which a float would round."""
    text = None if usd is None else as_number(usd)
    return None if text is None else msgspec.Raw(text.encode())


def _metrics(turn: Turn) -> Row:
    usage, cost, tokens = turn.call.usage, turn.call.cost, tokens_of(turn.call)
    metrics: Row = {
        "prompt_tokens": usage.input_tokens if usage else None,
        "completion_tokens": usage.output_tokens if usage else None,
        "cached_tokens": usage.cache_read_tokens if usage else None,
        "cost_usd": _number(cost.usd if cost else None),
    }
    if tokens is not None and tokens.misfit is None:
        metrics["prompt_token_ids"] = tokens.prompt_ids
        metrics["completion_token_ids"] = tokens.completion_ids
        metrics["logprobs"] = tokens.completion_logprobs
    return {name: value for name, value in metrics.items() if value is not None}


def _trajectory(episode: Episode, totals: _Totals, steps: Sequence[Row], options: Options) -> Row:
    session, summary, cost = episode.summary.session, episode.summary, totals.cost
    missing_counts = {
        "calls_left_out": summary.calls - totals.calls,
        "calls_without_usage": totals.without_usage,
        "calls_without_cost": totals.without_cost,
    }
    metrics: Row = {
        "total_prompt_tokens": totals.prompt,
        "total_completion_tokens": totals.completion,
        "total_cached_tokens": totals.cached,
        "total_cost_usd": _number(cost),
        "total_steps": len(steps),
        "extra": {"reward": summary.reward, "success": session.success, "outcome": session.outcome}
        | {name: number for name, number in missing_counts.items() if number}
        | ({"scores": episode.scores} if episode.scores else {}),
    }
    agent: Row = {
        "name": options.agent_name or session.name or "agent",
        "version": options.agent_version,
        "model_name": totals.models.most_common(1)[0][0],
        "tool_definitions": list(totals.tools.values()) or None,
    }
    row: Row = {
        "schema_version": "ATIF-v1.7",
        "session_id": session.session_id,
        "trajectory_id": session.session_id,
        "agent": _without_none(agent),
        "steps": steps,
        "final_metrics": _without_none(metrics),
        "extra": _without_none(
            {
                "task_id": session.task_id,
                "group_id": session.group_id,
                "parent_session_id": session.parent_session_id,
                "metadata": session.metadata or None,
            }
        ),
    }
    return _without_none(row)


def _without_none(fields: Row) -> Row:
    return {name: value for name, value in fields.items() if value is not None}


def _iso(ns: int) -> str:
    seconds, nanoseconds = divmod(ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, tz=timezone.utc).replace(microsecond=nanoseconds // _US_PER_NS).isoformat()


def content_of(content: object, dropped: Counter[str]) -> object:
    """Return the content of a chat message in ATIF's format; unsupported parts are counted."""
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


def _content_part(item: object, dropped: Counter[str]) -> dict[str, object] | None:
    kind = text_at(item, "type")
    if kind == "text":
        return {"type": "text", "text": text_at(item, "text") or ""}
    url = (text_at(item, "image_url", "url") or "") if kind == "image_url" else ""
    media_type = url.removeprefix("data:").partition(";")[0]
    if media_type not in _MEDIA_TYPES:
        dropped[f"{kind} of a trajectory"] += 1
        return None
    return {"type": "image", "source": {"media_type": media_type, "path": url}}
