"""The demo's environment, a robot on a small grid that fetches a key and leaves by the exit; and its scripted model.

`#` is a wall, `k` the key, `E` the exit, `~` a pit, `R` where the robot starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from callspan.testing import ReceivedRequest, Reply, ScriptedProvider

Place: TypeAlias = tuple[int, int]

DIRECTIONS: Final[Mapping[str, Place]] = {"north": (0, -1), "south": (0, 1), "east": (1, 0), "west": (-1, 0)}
_NAMES: Final = {"#": "wall", "k": "key", "E": "exit", "~": "pit"}
_STEP_REWARD: Final = -0.05
_KEY_REWARD: Final = 0.5
_EXIT_REWARD: Final = 1.0
_PIT_REWARD: Final = -1.0


class Moved(NamedTuple):
    """The result of an action, as Gymnasium's `step` returns it."""

    observation: str
    reward: float
    terminated: bool
    truncated: bool


class GridWorld:
    """One episode. Bumping into a wall uses a step without moving; the episode is truncated after `max_steps`."""

    def __init__(self, rows: Sequence[str], seed: int, max_steps: int = 12) -> None:
        self.seed = seed
        self.rows = tuple(rows)
        self.max_steps = max_steps
        self.has_key = False
        self.over = False
        self.success = False
        self.total = 0.0
        self.path: list[str] = []
        self._at = next((row.index("R"), y) for y, row in enumerate(rows) if "R" in row)

    @property
    def task(self) -> str:
        """The id of the task that all episodes in this world share."""
        return f"grid-{self.seed}"

    def observe(self) -> str:
        """Return a text that describes where the robot is and what surrounds it."""
        around = ", ".join(f"{name} {self.look(name)}" for name in DIRECTIONS)
        return f"at {self._at[0]},{self._at[1]}{' with the key' if self.has_key else ''}; {around}"

    def look(self, direction: str) -> str:
        """Return what the robot's neighbouring cell in that direction is: wall, key, exit, pit or floor."""
        return _NAMES.get(self._cell(self._beside(direction)), "floor")

    def step(self, direction: str) -> Moved:
        """Move the robot one cell. An unknown direction leaves it where it is."""
        self.path.append(direction)
        target = self._beside(direction)
        cell = self._cell(target)
        if cell != "#":
            self._at = target
        reward = _STEP_REWARD + self._entered(cell)
        self.total = round(self.total + reward, 4)
        truncated = not self.over and len(self.path) >= self.max_steps
        terminated = self.over
        self.over = self.over or truncated
        return Moved(self.observe(), round(reward, 4), terminated, truncated)

    def _entered(self, cell: str) -> float:
        if cell == "k":
            self.has_key = True
            return _KEY_REWARD
        if cell == "E" and self.has_key:
            self.over = self.success = True
            return _EXIT_REWARD
        if cell == "~":
            self.over = True
            return _PIT_REWARD
        return 0.0

    def _beside(self, direction: str) -> Place:
        dx, dy = DIRECTIONS.get(direction, (0, 0))
        return self._at[0] + dx, self._at[1] + dy

    def _cell(self, place: Place) -> str:
        x, y = place
        inside = 0 <= y < len(self.rows) and 0 <= x < len(self.rows[y])
        cell = self.rows[y][x] if inside else "#"
        return "." if cell == "k" and self.has_key else cell


def worlds() -> tuple[GridWorld, ...]:
    """Return the worlds of the demo: for the sync agent, for two async ones, and twice the same for two rollouts."""
    return (
        GridWorld(("R.k", ".#.", "..E"), seed=7),
        GridWorld(("k.E", "R#."), seed=11),
        GridWorld(("~R.", ".#k", "..E"), seed=12),
        GridWorld(("~Rk", "..E"), seed=13),
        GridWorld(("~Rk", "..E"), seed=13),
    )


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
    """Script two rollouts of one task: the first falls into the pit, the second finds the key and then the exit."""
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
