"""Wires: requests to models that are known by their path alone, which mostly has the model in it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

_MAX_PATHS: Final = 256


class Wire(NamedTuple):
    """The API of a request."""

    api: str
    model: str | None
    """The model in its path; None if it is in the body."""


_MODEL: Final = re.compile(r"/(?:models|tunedModels|endpoints)/([^/:]+):(\w+)$")
"""Gateways put anything before it, Vertex the project, the location and the publisher of the model."""
_INTERACTIONS: Final = "/interactions"
_VERBS: Final = {
    "generateContent": "generate_content",
    "streamGenerateContent": "generate_content",
    "embedContent": "embed_content",
    "batchEmbedContents": "embed_content",
    "predict": "predict",
    "rawPredict": "messages",
    "streamRawPredict": "messages",
}
"""The API of each verb after a model: Gemini's, and Anthropic's on Vertex."""
_UNRECORDED: Final = frozenset({"batchGenerateContent", "asyncBatchEmbedContent", "predictLongRunning"})
"""Verbs that start work whose answer comes later."""
_UNRECORDED_PATHS: Final = ("cachedContents", "tuningJobs", "tunedModels")
"""Last segments of paths whose POSTs cost money: storage of a cache, training."""


@lru_cache(maxsize=_MAX_PATHS)
def find(method: str, path: str) -> Wire | None:
    """Return the API of a request; None if it is not known to call a model."""
    if method.upper() != "POST":
        return None
    if path.endswith(_INTERACTIONS):
        return Wire("interactions", None)
    match = _MODEL.search(path)
    api = None if match is None else _VERBS.get(match[2])
    return None if match is None or api is None else Wire(api, unquote(match[1]))


def unrecorded(method: str, path: str) -> str | None:
    """Return the name of a request that costs money and has no reader; None for others."""
    if method.upper() != "POST":
        return None
    last = path.rpartition("/")[2]
    verb = last.partition(":")[2]
    if verb in _UNRECORDED:
        return f"models/{{id}}:{verb}"
    return last if last in _UNRECORDED_PATHS else None
