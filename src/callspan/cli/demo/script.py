"""The demo's worlds, and the answers that a scripted provider gives to the agents in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from callspan.cli.demo.agent import PROMPTS
from callspan.cli.demo.world import GridWorld

if TYPE_CHECKING:
    from callspan.testing import ReceivedRequest, Reply, ScriptedProvider

_TRIAL: Final[Mapping[int, tuple[tuple[str, ...], str, str]]] = {
    21: (("~Rk", "..E"), "west", "east south"),
    22: (("Rk", "~E"), "south", "east south"),
    23: (("RkE",), "east east", "east east"),
    24: (("kRE",), "east west west east east", "west east east"),
    25: (("~R", "kE"), "west", "south west east"),
    26: (("R~", "kE"), "east", "south east"),
}
"""The worlds of the trial by seed: the rows, and the agent's path under each prompt."""
_VOICE_USAGE: Final[Mapping[str, object]] = {
    "input_tokens": 44, "input_token_details": {"text_tokens": 34, "audio_tokens": 10},
    "output_tokens": 38, "output_token_details": {"text_tokens": 8, "audio_tokens": 30},
    "total_tokens": 82,
}  # fmt: skip


def worlds() -> tuple[GridWorld, ...]:
    """Return the demo's worlds: one for the sync agent, one per async agent, and two equal ones for the rollouts."""
    return (
        GridWorld(("R.k", ".#.", "..E"), seed=7),
        GridWorld(("k.E", "R#."), seed=11),
        GridWorld(("~R.", ".#k", "..E"), seed=12),
        GridWorld(("~Rk", "..E"), seed=13),
        GridWorld(("~Rk", "..E"), seed=13),
    )


def trial_worlds() -> list[tuple[int, GridWorld]]:
    """Return `(prompt version, world)` for each combination of the trial."""
    return [(version, GridWorld(rows, seed)) for version in PROMPTS for seed, (rows, *_) in _TRIAL.items()]


def script_demo(provider: ScriptedProvider) -> None:
    """Script the episodes: a retried 429, a refused request, a tool loop, fully and partly read streams, rollouts."""
    _sync_episode(provider)
    provider.reply(status=400, message="max_tokens: must be greater than or equal to 1", on=_without_system)
    for reply in (
        _tool_reply("move", "north", "The key is right above me.", tokens=(421, 58), to_cache=380),
        _tool_reply("move", "east", "With the key, east along the top row.", tokens=(520, 61), cached=380),
        _tool_reply("move", "east", "The exit is next to me.", tokens=(619, 57), cached=380),
    ):
        provider.reply(reply, on=_in_episode(11))
    thoughts = (
        "I could go west, or maybe east: east leads towards the key, and the exit is below it, while west is a pit."
    )
    provider.reply(text=thoughts, first_token_delay_s=0.04, chunk_delay_s=0.01, input_tokens=139, on=_in_episode(12))
    # Two rollouts of one task: the first falls into the pit, the second finds the key and then the exit.
    for rollout, path in enumerate(("west", "east south")):
        _script_rollout(provider, 13, rollout, path)
    for seed, (_, *paths) in _TRIAL.items():
        for version, path in zip(PROMPTS, paths, strict=True):
            _script_rollout(provider, seed, version, path, prompt=version)


def _sync_episode(provider: ScriptedProvider) -> None:
    from callspan.testing import Reply

    plan = "East twice to the key, then south twice to the exit."
    provider.reply(
        text=plan, reasoning="The wall in the middle leaves two ways; the upper one passes the key.", input_tokens=96,
        output_tokens=75, reasoning_tokens=64, first_token_delay_s=0.06, chunk_delay_s=0.004, on="/responses",
    )  # fmt: skip
    limited = Reply(status=429, retry_after_s=0.25, message="Rate limit reached for requests")
    provider.reply(
        heard="Did you get out?", heard_usage={"type": "duration", "seconds": 1.0}, text="Yes, and with the key.",
        audio=1.5, usage=_VOICE_USAGE, delay_s=0.03, on="/realtime",
    )  # fmt: skip
    for reply in (
        _tool_reply("look", "east", tokens=(214, 15)),
        _tool_reply("move", "east", tokens=(246, 15)),
        limited,
        _tool_reply("move", "east", tokens=(331, 15)),
        _tool_reply("move", "south", tokens=(417, 15), cached=256),
        _tool_reply("move", "south", tokens=(503, 15), cached=384),
    ):
        provider.reply(reply, on=_with_tools)


def _script_rollout(provider: ScriptedProvider, seed: int, number: int, path: str, *, prompt: int = 1) -> None:
    """Script a rollout in the world of this seed, one direction per turn."""
    for turn, direction in enumerate(path.split()):
        tokens = 39 + 16 * (prompt - 1) + 18 * turn
        provider.reply(text=direction, input_tokens=tokens, output_tokens=1, delay_s=0.02, on=_in_rollout(seed, number))


def _tool_reply(
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


def _in_episode(seed: int) -> Callable[[ReceivedRequest], bool]:
    """Return a matcher for the requests of one of several concurrent episodes."""
    return lambda request: request.path.endswith("/messages") and f"Seed {seed}." in str(request.body.get("system"))


def _with_tools(request: ReceivedRequest) -> bool:
    return request.path.endswith("/chat/completions") and "tools" in request.body


def _in_rollout(seed: int, number: int) -> Callable[[ReceivedRequest], bool]:
    """Return a matcher for the requests of one rollout in the world of this seed."""
    return lambda request: request.body.get("seed") == number and f"Seed {seed}." in str(request.body.get("messages"))


def _without_system(request: ReceivedRequest) -> bool:
    return request.path.endswith("/messages") and "system" not in request.body
