"""Dreams of anthropic: a provider's agent that sorts a memory store. Each is one call, made when its status is read."""

from __future__ import annotations

from typing import Final

from callspan.providers.anthropic.sessions import Sessions
from callspan.providers.base import Api
from callspan.providers.hosted import Fact, Fold, HostedPath, JobFold, ModelRequest
from callspan.providers.wire_json import detached_object, mapping, objects, text, time_ns, word
from callspan.record.call import ErrorInfo, Outcome

_DREAMS: Final[dict[str, Outcome]] = {
    "pending": "in_progress",
    "running": "in_progress",
    "completed": "success",
    "failed": "error",
    "canceled": "cancelled",
}


class Dreams(Sessions):
    """Reads dreams; their recorded bodies have the shape of Messages. Stateless."""

    api: Api = "dreams"
    path = "/v1/dreams"

    def fold(self, path: HostedPath) -> Fold:
        """Return a fold that is not used: dreams have no events."""
        del path
        return JobFold(_dream)

    def events(self, body: object) -> tuple[list[object], str | None]:
        """Return no events: there is no list of them."""
        del body
        return [], None

    def facts(self, path: HostedPath, body: object) -> list[Fact]:
        """Return the facts in a dream or a list of dreams."""
        del path
        return [fact for one in (body, *objects(body, "data")) for fact in _dream(one)]

    def sent(self, path: HostedPath, request: object, answer: object) -> list[Fact]:
        """Return nothing."""
        del path, request, answer
        return []


def _dream(body: object) -> list[Fact]:
    key, status, fields = word(body, "id"), text(body, "status"), mapping(body)
    outcome = _DREAMS.get(status or "")
    if fields is None or key is None or outcome is None or text(body, "type") != "dream":
        return []
    failed = ErrorInfo(
        kind="unknown", type=text(body, "error", "type") or "failed", message=text(body, "error", "message")
    )
    return [ModelRequest(
        key=key, session_id=None, model=text(body, "model", "id"), operation="invoke_agent",
        start_ns=time_ns(body, "created_at"), end_ns=time_ns(body, "ended_at"), status=status, outcome=outcome,
        usage=None if outcome == "in_progress" else detached_object(mapping(fields, "usage") or {}) or None,
        error=failed if outcome == "error" else None,
    )]  # fmt: skip
