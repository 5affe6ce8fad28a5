"""The demo's environment: a robot on a small grid fetches a key and leaves by the exit.

`#` is a wall, `k` the key, `E` the exit, `~` a pit, `R` the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

Position: TypeAlias = tuple[int, int]

DIRECTIONS: Final[Mapping[str, Position]] = {"north": (0, -1), "south": (0, 1), "east": (1, 0), "west": (-1, 0)}
_CELL_NAMES: Final = {"#": "wall", "k": "key", "E": "exit", "~": "pit"}
_STEP_REWARD: Final = -0.05
_KEY_REWARD: Final = 0.5
_EXIT_REWARD: Final = 1.0
_PIT_REWARD: Final = -1.0
_MAX_STEPS: Final = 12


class MoveResult(NamedTuple):
    """The result of an action, as Gymnasium's `step` returns it."""

    observation: str
    reward: float
    terminated: bool
    truncated: bool


class GridWorld:
    """One episode. Bumping into a wall uses a step without moving; the episode is truncated after `_MAX_STEPS`."""

    def __init__(self, rows: Sequence[str], seed: int) -> None:
        self.seed = seed
        self.rows = tuple(rows)
        self.has_key = False
        self.over = False
        self.success = False
        self.total = 0.0
        self.path: list[str] = []
        self._position = next((row.index("R"), y) for y, row in enumerate(rows) if "R" in row)

    @property
    def task(self) -> str:
        """The id of the task that all episodes in this world share."""
        return f"grid-{self.seed}"

    def observe(self) -> str:
        """Return a description of the robot's position and neighbouring cells."""
        neighbours = ", ".join(f"{name} {self.look(name)}" for name in DIRECTIONS)
        return f"at {self._position[0]},{self._position[1]}{' with the key' if self.has_key else ''}; {neighbours}"

    def look(self, direction: str) -> str:
        """Return the kind of the neighbouring cell in that direction: wall, key, exit, pit or floor."""
        return _CELL_NAMES.get(self._cell_at(self._neighbour(direction)), "floor")

    def step(self, direction: str) -> MoveResult:
        """Move the robot one cell. An unknown direction does not move it."""
        self.path.append(direction)
        target = self._neighbour(direction)
        cell = self._cell_at(target)
        if cell != "#":
            self._position = target
        reward = _STEP_REWARD + self._enter(cell)
        self.total = round(self.total + reward, 4)
        truncated = not self.over and len(self.path) >= _MAX_STEPS
        terminated = self.over
        self.over = self.over or truncated
        return MoveResult(self.observe(), round(reward, 4), terminated, truncated)

    def _enter(self, cell: str) -> float:
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

    def _neighbour(self, direction: str) -> Position:
        dx, dy = DIRECTIONS.get(direction, (0, 0))
        return self._position[0] + dx, self._position[1] + dy

    def _cell_at(self, position: Position) -> str:
        x, y = position
        inside = 0 <= y < len(self.rows) and 0 <= x < len(self.rows[y])
        cell = self.rows[y][x] if inside else "#"
        return "." if cell == "k" and self.has_key else cell
