"""Preferences: pairs of a better and a worse answer to one prompt, for DPO at OpenAI or with TRL.

A pair is two sessions of one task, ranked by their rewards or scores, at the first output where they differ.
"""

from __future__ import annotations

import hashlib
from collections import ChainMap, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

from callspan.datasets.chat_messages import ChatMessage, arguments_of, call_ids, called_tools, canonical, flaw
from callspan.datasets.fine_tuning import Row
from callspan.datasets.lineage import Turn, Turns, turns
from callspan.datasets.selection import Episode, Options, Statistics, is_cut_off
from callspan.record.events import SessionRecord
from callspan.record.messages import INSTRUCTION_ROLES
from callspan.record.reward_sums import REWARD

_FIELDS: Final = ("task_id", "group_id", "name")


def preference_rows(found: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield the best against each worse session of a task: their common prompt, the better and the worse answer.

    Sessions that share no prompt, or have the same answers, give no pair. Ids of tool calls are no difference.
    """
    for key, group in _by_task(found, options, statistics).items():
        ranked = sorted(group, key=lambda episode: episode.score or 0.0, reverse=True)
        best = ranked[0]
        if len(ranked) == 1:
            statistics.left_out["pair: only one session of its task"] += 1
        answers: _Answers | None = None
        for worse in ranked[1:]:
            difference = (best.score or 0.0) - (worse.score or 0.0)
            if difference <= 0 or difference < options.margin:
                statistics.left_out["pair: rewards too alike"] += 1
                continue
            answers = answers or _Answers(best, options, statistics)
            pair = answers.first_difference(worse, options, statistics)
            if isinstance(pair, str):
                statistics.left_out[f"pair: {pair}"] += 1
                continue
            statistics.messages += len(pair[0].messages) + 2
            statistics.trained += 2
            statistics.cut_off += sum(is_cut_off(turn.call) for turn in pair)
            yield _preference_row(key, *pair, (best, worse), options)


def _by_task(found: Iterable[Episode], options: Options, statistics: Statistics) -> dict[str, list[Episode]]:
    groups: dict[str, list[Episode]] = defaultdict(list)
    for episode in found:
        key = _key(episode.summary.session, options.pair_by)
        if key is None or episode.score is None:
            missing = options.pair_by if key is None else "reward" if episode.objective == REWARD else "score"
            statistics.left_out[f"session: no {missing}"] += 1
            continue
        groups[key].append(episode)
    return groups


def _key(session: SessionRecord, pair_by: str) -> str | None:
    value = getattr(session, pair_by) if pair_by in _FIELDS else session.metadata.get(pair_by)
    return None if value is None else str(value)


class _Place(NamedTuple):
    """Where a turn stands in its conversation; equal for turns that are equal but for the ids of tool calls."""

    prompt: bytes = b""
    prompt_without_system: bytes = b""
    answer: bytes = b""


class _Places:
    """The places of one session's turns, in order. Each id of a tool call is numbered by its own place."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Place] = {}
        """By the node of the prompt's last message; each message is compared once, however often it is sent."""
        self._ids: dict[str, str] = {}
        """What stands for the ids in the prompt of the turn before."""
        self._calls = 0
        """How many tool calls that prompt has: an id may stand for several, one after the other."""
        self._before: list[bytes] = []

    def of(self, turn: Turn) -> _Place:
        """Return the place of a turn."""
        read = len(self._before)
        if turn.nodes[read - 1 : read] != self._before[-1:]:
            self._ids, self._calls, read = {}, 0, 0  # another conversation
        place = self._known[turn.nodes[read - 1]] if read else _Place()
        for message, node in zip(turn.messages[read:], turn.nodes[read:], strict=True):
            found = self._number(message)
            self._ids.update(found)
            self._calls += len(found)
            known = self._known.get(node)
            place = self._known[node] = _after(place, message, self._ids) if known is None else known
        self._before = turn.nodes
        return place._replace(answer=canonical(turn.answer, ChainMap(self._number(turn.answer), self._ids)))

    def _number(self, message: ChatMessage) -> dict[str, str]:
        return {call_id: f"<{number}>" for number, call_id in enumerate(call_ids(message), self._calls)}


def _after(place: _Place, message: ChatMessage, ids: Mapping[str, str]) -> _Place:
    own = hashlib.sha256(canonical(message, ids)).digest()
    prompt, without_system = (hashlib.sha256(before + own).digest() for before in place[:2])
    return _Place(prompt, place.prompt_without_system if message["role"] in INSTRUCTION_ROLES else without_system)


class _Answers:
    """The answers of the best session of a task to each prompt, the first time."""

    def __init__(self, best: Episode, options: Options, statistics: Statistics) -> None:
        self._turns = Turns(best, statistics.dropped, reasoning=options.reasoning)
        self._by_prompt: dict[bytes, tuple[int, bytes]] = {}
        self._without_system: set[bytes] = set()
        places = _Places()
        for number, place in enumerate(map(places.of, self._turns)):
            self._by_prompt.setdefault(place.prompt, (number, place.answer))
            self._without_system.add(place.prompt_without_system)

    def first_difference(self, worse: Episode, options: Options, statistics: Statistics) -> tuple[Turn, Turn] | str:
        """Return the turns of both sessions with the first prompt that they answer differently; else why not."""
        reason, places = "no prompt with different answers", _Places()
        for turn in turns(worse, statistics.dropped, reasoning=options.reasoning):
            place = places.of(turn)
            if place.prompt not in self._by_prompt:
                if place.prompt_without_system in self._without_system:
                    reason = "prompts differ only in the system message"
                continue
            number, answer = self._by_prompt[place.prompt]
            if answer == place.answer:
                continue
            better = next(islice(self._turns, number, None))
            refused = flaw(better.whole) or flaw(turn.whole)
            if refused is None:
                return better, turn
            reason = refused
        return reason


def _preference_row(key: str, good: Turn, bad: Turn, pair: tuple[Episode, Episode], options: Options) -> Row:
    row = _row_for_trl(good, bad) if options.pair_format == "trl" else _row_for_openai(good, bad)
    if options.metadata:
        sessions = [episode.id for episode in pair]
        row["metadata"] = {"task": key, "sessions": sessions, "rewards": [episode.score for episode in pair]}
    return row


def _row_for_openai(good: Turn, bad: Turn) -> Row:
    prompt: Row = {"messages": good.messages}
    if good.tools:
        prompt["tools"] = good.tools
        if good.parallel_tool_calls is not None:
            prompt["parallel_tool_calls"] = good.parallel_tool_calls
    return {"input": prompt, "preferred_output": [good.answer], "non_preferred_output": [bad.answer]}


def _row_for_trl(good: Turn, bad: Turn) -> Row:
    """Return the pair as chat templates take it: arguments as objects, tool results with the name of their tool."""
    names: dict[str, str] = {}
    row: Row = {
        "prompt": [_for_template(message, names) for message in good.messages],
        "chosen": [_for_template(good.answer, names)],
        "rejected": [_for_template(bad.answer, names)],
    }
    return row | ({"tools": good.tools} if good.tools else {})


def _for_template(message: ChatMessage, names: dict[str, str]) -> ChatMessage:
    """Return a message for a chat template. `names` are those of the tools called so far, by the ids of the calls."""
    names.update(zip(call_ids(message), called_tools(message), strict=True))
    written = message | {"content": message.get("content") or ""}
    calls, name = message.get("tool_calls"), names.get(str(message.get("tool_call_id")))
    if isinstance(calls, list):
        written["tool_calls"] = [_call_for_template(call) for call in calls]
    return written | ({"name": name} if message["role"] == "tool" and name else {})


def _call_for_template(call: Row) -> Row:
    function = call.get("function")
    if not isinstance(function, dict):
        return call
    arguments, is_object = arguments_of(str(function["arguments"]))
    return {**call, "function": {**function, "arguments": arguments}} if is_object else call
