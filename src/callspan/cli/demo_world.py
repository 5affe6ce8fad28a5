"""The demo's environment: a robot on a small grid that fetches a key and leaves by the exit.

`#` is a wall, `k` the key, `E` the exit, `~` a pit, `R` where the robot starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

Place: TypeAlias = tuple[int, int]

DIRECTIONS: Final[Mapping[str, Place]] = {"north": (0, -1), "south": (0, 1), "east": (1, 0), "west": (-1, 0)}
_NAMES: Final = {"#": "wall", "k": "key", "E": "exit", "~": "pit"}
_STEP_REWARD: Final = -0.05
_KEY_REWARD: Final = 0.5
_EXIT_REWARD: Final = 1.0
_PIT_REWARD: Final = -1.0


class Moved(NamedTuple):
    """What the environment answers to an action, as Gymnasium has it."""

    observation: str
    reward: float
    terminated: bool
    truncated: bool


class GridWorld:
    """One episode. Bumping into a wall costs a step and moves nothing; it is truncated after `max_steps`."""

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
        """What all episodes in this world have in common."""
        return f"grid-{self.seed}"

    def observe(self) -> str:
        """Return in words where the robot is and what lies around it."""
        around = ", ".join(f"{name} {self.look(name)}" for name in DIRECTIONS)
        return f"at {self._at[0]},{self._at[1]}{' with the key' if self.has_key else ''}; {around}"

    def look(self, direction: str) -> str:
        """Return what lies next to the robot: wall, key, exit, pit or floor."""
        return _NAMES.get(self._cell(self._beside(direction)), "floor")

    def step(self, direction: str) -> Moved:
        """Move the robot one field. An unknown direction moves nothing."""
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
