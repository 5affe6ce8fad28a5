"""Dreams of anthropic: a provider's agent that sorts a memory store. Each is one call, made when its status is read."""

from __future__ import annotations

from typing import Final

from callspan.providers.anthropic.sessions import Sessions
from callspan.providers.base import Api
from callspan.providers.hosted import Fact, JobReader, ModelRequest
from callspan.providers.wire_json import detached_object, mapping, text, time_ns, word
from callspan.record.call import ErrorInfo, Outcome

_DREAMS: Final[dict[str, Outcome]] = {
    "pending": "in_progress",
    "running": "in_progress",
    "completed": "success",
    "failed": "error",
    "canceled": "cancelled",
}


class Dreams(JobReader, Sessions):
    """Reads dreams; their recorded bodies have the shape of Messages. Stateless."""

    api: Api = "dreams"
    path = "/v1/dreams"

    def of_job(self, job: object) -> list[Fact]:
        """Return the facts of one dream; nothing for any other JSON. Total."""
        key, status = word(job, "id"), text(job, "status")
        outcome = _DREAMS.get(status or "")
        if key is None or outcome is None or text(job, "type") != "dream":
            return []
        failed = ErrorInfo(
            kind="unknown", type=text(job, "error", "type") or "failed", message=text(job, "error", "message")
        )
        return [ModelRequest(
            key=key, session_id=None, model=text(job, "model", "id"), operation="invoke_agent",
            start_ns=time_ns(job, "created_at"), end_ns=time_ns(job, "ended_at"), status=status, outcome=outcome,
            usage=None if outcome == "in_progress" else detached_object(mapping(job, "usage") or {}) or None,
            error=failed if outcome == "error" else None,
        )]  # fmt: skip
