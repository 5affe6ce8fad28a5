"""Fine-tuning: rows of chat messages with tools, and weights for OpenAI, Together, Fireworks and Mistral.

Other trainers, such as TRL's, ignore weights and train on every assistant message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from callspan.datasets.chat_messages import ChatMessage, called_tools
from callspan.datasets.lineage import Leaves, Tools, Turn, turns
from callspan.datasets.selection import Episode, Options, Statistics, is_cut_off
from callspan.records import tool_name

Row: TypeAlias = dict[str, object]


def rows_per_call(episodes: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one row per call; only its own answer is trained on, earlier ones have weight 0.

    The answer is the last message, so that trainers without weights can use the others as the prompt.
    """
    for episode in episodes:
        session_tools = Tools()
        for turn in _valid_turns(episode, options, statistics):
            session_tools.add(turn)
            tools = _with_called_tools(turn, session_tools.along(turn))
            row = _row(turn, tools, {turn.answer_node: is_cut_off(turn.call)}, statistics)
            yield row | _metadata(episode, turn, options)


def rows_per_session(episodes: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one row per conversation of a session, without repeated history.

    A forked session has several conversations; each recorded answer is trained on in only one row. Assistant messages
    without a recorded call (invented history, calls that were not selected) have weight 0. Trainers without weights
    train on these too, and in each row on the messages that forks share.
    """
    for episode in episodes:
        session_turns = list(_valid_turns(episode, options, statistics))
        leaves, session_tools, answers = Leaves(), Tools(), dict[bytes, bool]()
        for number, turn in enumerate(session_turns):
            leaves.add(turn, number)
            session_tools.add(turn)
            statistics.left_out.update(["call: the same messages as another"] if turn.answer_node in answers else [])
            answers[turn.answer_node] = is_cut_off(turn.call)
        leaf_numbers = leaves.numbers
        for number, turn in enumerate(session_turns):
            if number in leaf_numbers:
                row = _row(turn, session_tools.along(turn), answers, statistics)
                yield row | _metadata(episode, turn, options)
                for node in turn.path:
                    answers.pop(node, None)


def _valid_turns(episode: Episode, options: Options, statistics: Statistics) -> Iterator[Turn]:
    """Yield the exported calls with messages that trainers accept; count the others."""
    for turn in turns(episode, options, statistics):
        reason = turn.defect
        if reason is None:
            yield turn
        else:
            statistics.left_out[f"row: {reason}"] += 1


def _row(turn: Turn, tools: Sequence[Row], trained: Mapping[bytes, bool], statistics: Statistics) -> Row:
    """Return the row of a turn. `trained` has the nodes to train on and whether each is cut."""
    called_names = {name for message in turn.whole for name in called_tools(message)}
    if undefined := called_names - {tool_name(tool) for tool in tools}:
        statistics.dropped["definition of a tool that was called"] += len(undefined)
    messages = [_with_weight(message, node in trained) for message, node in zip(turn.whole, turn.path, strict=True)]
    row: Row = {"messages": messages}
    if tools:
        row["tools"] = list(tools)
        if turn.parallel_tool_calls is not None:
            row["parallel_tool_calls"] = turn.parallel_tool_calls
    statistics.messages += len(messages)
    statistics.trained_messages += sum(message.get("weight") == 1 for message in messages)
    statistics.cut_off_answers += sum(trained.get(node, False) for node in turn.path)
    return row


def _with_called_tools(turn: Turn, conversation_tools: Sequence[Row]) -> list[Row]:
    """Return the tools of a call and those called in its history, because trainers require their definitions."""
    called_names = {name for message in turn.whole for name in called_tools(message)}
    defined_names = {tool_name(tool) for tool in turn.tools}
    return [*turn.tools, *(tool for tool in conversation_tools if tool_name(tool) in called_names - defined_names)]


def _with_weight(message: ChatMessage, trained: bool) -> ChatMessage:
    return {**message, "weight": int(trained)} if message["role"] == "assistant" else message


def _metadata(episode: Episode, turn: Turn, options: Options) -> Row:
    """Return the field `metadata` of a row, or no field."""
    if not options.metadata:
        return {}
    session = episode.summary.session
    metadata: Row = {
        "session_id": session.session_id or None,
        "call_id": turn.call.call_id,
        "reward": episode.summary.reward,
        "model": turn.call.request.model,
        "task_id": session.task_id,
    }
    if episode.scores:
        metadata["scores"] = episode.scores
    return {"metadata": metadata}
