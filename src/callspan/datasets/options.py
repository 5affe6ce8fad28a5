"""Options: what a format is told beside the choice of sessions."""

from __future__ import annotations

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How rows are written. Formats ignore what does not concern them."""

    reasoning: bool = False
    """Keep the model's thinking as `reasoning_content`; OpenAI's trainer refuses it, open ones take it."""
    metadata: bool = False
    """Add `metadata` with session, call, reward; OpenAI's trainer refuses it."""
    pair_by: str = "task_id"
    """Preference pairs: `task_id`, `group_id`, `name`, or the name of a field of the session's metadata."""
    margin: float = 0.0
    """Preference pairs: least difference of rewards, and more than 0."""
    agent_name: str | None = None
    """Trajectories: None: the session's name."""
    agent_version: str = "unknown"
    """Trajectories: the format wants one."""
