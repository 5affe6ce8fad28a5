"""No field of the SDKs' own types changes a price unnoticed: each is a dimension, or stands here with the reason.

A newer SDK than the one that was read is compared at full scale alone, as in `tests/documents/test_coverage.py`.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any, Final, get_type_hints

import pytest

from callspan.cost.dimensions import DIMENSIONS
from tests.documents.sdk_methods import is_read
from tests.scale import FULL

REQUESTS: Final = (
    "openai.types.chat.completion_create_params:CompletionCreateParamsBase",
    "openai.types.responses.response_create_params:ResponseCreateParamsBase",
    "openai.types.embedding_create_params:EmbeddingCreateParams",
    "openai.types.image_generate_params:ImageGenerateParamsBase",
    "openai.types.audio.transcription_create_params:TranscriptionCreateParamsBase",
    "anthropic.types.message_create_params:MessageCreateParamsBase",
    "anthropic.types.beta.message_create_params:MessageCreateParamsBase",
)
USAGES: Final = (
    "openai.types.completion_usage:CompletionUsage",
    "openai.types.responses.response_usage:ResponseUsage",
    "anthropic.types.usage:Usage",
    "anthropic.types.beta.beta_usage:BetaUsage",
)
ABOUT_PRICES: Final = re.compile(
    "background|batch|bill|cache|cost|credit|discount|fast|geo|plan|price|priorit|quota|region|retention|route|speed|tier|"
    "ttl|window"
)
NO_PRICE: Final = {
    "background": "a response that is polled costs what another does; `background_options` is a dimension",
    "cache_control": "what it writes is counted by time to live in the usage",
    "fallback_credit_token": "the answer states whether it was redeemed: `fallback_credit` is a dimension",
    "prompt_cache_key": "finds a cached prompt; what is read of it is counted in the usage",
    "prompt_cache_options": "what is written and read is counted in the usage",
    "prompt_cache_retention": "keeping a prompt costs nothing; what is read of it is counted in the usage",
}
COUNTED: Final = {
    "completion_tokens", "prompt_tokens", "total_tokens", "completion_tokens_details", "prompt_tokens_details",
    "input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "cache_creation",
    "cache_creation_input_tokens", "cache_read_input_tokens", "server_tool_use", "iterations",
}  # fmt: skip
"""Fields of usage that `providers` counts."""
ASKED: Final = {one.asked[0] for one in DIMENSIONS if one.asked}
STATED: Final = {one.stated[0] for one in DIMENSIONS if one.stated}


def class_at(place: str) -> Any:
    module, _, name = place.partition(":")
    sdk = module.partition(".")[0]
    if not FULL and not is_read(sdk):
        pytest.skip(f"this {sdk} is not the version that docs/coverage.md names")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("place", REQUESTS)
def test_what_a_request_asks_for_is_a_dimension_or_has_no_price(place: str) -> None:
    fields = {name for name in get_type_hints(class_at(place)) if ABOUT_PRICES.search(name)}
    assert fields - ASKED - NO_PRICE.keys() == set()


@pytest.mark.parametrize("place", USAGES)
def test_what_a_usage_states_is_counted_or_a_dimension(place: str) -> None:
    assert set(class_at(place).model_fields) - STATED - COUNTED == set()


def test_every_exception_is_a_field_of_an_sdk() -> None:
    fields = {name for place in REQUESTS for name in get_type_hints(class_at(place))}
    assert NO_PRICE.keys() <= fields
