"""Carriers: a session continues elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

from callspan import session
from callspan.records import TimestepRecord

if TYPE_CHECKING:
    from tests.agent.conftest import Seen


def test_a_carrier_may_have_travelled_as_http_headers(seen: Seen) -> None:
    with session("shared/ä", metadata={"secret": "x"}) as own:
        headers = {key.title(): value for key, value in own.carrier().items()}
        headers["Accept"] = "*/*"
    assert "secret" not in str(headers)
    assert all(value.isascii() for value in headers.values())
    with session(carrier=headers) as again:
        assert again.id == own.id
        assert again.name == "shared/ä"


@pytest.mark.parametrize("sampled", [True, False])
def test_a_carrier_contains_the_sampling_decision(seen: Seen, sampled: bool) -> None:
    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON if sampled else ALWAYS_OFF))
    seen.tracer = provider.get_tracer("tests")
    seen.install()
    with session("s") as own:
        carrier = own.carrier()
    seen.tracer = seen.provider.get_tracer("tests")
    seen.install()
    with session(carrier=carrier) as again, again.timestep():
        pass
    assert len(seen.named("timestep")) == int(sampled)
    assert seen.ended(TimestepRecord)[0].session_id == own.id


def test_a_damaged_carrier_makes_a_new_session(seen: Seen) -> None:
    for carrier in ({}, {"traceparent": "nonsense"}, {"traceparent": "00-zz-zz-01", "callspan-session": "c9"}):
        with session("s", carrier=carrier) as own, own.timestep():
            pass
    assert len(seen.named("timestep")) == 3
    assert len({record.session_id for record in seen.ended(TimestepRecord)}) == 3
