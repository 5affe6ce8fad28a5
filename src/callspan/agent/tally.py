"""Tally: running sums of a session or a timestep, in constant memory."""

from __future__ import annotations

from threading import Lock

from callspan.record.call import CallRecord
from callspan.record.events import Totals


class Tally:
    """Adds up calls, tools, timesteps and rewards from any thread; `totals()` is the sum so far."""

    __slots__ = (
        "_lock",
        "calls",
        "errors",
        "input_tokens",
        "model_ns",
        "output_tokens",
        "reward",
        "timesteps",
        "tool_ns",
        "tools",
    )

    def __init__(self) -> None:
        self._lock = Lock()
        self.calls = self.errors = self.tools = self.timesteps = self.model_ns = self.tool_ns = 0
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.reward: float | None = None

    def add_call(self, record: CallRecord) -> None:
        """Count a call that has ended."""
        usage = record.usage
        with self._lock:
            self.calls += 1
            self.errors += record.outcome in {"error", "timeout"}
            self.model_ns += record.timing.duration_ns or 0
            if usage is not None:
                self.input_tokens = _sum(self.input_tokens, usage.input_tokens)
                self.output_tokens = _sum(self.output_tokens, usage.output_tokens)

    def add_tool(self, duration_ns: int) -> None:
        """Count a tool that has run for `duration_ns`."""
        with self._lock:
            self.tools += 1
            self.tool_ns += duration_ns

    def add_timestep(self) -> None:
        """Count a timestep that has begun."""
        with self._lock:
            self.timesteps += 1

    def add_reward(self, value: float | None) -> None:
        """Add a reward; None adds nothing, and is not 0."""
        if value is not None:
            with self._lock:
                self.reward = value if self.reward is None else self.reward + value

    def totals(self) -> Totals:
        """Return the sums so far."""
        with self._lock:
            return Totals(
                calls=self.calls,
                errors=self.errors,
                tools=self.tools,
                timesteps=self.timesteps,
                input_tokens=self.input_tokens,
                output_tokens=self.output_tokens,
                reward=self.reward,
                model_ns=self.model_ns,
                tool_ns=self.tool_ns,
            )


def _sum(left: int | None, right: int | None) -> int | None:
    return left if right is None else right if left is None else left + right
