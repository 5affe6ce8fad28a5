"""Clients of google-genai, of either colour, that ask the scripted provider."""

from __future__ import annotations

from typing import Any, Final

import pytest
from tests.support.mode import Mode

from callspan.testing import ScriptedProvider

genai: Any = pytest.importorskip("google.genai", reason="google-genai is not installed")

MODEL: Final = "gemini-2.5-flash"


def client_of(mode: Mode, provider: ScriptedProvider | None = None, **options: Any) -> Any:
    """A client; of async tests the part of it that is async."""
    url = (provider or mode.provider).url
    return part_of(mode, genai.Client(api_key="key-of-a-test", http_options={"base_url": url, **options}))


def vertex_client(provider: ScriptedProvider, **options: Any) -> Any:
    """A client of Vertex, in both colours."""
    credentials = pytest.importorskip("google.oauth2.credentials").Credentials("token-of-a-test")
    return genai.Client(
        vertexai=True, project="p", location="us-east5", credentials=credentials,
        http_options={"base_url": provider.url, **options},
    )  # fmt: skip


class Kept:
    """A client until the end of its test; the SDK closes one that is collected."""

    def __init__(self, client: Any, mode: Mode) -> None:
        self._client, self._mode = client, mode

    def close(self) -> Any:
        owner, name = (self._client.aio, "aclose") if self._mode.is_async else (self._client, "close")
        return getattr(owner, name, lambda: None)()  # older versions have none


def part_of(mode: Mode, client: Any) -> Any:
    mode.keep(Kept(client, mode))
    return client.aio if mode.is_async else client
