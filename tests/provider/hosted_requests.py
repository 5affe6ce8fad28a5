"""Hosted agents of the scripted provider, and jobs: recognises requests about them, and answers them until they end.

Jobs are runs of evaluations, videos and dreams. Creating one takes the next reply of the script,
whose tokens it states after `polls` fetches.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from datetime import datetime, timezone
from functools import partial

from callspan.testing.provider.rendering import Rendering
from callspan.testing.provider.script import Json, ReceivedRequest, Reply
from tests.provider.anthropic_sessions import Sessions
from tests.provider.openai_agents import AgentSessions
from tests.provider.pages import page
from tests.provider.stateful import Scripted, render_stateful

_PATH = re.compile(r"/v1(?P<agents>/agents)?/sessions(?:/(?P<rest>.*))?$")
_JOBS = re.compile(r"(?P<of>/evals/[^/]+/runs|/videos|/v1/dreams)(?:/(?P<id>[^/]+))?(?P<act>/[a-z_]+)?$")
_KINDS = {"/v1/dreams": "dream", "/videos": "video"}
"""The kinds of jobs by their paths, but for runs of evaluations."""
_MODEL = "scripted-model"


class HostedAgents:
    """The hosted agents of both providers. Safe from any thread."""

    def __init__(self) -> None:
        self._anthropic, self._openai, self._jobs = Sessions(), AgentSessions(), Jobs()

    def rendering(self, request: ReceivedRequest, take: Scripted) -> Rendering | None:
        """Return the rendering for a request about sessions or jobs; None for any other.

        What is scripted for its path wins.
        """
        path = _PATH.search(request.path)
        if path is None:
            return self._jobs.rendering(request, take)
        of = self._openai if path["agents"] else self._anthropic
        rest = path["rest"].split("/") if path["rest"] else []
        made = partial(of.answer, request, rest, partial(take, request, inference=True))
        return render_stateful(request, take(request, inference=False), made)


class _Job:
    """One job, with its final result."""

    def __init__(self, kind: str, body: Json, reply: Reply) -> None:
        self.id = f"{kind}_{secrets.token_hex(8)}"
        self._kind, self._body, self._reply, self._left = kind, body, reply, reply.polls
        self._created = int(time.time())

    def json(self, *, fetched: bool) -> Json:
        """The job as it is now; each fetch brings its end nearer."""
        if fetched and self._left:
            self._left -= 1
            return self._object(ended=False)
        return self._object(ended=fetched)

    def _object(self, *, ended: bool) -> Json:
        model = self._reply.model or self._body.get("model") or _MODEL
        states = ("pending" if self._kind == "dream" else "queued", "completed" if ended else None)
        end = int(time.time()) if ended else None
        about: Json = {"id": self.id, "status": states[1] or states[0], "created_at": self._created, "error": None}
        make = {"evalrun": self._eval, "video": self._video, "dream": self._dream}[self._kind]
        return {**about, **make(model, end)}

    def _tokens(self) -> Json:
        sent, out = self._reply.input_tokens, self._reply.output_tokens
        return {"prompt_tokens": sent, "completion_tokens": out, "total_tokens": sent + out}

    def _eval(self, model: object, end: int | None) -> Json:
        used = {**self._tokens(), "model_name": model, "invocation_count": 1, "cached_tokens": 0}
        return {
            "object": "eval.run", "model": model, "eval_id": "eval_scripted", "name": "", "report_url": "",
            "per_model_usage": [] if end is None else [used], "per_testing_criteria_results": [],
            "data_source": self._body.get("data_source") or {}, "metadata": {},
            "result_counts": {"errored": 0, "failed": 0, "passed": 0, "total": 0},
        }  # fmt: skip

    def _video(self, model: object, end: int | None) -> Json:
        about = {name: self._body.get(name) for name in ("prompt", "seconds", "size")}
        return {"object": "video", "model": model, "progress": 0 if end is None else 100, "completed_at": end, **about}

    def _dream(self, model: object, end: int | None) -> Json:
        reply, moment = self._reply, datetime.fromtimestamp(self._created, tz=timezone.utc).isoformat()
        tokens = {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens}
        usage = tokens if end is not None else dict.fromkeys(tokens, 0)
        return {
            "type": "dream", "model": model if isinstance(model, dict) else {"id": model}, "created_at": moment,
            "ended_at": None if end is None else datetime.fromtimestamp(end, tz=timezone.utc).isoformat(),
            "inputs": [], "outputs": [], "output_behavior": {},
            "usage": {**usage, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
        }  # fmt: skip


class Jobs:
    """The jobs of both providers. Safe from any thread."""

    def __init__(self) -> None:
        self._known: dict[str, _Job] = {}
        self._lock = threading.Lock()

    def rendering(self, request: ReceivedRequest, take: Scripted) -> Rendering | None:
        """Return the rendering for a request about jobs; None for any other. A reply for its path comes first."""
        found = _JOBS.search(request.path)
        if found is None or "/sessions/" in request.path:
            return None
        kind = _KINDS.get(found["of"], "evalrun")
        creates = request.method == "POST" and (
            found["id"] in (None, "edits", "extensions") or found["act"] == "/remix"
        )
        reply = take(request, inference=creates)
        made = (
            partial(self._created, request, kind, reply) if creates else partial(self._read, request, kind, found["id"])
        )
        return render_stateful(request, reply, made)

    def _created(self, request: ReceivedRequest, kind: str, reply: Reply) -> Json:
        job = _Job(kind, request.body, reply)
        with self._lock:
            self._known[job.id] = job
        return job.json(fetched=False)

    def _read(self, request: ReceivedRequest, kind: str, job_id: str | None) -> Json | None:
        with self._lock:
            if job_id is None:
                jobs = [job.json(fetched=True) for job in self._known.values() if job.id.startswith(f"{kind}_")]
                return page(jobs, request.query)
            known = self._known.get(job_id)
            return None if known is None else known.json(fetched=True)
