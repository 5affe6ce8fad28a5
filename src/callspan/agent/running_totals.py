"""Running totals: sums of a session or a timestep, in constant memory."""

from __future__ import annotations

from typing import Final, TypeAlias, TypeVar

from callspan.fail_open import ours
from callspan.record.call import CallRecord
from callspan.record.events import Totals

_Sums: TypeAlias = tuple[int, int, int, int, int | None, int | None, float | None, int, int]
"""The fields of `Totals`, in their order."""

_Number = TypeVar("_Number", int, float)
_NOTHING: Final[_Sums] = (0, 0, 0, 0, None, None, None, 0, 0)


class RunningTotals:
    """Adds up calls, tools, timesteps and rewards from any thread; `totals()` is the sum so far.

    Lock-free, because a signal handler may interrupt the holder of a lock: each addition takes a free cell out of a
    list and replaces its content in one step. An interrupt costs a cell, never a sum.
    """

    __slots__ = ("_cells", "_free")

    def __init__(self) -> None:
        self._cells: list[list[_Sums]] = []
        """As many as have ever been in use at once."""
        self._free: list[list[_Sums]] = []

    def add_call(self, record: CallRecord) -> None:
        """Count a call that has ended."""
        usage, failed = record.usage, record.outcome in {"error", "timeout"}
        read, written = (None, None) if usage is None else (usage.input_tokens, usage.output_tokens)
        self._add((1, failed, 0, 0, read, written, None, record.timing.duration_ns or 0, 0))

    def add_tool(self, duration_ns: int) -> None:
        """Count a tool that has run for `duration_ns`."""
        self._add((0, 0, 1, 0, None, None, None, 0, duration_ns))

    def add_timestep(self) -> None:
        """Count a timestep that has begun."""
        self._add((0, 0, 0, 1, None, None, None, 0, 0))

    def add_reward(self, value: float | None) -> None:
        """Add a reward; None adds nothing, and is not 0."""
        if value is not None:
            self._add((0, 0, 0, 0, None, None, value, 0, 0))

    def totals(self) -> Totals:
        """Return the sums so far."""
        cells = list(self._cells)
        sums = cells[0][0] if cells else _NOTHING
        for cell in cells[1:]:
            sums = _plus(sums, cell[0])
        calls, errors, tools, timesteps, read, written, reward, model_ns, tool_ns = sums
        return Totals(
            calls=calls,
            errors=errors,
            tools=tools,
            timesteps=timesteps,
            input_tokens=read,
            output_tokens=written,
            reward=reward,
            model_ns=model_ns,
            tool_ns=tool_ns,
        )

    def _add(self, sums: _Sums) -> None:
        cell = self._take()
        cell[0] = _plus(cell[0], sums)
        self._free.append(cell)

    def _take(self) -> list[_Sums]:
        try:
            return self._free.pop() if self._free else self._new_cell()
        except ours(IndexError):  # another thread has taken it
            return self._new_cell()

    def _new_cell(self) -> list[_Sums]:
        cell = [_NOTHING]
        self._cells.append(cell)
        return cell


def _plus(left: _Sums, right: _Sums) -> _Sums:
    return (
        left[0] + right[0],
        left[1] + right[1],
        left[2] + right[2],
        left[3] + right[3],
        left[4] if right[4] is None else _sum(left[4], right[4]),
        left[5] if right[5] is None else _sum(left[5], right[5]),
        left[6] if right[6] is None else _sum(left[6], right[6]),
        left[7] + right[7],
        left[8] + right[8],
    )


def _sum(left: _Number | None, right: _Number | None) -> _Number | None:
    return left if right is None else right if left is None else left + right
