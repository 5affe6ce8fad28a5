"""Moderations, as OpenAI answers them."""

from __future__ import annotations

import secrets

from callspan.testing.provider.answer import OPENAI, Answer, Wire, input_count
from callspan.testing.provider.script import Json


def _moderations(answer: Answer) -> Json:
    given = answer.request.body.get("input")
    parts = isinstance(given, list) and any(isinstance(part, dict) for part in given)
    count = 1 if parts else input_count(given)
    flagged = answer.reply.refusal is not None
    result = {
        "flagged": flagged,
        "categories": {"harassment": flagged},
        "category_scores": {"harassment": 0.9 if flagged else 0.001},
        "category_applied_input_types": {"harassment": ["text"]},
    }
    return {"id": f"modr-{secrets.token_hex(12)}", "model": answer.model, "results": [result] * count}


MODERATIONS = Wire(OPENAI, _moderations)
"""`POST /v1/moderations`; a reply with a refusal flags the input."""
