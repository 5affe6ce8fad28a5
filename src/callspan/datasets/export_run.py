"""Export run: the options of one export, and its statistics: what it took, what it left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean, median

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How rows are written. A format ignores options of others."""

    reasoning: bool = False
    """Keep the model's thinking as `reasoning_content`; OpenAI's trainer refuses it, open ones take it."""
    metadata: bool = False
    """Add `metadata` with session, call, reward; OpenAI's trainer refuses it."""
    pair_by: str = "task_id"
    """Preference pairs: `task_id`, `group_id`, `name`, or the name of a field of the session's metadata."""
    margin: float = 0.0
    """Preference pairs: least difference of rewards, and more than 0."""
    agent_name: str | None = None
    """Trajectories: name of the agent; None: the session's name."""
    agent_version: str = "unknown"
    """Trajectories: version of the agent, which the format requires."""


@dataclass
class Statistics:
    """Counts of one export, filled in while it runs."""

    sessions_found: int = 0
    """Sessions there are to look at."""
    sessions: int = 0
    """Sessions looked at."""
    sessions_kept: int = 0
    calls: int = 0
    """Calls looked at in what was kept."""
    rows: int = 0
    messages: int = 0
    trained: int = 0
    """Assistant messages with weight 1."""
    input_tokens: int = 0
    output_tokens: int = 0
    rewards: list[float] = field(default_factory=list)
    """Of the sessions kept, as far as they have one."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> how many sessions, calls or rows."""
    dropped: Counter[str] = field(default_factory=Counter)
    """What the format cannot hold -> how often it was there."""
    models: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, object]:
        """Return the counts as plain JSON. `reward` is None where no session kept has one."""
        return {
            "sessions": self.sessions,
            "sessions_kept": self.sessions_kept,
            "calls": self.calls,
            "rows": self.rows,
            "messages": self.messages,
            "trained_messages": self.trained,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "reward": _spread(self.rewards),
            "models": dict(self.models.most_common()),
            "left_out": dict(self.left_out.most_common()),
            "dropped": dict((+self.dropped).most_common()),
        }


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"min": min(values), "median": median(values), "mean": fmean(values), "max": max(values)}
