"""Preference pairs: two sessions of one task, ranked by their rewards, at the first output where they differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from callspan.datasets.chat import ChatMessage, flaw
from callspan.datasets.fine_tuning import Row
from callspan.datasets.lineage import Turn, turns
from callspan.datasets.selection import Episode, Options, Statistics
from callspan.record.events import SessionRecord

_FIELDS: Final = ("task_id", "group_id", "name")


def preference_rows(found: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield the best against each worse session of a task: the prompt they share, the better answer, the worse one.

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
    """The first identical prompt of both with different answers."""
    by_prompt: dict[bytes, Turn] = {}
    for turn in turns(best.calls, statistics.dropped, reasoning=options.reasoning):
        by_prompt.setdefault(_question(turn), turn)
    for turn in turns(worse.calls, statistics.dropped, reasoning=options.reasoning):
        good = by_prompt.get(_question(turn))
        if good is None or good.answer_node == turn.answer_node:
            continue
        reason = flaw(good.whole) or flaw(turn.whole)
        if reason is None:
            statistics.messages += len(good.messages) + 2
            statistics.trained += 2
            yield _row(key, good, turn, (best, worse), options)
            return
        statistics.left_out[f"pair: {reason}"] += 1
    statistics.left_out["pair: no prompt with different answers"] += 1


def _question(turn: Turn) -> bytes:
    return turn.nodes[-1] if turn.nodes else b""


def _row(key: str, good: Turn, bad: Turn, pair: tuple[Episode, Episode], options: Options) -> Row:
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
