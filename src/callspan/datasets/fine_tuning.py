"""Fine-tuning: rows of chat messages with tools and weights for OpenAI, Together, Mistral and TRL; preference pairs.

A preference pair is two sessions of one task, ranked by their rewards, at the first output where they differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeAlias

from callspan.datasets.chat_messages import ChatMessage, called_tools, flaw, tool_name
from callspan.datasets.lineage import Leaves, Tools, Turn, Turns, turns
from callspan.datasets.selection import Episode, Options, Statistics
from callspan.record.events import SessionRecord

Row: TypeAlias = dict[str, object]
_FIELDS: Final = ("task_id", "group_id", "name")


def rows_per_call(found: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one row per call; only its own answer is trained on, earlier ones have weight 0."""
    for episode in found:
        known = Tools()
        for turn in turns(episode, statistics.dropped, reasoning=options.reasoning):
            known.add(turn)
            tools = _with_called(turn, known.along(turn))
            yield from _row(turn, tools, {turn.answer_node}, (episode, options, statistics))


def rows_per_session(found: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one row per conversation of a session, whole and without repeated history.

    A session that forked has several; each recorded answer is trained on in one row only. Assistant messages of
    no recorded call (made-up history, calls that were not selected) have weight 0.
    """
    for episode in found:
        every = Turns(episode, statistics.dropped, reasoning=options.reasoning)
        leaves, known = Leaves(), Tools()
        for number, turn in enumerate(every):
            leaves.add(turn, number)
            known.add(turn)
        answers, chosen = leaves.answers, leaves.numbers
        for number, turn in enumerate(every):
            if number not in chosen:
                continue
            made = list(_row(turn, known.along(turn), answers, (episode, options, statistics)))
            if made:
                answers.difference_update(turn.path)
            yield from made


def _row(
    turn: Turn, tools: Sequence[Row], trained: set[bytes], around: tuple[Episode, Options, Statistics]
) -> Iterator[Row]:
    episode, options, statistics = around
    reason = flaw(turn.whole)
    if reason:
        statistics.left_out[f"row: {reason}"] += 1
        return
    called = {name for message in turn.whole for name in called_tools(message)}
    statistics.dropped["definition of a tool that was called"] += len(called - {tool_name(tool) for tool in tools})
    messages = [_weighed(message, node in trained) for message, node in zip(turn.whole, turn.path, strict=True)]
    row: Row = {"messages": messages}
    if tools:
        row["tools"] = list(tools)
        if turn.parallel_tool_calls is not None:
            row["parallel_tool_calls"] = turn.parallel_tool_calls
    if options.metadata:
        row["metadata"] = _metadata(episode, turn)
    _count(messages, turn, statistics)
    yield row


def _with_called(turn: Turn, along: Sequence[Row]) -> list[Row]:
    """Return the tools of a call, and those that its history calls, because trainers require every called tool."""
    called = {name for message in turn.whole for name in called_tools(message)}
    known = {tool_name(tool) for tool in turn.tools}
    return [*turn.tools, *(tool for tool in along if tool_name(tool) in called - known)]


def _weighed(message: ChatMessage, trained: bool) -> ChatMessage:
    return {**message, "weight": int(trained)} if message["role"] == "assistant" else message


def _metadata(episode: Episode, turn: Turn) -> Row:
    session = episode.summary.session
    return {
        "session_id": session.session_id or None,
        "call_id": turn.call.call_id,
        "reward": episode.summary.reward,
        "model": turn.call.request.model,
        "task_id": session.task_id,
    }


def _count(messages: Sequence[ChatMessage], turn: Turn, statistics: Statistics) -> None:
    statistics.messages += len(messages)
    statistics.trained += sum(message.get("weight") == 1 for message in messages)
    statistics.count_call(turn.call)


def preference_rows(found: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield the best against each worse session of a task: their common prompt, the better and the worse answer.

    Sessions that share no prompt, or have the same answers, give no pair.
    """
    for key, group in _by_task(found, options, statistics).items():
        ranked = sorted(group, key=lambda episode: episode.summary.reward or 0.0, reverse=True)
        best = ranked[0]
        if len(ranked) == 1:
            statistics.left_out["pair: only one session of its task"] += 1
        for worse in ranked[1:]:
            difference = (best.summary.reward or 0.0) - (worse.summary.reward or 0.0)
            if difference <= 0 or difference < options.margin:
                statistics.left_out["pair: rewards too alike"] += 1
                continue
            yield from _pair(key, best, worse, options, statistics)


def _by_task(found: Iterable[Episode], options: Options, statistics: Statistics) -> dict[str, list[Episode]]:
    groups: dict[str, list[Episode]] = defaultdict(list)
    for episode in found:
        key = _key(episode.summary.session, options.pair_by)
        if key is None or episode.summary.reward is None:
            statistics.left_out[f"session: no {options.pair_by}" if key is None else "session: no reward"] += 1
            continue
        groups[key].append(episode)
    return groups


def _key(session: SessionRecord, pair_by: str) -> str | None:
    value = getattr(session, pair_by) if pair_by in _FIELDS else session.metadata.get(pair_by)
    return None if value is None else str(value)


def _pair(key: str, best: Episode, worse: Episode, options: Options, statistics: Statistics) -> Iterator[Row]:
    """Return the first prompt of both with different answers."""
    every = Turns(best, statistics.dropped, reasoning=options.reasoning)
    by_prompt: dict[bytes, tuple[int, bytes]] = {}
    for number, turn in enumerate(every):
        by_prompt.setdefault(_question(turn), (number, turn.answer_node))
    for turn in turns(worse, statistics.dropped, reasoning=options.reasoning):
        number, answer_node = by_prompt.get(_question(turn), (-1, turn.answer_node))
        if answer_node == turn.answer_node:
            continue
        good = next(islice(every, number, None))
        reason = flaw(good.whole) or flaw(turn.whole)
        if reason is None:
            statistics.messages += len(good.messages) + 2
            statistics.trained += 2
            yield _preference_row(key, good, turn, (best, worse), options)
            return
        statistics.left_out[f"pair: {reason}"] += 1
    statistics.left_out["pair: no prompt with different answers"] += 1


def _question(turn: Turn) -> bytes:
    return turn.nodes[-1] if turn.nodes else b""


def _preference_row(key: str, good: Turn, bad: Turn, pair: tuple[Episode, Episode], options: Options) -> Row:
    prompt: Row = {"messages": _without_weights(good.messages)}
    if good.tools:
        prompt["tools"] = good.tools
        if good.parallel_tool_calls is not None:
            prompt["parallel_tool_calls"] = good.parallel_tool_calls
    row: Row = {"input": prompt, "preferred_output": [good.answer], "non_preferred_output": [bad.answer]}
    if options.metadata:
        sessions = [episode.id for episode in pair]
        row["metadata"] = {"task": key, "sessions": sessions, "rewards": [e.summary.reward for e in pair]}
    return row


def _without_weights(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    return [{name: value for name, value in message.items() if name != "weight"} for message in messages]
