"""Regions: the region in which a request is processed, from its host or, on Bedrock, from the model's id.

Some providers charge about a tenth more for regional endpoints than for global ones.
"""

from __future__ import annotations

import re
from typing import Final

from callspan.record.call import CallRecord

GLOBAL: Final = "global"
UNKNOWN: Final = "unknown"
"""Region of a host that is not the provider's, such as a proxy, and of a custom inference profile."""
BEDROCK: Final = "aws.bedrock"
_OPENAI: Final = "openai"
_PROFILE: Final = re.compile(r"(?:^|/)(global|apac|us-gov|[a-z]{2})\.[a-z]")
"""The region in the id of an inference profile, which may be an ARN."""
_CUSTOM_PROFILE: Final = re.compile("arn:.+(?:application-inference-profile|provisioned-model|custom-model[a-z-]*)/")
_IN_HOST: Final = {
    BEDROCK: re.compile(r"^[a-z-]+\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.(?:amazonaws\.com(?:\.cn)?|api\.aws)"),
    "gcp.vertex_ai": re.compile(
        r"^(?:(?P<one>[a-z]+-[a-z]+[0-9]+)-)?aiplatform(?:\.(?P<several>[a-z]+)\.rep)?\.googleapis\.com"
    ),
    _OPENAI: re.compile(r"^(?:([a-z]{2})\.)?api\.openai\.com"),
}
"""The region in the host, for providers whose prices depend on it; a host without one is global."""


def region_of(record: CallRecord) -> str | None:
    """Return the region, such as `us` or `us-east5`; None if prices do not depend on it or the host is unknown."""
    model = (record.provider == BEDROCK and record.request.model) or ""
    profile = _PROFILE.search(model)
    if profile is not None:
        return profile[1]
    return UNKNOWN if _CUSTOM_PROFILE.match(model) else _region_in_host(record.provider, record.server_address)


def in_global_region(model: str) -> str:
    """Return the id of Bedrock's global profile for the model."""
    path, slash, name = model.rpartition("/")
    return f"{path}{slash}{GLOBAL}.{_PROFILE.sub(lambda found: found[0][-1], name)}"


def _region_in_host(provider: str, host: str | None) -> str | None:
    pattern = _IN_HOST.get(provider)
    if pattern is None or host is None:
        return None
    found = pattern.fullmatch(host)
    if found is None:
        return None if provider == _OPENAI else UNKNOWN
    return next(filter(None, found.groups()), GLOBAL)
