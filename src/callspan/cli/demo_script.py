"""The demo's model: what the scripted provider answers, call by call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callspan.testing import ReceivedRequest, Reply, ScriptedProvider


def script_demo(provider: ScriptedProvider) -> None:
    """Script the episodes: a retried 429, a refused request, a stream read fully and one stopped early, rollouts."""
    _sync_episode(provider)
    provider.reply(status=400, message="max_tokens: must be greater than or equal to 1", on=_without_system)
    for reply in (
        _tool("move", "north", "The key is right above me.", tokens=(421, 58), to_cache=380),
        _tool("move", "east", "With the key, east along the top row.", tokens=(520, 61), cached=380),
        _tool("move", "east", "The exit is next to me.", tokens=(619, 57), cached=380),
    ):
        provider.reply(reply, on=_episode(11))
    musing = (
        "I could go west, or maybe east: east leads towards the key, and the exit is below it, while west is a pit."
    )
    provider.reply(text=musing, first_token_delay_s=0.04, chunk_delay_s=0.01, input_tokens=139, on=_episode(12))
    _rollouts(provider)


def _sync_episode(provider: ScriptedProvider) -> None:
    from callspan.testing import Reply

    plan = "East twice to the key, then south twice to the exit."
    provider.reply(
        text=plan, reasoning="The wall in the middle leaves two ways; the upper one passes the key.", input_tokens=96,
        output_tokens=75, reasoning_tokens=64, first_token_delay_s=0.06, chunk_delay_s=0.004, on="/responses",
    )  # fmt: skip
    limited = Reply(status=429, retry_after_s=0.25, message="Rate limit reached for requests")
    for reply in (
        _tool("look", "east", tokens=(214, 15)),
        _tool("move", "east", tokens=(246, 15)),
        limited,
        _tool("move", "east", tokens=(331, 15)),
        _tool("move", "south", tokens=(417, 15), cached=256),
        _tool("move", "south", tokens=(503, 15), cached=384),
    ):
        provider.reply(reply, on=_with_tools)


def _rollouts(provider: ScriptedProvider) -> None:
    """Two samples of one task: the first finds the pit, the second the key and then the exit."""
    for rollout, direction, tokens in ((0, "west", 39), (1, "east", 39), (1, "south", 57)):
        provider.reply(text=direction, input_tokens=tokens, output_tokens=1, delay_s=0.02, on=_rollout(rollout))


def _tool(
    name: str, direction: str, text: str | None = None, *, tokens: tuple[int, int], cached: int = 0, to_cache: int = 0
) -> Reply:
    from callspan.testing import Reply

    return Reply(
        text=text,
        tool_calls=({"name": name, "arguments": {"direction": direction}},),
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        cache_read_tokens=cached,
        cache_write_tokens=to_cache,
        delay_s=0.03,
    )


def _episode(seed: int) -> Callable[[ReceivedRequest], bool]:
    """Requests of one of the episodes that are played at the same time."""
    return lambda request: request.path.endswith("/messages") and f"Seed {seed}." in str(request.body.get("system"))


def _with_tools(request: ReceivedRequest) -> bool:
    return request.path.endswith("/chat/completions") and "tools" in request.body


def _rollout(number: int) -> Callable[[ReceivedRequest], bool]:
    return lambda request: request.body.get("seed") == number


def _without_system(request: ReceivedRequest) -> bool:
    return request.path.endswith("/messages") and "system" not in request.body
