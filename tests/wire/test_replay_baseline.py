"""The replay without callspan: it sends the recorded requests, and splitting a stream does not change the result."""

from __future__ import annotations

import pytest

from tests.wire.corpus import Exchange
from tests.wire.replay import Replayer

pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
MODES = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


@MODES
def test_the_sdk_sends_the_recorded_request(asynchronous: bool, exchanges: tuple[Exchange, ...]) -> None:
    """The openai SDK asks for base64 vectors by itself; nothing else may be added or lost."""
    with Replayer(asynchronous=asynchronous) as replayer:
        for each in exchanges:
            replayer.play(each)
            sent = replayer.sent_body()
            if each.endpoint == "embeddings" and isinstance(sent, dict) and each.request is not None:
                sent = {key: value for key, value in sent.items() if key != "encoding_format" or key in each.request}
            assert sent == each.request, each.id


@MODES
def test_pieces_of_a_stream_do_not_change_what_the_caller_gets(
    asynchronous: bool, exchanges: tuple[Exchange, ...]
) -> None:
    streams = [each for each in exchanges if each.stream]
    with Replayer(asynchronous=asynchronous) as whole, Replayer(asynchronous=asynchronous, pieces=7) as cut:
        assert [each.id for each in streams if whole.play(each) != cut.play(each)] == []
