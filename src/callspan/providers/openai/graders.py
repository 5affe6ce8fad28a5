"""Graders: requests and responses of `/fine_tuning/alpha/graders/run`: a sample of a model, and its reward."""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.providers.base import Api, Operation, ResponseInfo
from callspan.providers.copies import detached
from callspan.providers.json_readers import dig, integer, mapping, text
from callspan.providers.openai.parts import prompt_messages
from callspan.providers.openai.response import SingleBody, bare_info, read_request
from callspan.providers.openai.usage import usage_of
from callspan.record.call import Request, Usage
from callspan.record.codec import encode_json
from callspan.record.messages import Conversation, Message, Text

_USAGE_PER_MODEL: Final = "model_grader_token_usage_per_model"


class GraderRuns:
    """The endpoint that runs a grader once. Stateless."""

    api: Api = "graders"
    operation: Operation = "evaluation"
    path = "/graders/run"
    message_key = "model_sample"

    def request(self, body: object) -> Request:
        """Return the grader's model, parameters and counts of a request, without its body. Total."""
        model = text(body, "grader", "model") or None
        return msgspec.structs.replace(read_request(body, self.message_key), model=model)

    def accumulator(self) -> SingleBody:
        """Return a fresh accumulator."""
        return SingleBody("reward")

    def response_info(self, body: object) -> ResponseInfo:
        """Return usage and error of an answer. Total."""
        return bare_info(body, holds="reward", usage=_usage(body))

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the sample that was graded, and rewards and scores as JSON; either side may be None."""
        graded = isinstance(response, dict) and "reward" in response
        return Conversation(
            input=prompt_messages(dig(request, "model_sample")),
            output=[Message(role="assistant", parts=[Text(text=encode_json(response).decode())])] if graded else [],
        )


def _usage(body: object) -> Usage | None:
    """Return the usage of the run, else that of the only grading model; for several models only the sum is known.

    The reference documents `token_usage` as an object, the SDK as a number.
    """
    per_model = mapping(body, _USAGE_PER_MODEL) or {}
    for counters in (dig(body, "metadata", "token_usage"), *(per_model.values() if len(per_model) == 1 else ())):
        if (usage := usage_of({"usage": counters})) is not None:
            return usage
    total = integer(body, "metadata", "token_usage")
    return None if total is None else Usage(total_tokens=total, raw=detached(per_model) or None)
