"""Messages, whose refusals give credit for another model where the client asks for it."""

from __future__ import annotations

import re
from dataclasses import replace

from callspan.testing.provider.answer import Answer
from callspan.testing.provider.anthropic_messages import MESSAGES
from callspan.testing.provider.rendering import Route
from callspan.testing.provider.script import Json

_CREDIT: Json = {
    "type": "refusal",
    "category": None,
    "explanation": None,
    "fallback_credit_token": "scripted",
    "fallback_has_prefill_claim": False,
    "recommended_model": None,
}


def _message(answer: Answer) -> Json:
    body = MESSAGES.body(answer)
    has_credit = body["stop_reason"] == "refusal" and "fallback" in answer.request.headers.get("anthropic-beta", "")
    return {**body, "stop_details": _CREDIT} if has_credit else body


CREDITED = replace(MESSAGES, body=_message)
MESSAGE = Route("POST", re.compile(r"/messages$"), CREDITED)
