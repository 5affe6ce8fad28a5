"""What the examples share: a scripted provider on loopback, so that they run without a key and a network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from callspan.testing import ScriptedProvider


@contextmanager
def answers(*texts: str) -> Iterator[ScriptedProvider]:
    """Answer any SDK with these texts, in order. Without this block an example asks the real provider."""
    with ScriptedProvider() as provider:
        for text in texts:
            provider.reply(text=text)
        os.environ |= {
            "OPENAI_API_KEY": "scripted", "OPENAI_BASE_URL": provider.openai_url,
            "ANTHROPIC_API_KEY": "scripted", "ANTHROPIC_BASE_URL": provider.anthropic_url,
            "GEMINI_API_KEY": "scripted", "GOOGLE_GEMINI_BASE_URL": provider.google_url,
            "AWS_ACCESS_KEY_ID": "scripted", "AWS_SECRET_ACCESS_KEY": "scripted", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": provider.bedrock_url,
        }  # fmt: skip
        yield provider
