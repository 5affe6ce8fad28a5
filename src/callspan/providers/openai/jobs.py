"""Jobs of openai: runs of evaluations, and videos; their usage is known once they have ended.

The provider works after the request; the object that was created is fetched until its status is final. A video is one
call, a run of an evaluation is one for each model whose usage it states.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from callspan.providers.base import Api, Operation
from callspan.providers.hosted import Fact, JobReader, ModelRequest, SessionFacts, failure
from callspan.providers.openai.responses import Responses
from callspan.providers.wire_json import count, detached_object, mapping, objects, text, time_ns, word
from callspan.record.call import Outcome

_OUTCOMES: Final[Mapping[str, Outcome]] = {
    "queued": "in_progress",
    "in_progress": "in_progress",
    "requires_action": "in_progress",
    "cancelling": "in_progress",
    "completed": "success",
    "incomplete": "success",
    "failed": "error",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "expired": "timeout",
}
_ENDS: Final = ("completed_at", "failed_at", "cancelled_at")
_ERRORS: Final = ("error", "last_error")
_OF_VIDEO: Final = ("seconds", "size", "remixed_from_video_id")
_Job = dict[str, object]


class Jobs(JobReader, Responses):
    """Reads the jobs of one kind; their recorded bodies have the shape of Responses. Stateless."""

    kind: str
    """The `object` of a job."""

    def bodies(self, request: ModelRequest, facts: SessionFacts | None) -> tuple[_Job, Any]:
        """Return request and response in the shape of Responses."""
        del facts
        sent: _Job = {} if request.model is None else {"model": request.model}
        answer: _Job = {"id": request.key, "status": request.status, "output": []}
        if request.usage is not None:
            answer["usage"] = request.usage
        return {**sent, "input": request.input, **request.parameters}, answer

    def of_job(self, job: object) -> list[Fact]:
        """Return the facts of one job; nothing for any other JSON. Total."""
        fields, key = mapping(job), word(job, "id")
        outcome = _OUTCOMES.get(text(job, "status") or "")
        if fields is None or key is None or outcome is None or text(job, "object") != self.kind:
            return []
        return self.read(fields, key, outcome)

    def read(self, job: _Job, key: str, outcome: Outcome) -> list[Fact]:
        """Return the facts of a job of this kind."""
        usage = mapping(job, "usage")
        created = time_ns(job, "started_at", "created_at")
        ended = time_ns(job, *_ENDS)
        prompt = word(job, "prompt")
        return [ModelRequest(
            key=key, session_id=None, model=word(job, "model"), operation=self.operation,
            start_ns=None if ended is None and outcome != "in_progress" else created, end_ns=ended or created,
            input=[] if prompt is None else [{"role": "user", "content": prompt}],
            parameters={name: job[name] for name in _OF_VIDEO if job.get(name) is not None},
            usage=None if usage is None else detached_object(usage), status=text(job, "status"), outcome=outcome,
            error=failure(job, outcome, *_ERRORS),
        )]  # fmt: skip


class Videos(Jobs):
    """Videos, their edits, extensions and remixes. Stateless."""

    api: Api = "videos"
    operation: Operation = "generate_content"
    path = "/videos"
    kind = "video"


class EvalRuns(Jobs):
    """Runs of evaluations, by model; the models of a run are known when it has ended. Stateless."""

    api: Api = "eval_runs"
    operation: Operation = "evaluation"
    path = "/evals/runs"
    kind = "eval.run"

    def read(self, job: _Job, key: str, outcome: Outcome) -> list[Fact]:
        """Return the usage of each model in an ended run."""
        if outcome == "in_progress":
            return []
        return [
            ModelRequest(
                key=f"{key} {model}", session_id=None, model=model, operation=self.operation,
                end_ns=time_ns(job, "created_at"), usage=_of_model(used), status=text(job, "status"),
                outcome=outcome, error=failure(job, outcome, *_ERRORS),
            )
            for used in objects(job, "per_model_usage") if (model := word(used, "model_name")) is not None
        ]  # fmt: skip


def _of_model(used: _Job) -> _Job:
    """Return a model's usage in the shape of chat completions, with the number of its calls."""
    usage = {name: value for name, value in used.items() if name not in ("model_name", "cached_tokens")}
    cached = count(used, "cached_tokens")
    return usage if cached is None else {**usage, "prompt_tokens_details": {"cached_tokens": cached}}
