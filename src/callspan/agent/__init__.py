"""The agent and its environment: sessions, timesteps, tools, events, rewards."""

from __future__ import annotations

from callspan.agent.api import (
    current_session,
    current_timestep,
    guardrail,
    handoff,
    invoke_agent,
    session,
    timestep,
    tool,
)
from callspan.agent.api_misuse import MisuseError
from callspan.agent.context import content, copy_context, metadata
from callspan.agent.operations import Tool
from callspan.agent.rewards import feedback, reward
from callspan.agent.sessions import Session, Timestep
from callspan.process.callbacks import add_callback

__all__ = [
    "MisuseError",
    "Session",
    "Timestep",
    "Tool",
    "add_callback",
    "content",
    "copy_context",
    "current_session",
    "current_timestep",
    "feedback",
    "guardrail",
    "handoff",
    "invoke_agent",
    "metadata",
    "reward",
    "session",
    "timestep",
    "tool",
]
