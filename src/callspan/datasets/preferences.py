"""Preferences: pairs of a better and a worse answer to the same prompt, for DPO at OpenAI or with TRL.

A pair comes from two sessions of a task, ranked by reward or score: their first differing answers to one prompt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Final

from callspan.datasets.chat_messages import ChatMessage, Dropped, arguments_of, call_ids, called_tools
from callspan.datasets.fine_tuning import Row
from callspan.datasets.lineage import Turn, turns
from callspan.datasets.selection import Episode, Options, Statistics, checked_calls, is_cut_off
from callspan.records import REWARD, SessionRecord, difference

_FIELDS: Final = ("task_id", "group_id", "name")


def preference_rows(episodes: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield a pair for the best and each worse session of a task: their common prompt, better and worse answer.

    Sessions without a common prompt, or with equal answers, give no pair. Ids of tool calls are ignored.
    """
    for key, group in _by_task(episodes, options, statistics).items():
        ranked = sorted(group, key=itemgetter(1), reverse=True)
        best, best_score = ranked[0]
        if len(ranked) == 1:
            statistics.left_out["pair: no other session with its task (--pair-by)"] += 1
        answers: _Answers | None = None
        for worse, score in ranked[1:]:
            if best_score <= score or difference(best_score, score) < options.margin:
                statistics.left_out["pair: equal rewards, or closer than the margin (--margin, --objective)"] += 1
                continue
            answers = answers or _Answers(best, options, statistics.dropped)
            pair = answers.first_difference(worse, statistics.dropped)
            if isinstance(pair, str):
                statistics.left_out[f"pair: {pair}"] += 1
                continue
            statistics.messages += len(pair[0].messages) + 2
            statistics.trained_messages += 2
            statistics.cut_off_answers += sum(is_cut_off(turn.call) for turn in pair)
            row = _row_for_trl(*pair) if options.pair_format == "trl" else _row_for_openai(*pair)
            if options.metadata:
                row["metadata"] = {"task": key, "sessions": [best.id, worse.id], "rewards": [best_score, score]}
            yield row


def _by_task(
    episodes: Iterable[Episode], options: Options, statistics: Statistics
) -> dict[str, list[tuple[Episode, float]]]:
    """Return the sessions with a fitting call, and their scores; their calls are read again for the pairs."""
    groups: dict[str, list[tuple[Episode, float]]] = defaultdict(list)
    for episode in episodes:
        checked = [fits for _, fits in checked_calls(episode, options, statistics)]
        key, score = _key(episode.summary.session, options.pair_by), episode.summary.score(options.objective)
        if not any(checked):
            continue
        if key is None or score is None:
            missing_field = options.pair_by if key is None else "reward" if options.objective == REWARD else "score"
            statistics.left_out[f"session: no {missing_field}"] += 1
            continue
        groups[key].append((episode, score))
    return groups


def _key(session: SessionRecord, pair_by: str) -> str | None:
    value = getattr(session, pair_by) if pair_by in _FIELDS else session.metadata.get(pair_by)
    return None if value is None else str(value)


class _Answers:
    """The answers of the best session of a task. If it answered a prompt several times, the last answer counts."""

    def __init__(self, best: Episode, options: Options, dropped: Dropped) -> None:
        self._options = options
        session_turns = list(self._turns(best, dropped))
        self._nodes = {turn.answer_node for turn in session_turns}
        self._by_prompt = {_prompt(turn): turn for turn in session_turns}

    def first_difference(self, worse: Episode, dropped: Dropped) -> tuple[Turn, Turn] | str:
        """Return the turns of both sessions with the first prompt that they answer differently, or a reason."""
        reason = "no prompt with different answers"
        for prompt, turn in {_prompt(turn): turn for turn in self._turns(worse, dropped)}.items():
            better = self._by_prompt.get(prompt)
            if better is None or turn.answer_node in self._nodes:
                continue
            invalid = better.defect or turn.defect
            if invalid is None:
                return better, turn
            reason = invalid
        return reason

    def _turns(self, episode: Episode, dropped: Dropped) -> Iterator[Turn]:
        """Yield the turns of a session, without counting its calls again."""
        return turns(episode, self._options, Statistics(dropped=dropped))


def _prompt(turn: Turn) -> bytes:
    return next((node for node, _ in turn.backwards()), b"")


def _row_for_openai(good: Turn, bad: Turn) -> Row:
    prompt: Row = {"messages": good.messages}
    if good.tools:
        prompt["tools"] = good.tools
        if good.parallel_tool_calls is not None:
            prompt["parallel_tool_calls"] = good.parallel_tool_calls
    return {"input": prompt, "preferred_output": [good.answer], "non_preferred_output": [bad.answer]}


def _row_for_trl(good: Turn, bad: Turn) -> Row:
    """Return the pair for chat templates: arguments as objects, tool results with the name of their tool."""
    names: dict[str, str] = {}
    row: Row = {
        "prompt": [_for_template(message, names) for message in good.messages],
        "chosen": [_for_template(good.answer, names)],
        "rejected": [_for_template(bad.answer, names)],
    }
    return row | ({"tools": good.tools} if good.tools else {})


def _for_template(message: ChatMessage, names: dict[str, str]) -> ChatMessage:
    """Return a message for a chat template. `names` has the tools called so far, by the ids of the calls."""
    names.update(zip(call_ids(message), called_tools(message), strict=True))
    template_message = message | {"content": message.get("content") or ""}
    calls, name = message.get("tool_calls"), names.get(str(message.get("tool_call_id")))
    if isinstance(calls, list):
        template_message["tool_calls"] = [_call_for_template(call) for call in calls]
    return template_message | ({"name": name} if message["role"] == "tool" and name else {})


def _call_for_template(call: Row) -> Row:
    function = call.get("function")
    if not isinstance(function, dict):
        return call
    arguments, is_object = arguments_of(str(function["arguments"]))
    return {**call, "function": {**function, "arguments": arguments}} if is_object else call
