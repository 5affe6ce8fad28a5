"""Rollouts for reinforcement learning: the token ids of prompts and completions where the server returned them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from callspan.datasets.fine_tuning import Row
from callspan.datasets.lineage import Turn, turns
from callspan.datasets.selection import Episode, Options, Statistics
from callspan.providers.json_readers import dig, items, number, objects
from callspan.record.call import CallRecord

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
        every = turns(episode.calls, statistics.dropped, reasoning=options.reasoning)
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
