"""Fine-tuning: rows of chat messages with tools and weights, as OpenAI, Together, Mistral and TRL take them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from callspan.datasets.chat import ChatMessage, called_tools, flaw, tool_name
from callspan.datasets.lineage import Turn, all_tools, leaves, turns
from callspan.datasets.selection import Episode, Options, Statistics

Row: TypeAlias = dict[str, object]


def rows_per_call(found: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one row per call; only its own answer is trained on, earlier ones have weight 0."""
    for episode in found:
        every = turns(episode.calls, statistics.dropped, reasoning=options.reasoning)
        for turn in every:
            tools = _with_called(turn, all_tools(turn, every))
            yield from _row(turn, tools, {turn.answer_node}, (episode, options, statistics))


def rows_per_session(found: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one row per conversation of a session, whole and without repeated history.

    A session that forked has several; each recorded answer is trained on in one row only. Assistant messages of
    no recorded call (made-up history, calls that were not selected) have weight 0.
    """
    for episode in found:
        every = turns(episode.calls, statistics.dropped, reasoning=options.reasoning)
        answers = {turn.answer_node for turn in every}
        for leaf in leaves(every):
            made = list(_row(leaf, all_tools(leaf, every), answers, (episode, options, statistics)))
            if made:
                answers.difference_update(leaf.path)
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
    """The tools of a call, and of those before it the ones its history calls: trainers want every called one."""
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
    usage = turn.call.usage
    statistics.messages += len(messages)
    statistics.trained += sum(message.get("weight") == 1 for message in messages)
    statistics.models[turn.call.request.model or "unknown"] += 1
    statistics.input_tokens += (usage.input_tokens if usage else None) or 0
    statistics.output_tokens += (usage.output_tokens if usage else None) or 0
