"""Clients of Bedrock, and what they ask."""

from __future__ import annotations

from typing import Any, Final

import pytest
from tests.support.mode import Mode

from callspan.testing import ScriptedProvider

boto3: Any = pytest.importorskip("boto3", reason="boto3 is not installed")
config: Any = pytest.importorskip("botocore.config")

NOVA: Final = "us.amazon.nova-micro-v1:0"
LLAMA: Final = "meta.llama3-8b-instruct-v1:0"
QUESTION: Final[list[Any]] = [{"role": "user", "content": [{"text": "How are you?"}]}]
ASK: Final[dict[str, Any]] = {"modelId": NOVA, "messages": QUESTION}
KEY, SECRET, TOKEN = "AKIACANARYCANARY0001", "canary-of-a-secret-key", "canary-of-a-session-token"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN,
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("random.random", lambda: 0.0)  # the wait before a retry


class Kept:
    """A client until the end of its test."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    async def close(self) -> None:
        await self._manager.__aexit__(None, None, None)


async def client_of(mode: Mode, provider: ScriptedProvider | None = None, **options: Any) -> Any:
    """A client of boto3, or of aiobotocore."""
    settings = {"endpoint_url": (provider or mode.provider).bedrock_url, "config": config.Config(**options)}
    if not mode.is_async:
        return mode.keep(boto3.Session().client("bedrock-runtime", **settings))
    session = pytest.importorskip("aiobotocore.session", reason="aiobotocore is not installed").get_session()
    asynchronous = pytest.importorskip("aiobotocore.config").AioConfig
    manager = session.create_client("bedrock-runtime", **{**settings, "config": asynchronous(**options)})
    mode.keep(Kept(manager))
    return await manager.__aenter__()
