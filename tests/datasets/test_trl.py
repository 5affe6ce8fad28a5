"""Preference pairs through TRL's own functions, in an environment of their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.support.launching import python_of
from tests.support.waiting import HANG_S

from callspan import open_store
from callspan.datasets import Options, export

from .conftest import TOOLS, World, asking, tool_call

READER = Path(__file__).with_name("apps") / "trl_reader.py"


def test_trl_renders_each_pair_as_recorded(world: World, tmp_path: Path) -> None:
    """Arguments stay apart, whatever another row has: none becomes null, none another type."""
    python = python_of("trainers/trl")
    question = [{"role": "system", "content": "Play."}, {"role": "user", "content": "Begin."}]
    for session_id, reward, arguments in (("good", 1.0, {"at": 7}), ("bad", 0.0, {"to": ["a", 1], "now": None})):
        world.session(session_id, reward, task_id="maze")
        looked = world.chat(question, asking(tool_call("look", {}, f"call_{session_id}")), session_id, tools=TOOLS)
        seen = [*question, looked, {"role": "tool", "tool_call_id": f"call_{session_id}", "content": "a fork"}]
        world.chat(seen, asking(tool_call("look", arguments, "call_next")), session_id, tools=TOOLS)
        world.session(f"{session_id}2", reward, task_id="talk")
        world.chat(question[1:], f"I am {session_id}.", f"{session_id}2")
    pairs = tmp_path / "pairs.jsonl"
    export(open_store(world.write(tmp_path / "w.db")), "preferences", pairs, options=Options(pair_format="trl"))
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, str(READER), str(pairs)], env=environment, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    asked = "<|system|>Play.<|end|><|user|>Begin.<|end|><|assistant|>"
    tools = f"<|tools|>look:{json.dumps(TOOLS[0]['function']['parameters'])};<|end|>"
    assert [json.loads(line) for line in lines] == [
        {
            "prompt": f"{tools}{asked}<|call|>look({{}})<|end|><|tool|>look=a fork<|end|><|assistant|>",
            "chosen": '<|call|>look({"at": 7})<|end|>',
            "rejected": '<|call|>look({"to": ["a", 1], "now": null})<|end|>',
        },
        {"prompt": "<|user|>Begin.<|end|><|assistant|>", "chosen": "I am good.<|end|>", "rejected": "I am bad.<|end|>"},
    ]
