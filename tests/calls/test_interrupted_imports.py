"""A signal handler that interrupts an import of callspan's own gets whole modules, as does what it has interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest
from tests.support.processes import ran
from tests.support.scale import scaled

PROGRAM: Final = """
import json, signal, sys
import callspan
from callspan.runtime.forks import late_import
from callspan.providers import registry
from callspan.record.apis import APIS
from callspan.testing import capture

apis, step = json.loads(sys.argv[1]), int(sys.argv[2])
vendors = {row.family for row in APIS.values()}
spots = []

def record(api):
    with callspan.record_call(provider="p", api=api, model="m") as call:
        call.request({"model": "m"})
        call.response({})

def forget():
    for name in list(sys.modules):
        if name.startswith(tuple(f"callspan.providers.{vendor}" for vendor in vendors)):
            del sys.modules[name]
    registry._endpoint.cache_clear()

def interrupt_at(module, spot):
    # A signal arrives while the body of the module runs.
    lines = []
    def line(frame, event, argument):
        if event == "line":
            lines.append(frame.f_lineno)
            if len(lines) == spot + 1:
                sys.settrace(None)
                signal.raise_signal(signal.SIGUSR1)
        return line
    def tracer(frame, event, argument):
        is_body = frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == module
        return line if event == "call" and is_body and not lines else None
    sys.settrace(tracer)
    return lines

for api in apis:
    module = "callspan.providers." + APIS[api].adapter.partition(":")[0]
    sibling = next(other for other in registry.APIS if registry.wire_of(other) == registry.wire_of(api))
    spot = 0
    while True:
        forget()
        got = []
        def handler(*_):
            try:
                for other in (api, sibling):
                    record(other)
                got.append(type(registry.by_api(api)))
            except BaseException as error:
                got.append(repr(error))
        signal.signal(signal.SIGUSR1, handler)
        with capture() as seen:
            lines = interrupt_at(module, spot)
            record(api)
            sys.settrace(None)
        if not got:
            break
        whole = sys.modules[module]
        assert got[0] is getattr(whole, APIS[api].adapter.partition(":")[2]), (api, spot, got)
        assert [record.api for record in seen.records] == [api, sibling, api], (api, spot, seen.records)
        assert late_import(module) is whole and not whole.__spec__._initializing
        spots.append(spot)
        spot += step
print(len(spots))
"""
APIS: Final = scaled(
    (["converse", "cohere_chat"],),
    tuple([api] for api in ("converse", "cohere_chat", "generate_content", "messages", "responses", "watsonx_chat")),
)


@pytest.mark.parametrize("apis", APIS, ids=lambda apis: apis[0])
def test_handler_that_interrupts_an_import_records_its_call(apis: list[str], tmp_path: Path) -> None:
    spots = ran("-c", PROGRAM, json.dumps(apis), "9", cwd=tmp_path).stdout
    assert int(spots) > len(apis)
