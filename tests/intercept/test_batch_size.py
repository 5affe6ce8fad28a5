"""Large batches: their lines are recorded in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import anthropic
import pytest

from tests.intercept.sdks import needs_name
from tests.provider import FullProvider

READER = """
    import json, resource, sys
    from collections import Counter
    import anthropic
    from callspan.sdk_profiles import SDKS
    from callspan.settings_loader import load
    from callspan.wiring import WIRING
    from callspan.wiring.pipeline import Providers
    counted = Counter()

    def count(processed):
        counted[processed.record.outcome, processed.record.usage.total_tokens] += 1

    WIRING.install(load({}, environment={}), Providers(listeners=(count,)), SDKS)
    client = anthropic.Anthropic(base_url=sys.argv[1], api_key="k", max_retries=0)
    results = client.messages.batches.results("msgbatch_1")
    for _, _ in zip(range(500), results):
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in results:
        pass
    WIRING.flush(300)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([grown, sorted(counted.values())]))
"""


@pytest.mark.parametrize("lines", [100_000])
def test_many_lines_take_bounded_memory(lines: int) -> None:
    with anthropic.Anthropic(api_key="k") as client:
        needs_name(client, "messages.batches")
    usage = {"input_tokens": 100, "output_tokens": 50}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    content = [{"type": "text", "text": "Words and more words. " * 30}]
    line = {"type": "succeeded", "message": {**message, "content": content, "usage": usage}}
    raw = b"".join(b'{"custom_id":"%d","result":%s}\n' % (at, json.dumps(line).encode()) for at in range(lines))
    with FullProvider() as provider:
        url = f"{provider.url}/v1/messages/batches/msgbatch_1/results"
        batch = {"id": "msgbatch_1", "type": "message_batch", "processing_status": "ended", "results_url": url}
        provider.reply(raw=batch, on="/msgbatch_1")
        provider.reply(raw=raw, on="/results")
        program = [sys.executable, "-c", textwrap.dedent(READER), provider.url]
        grown, counts = json.loads(subprocess.run(program, check=True, stdout=subprocess.PIPE, timeout=300).stdout)
    assert counts == [lines]
    factor = 1 if sys.platform == "darwin" else 1024
    assert grown * factor < (64 + 24) << 20
