"""Every endpoint follows the contract of `callspan.providers.base`."""

from __future__ import annotations

import pytest
from tests.unit.providers.openai.test_properties import ENDPOINTS

from callspan.providers.base import Accumulator, Endpoint
from callspan.records import Conversation

each = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.api)


@each
def test_a_fresh_accumulator_is_empty_and_its_own(endpoint: Endpoint) -> None:
    first: Accumulator = endpoint.accumulator()
    second: Accumulator = endpoint.accumulator()
    assert first is not second
    assert first.body() is None
    assert not first.complete
    first.add({"id": "a", "object": "response", "choices": [], "output": []})
    assert second.body() is None


@each
def test_no_bodies_give_no_content(endpoint: Endpoint) -> None:
    assert endpoint.conversation(None, None) == Conversation()
    assert endpoint.response_info(None).response.finish_reasons == []
