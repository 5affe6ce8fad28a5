"""Rollouts for reinforcement learning: four tries at a task, a reward for each, exported with token ids.

vLLM returns the ids of its tokens with `return_token_ids`; the scripted provider does so, too.

    python examples/rl_rollouts.py
"""

import json
from pathlib import Path

import openai

import callspan
from callspan import datasets, open_store
from offline import answers

STORE = "sqlite:///callspan.db"
TASK = [{"role": "user", "content": "What is 6 x 7?"}]
TRIES = ("42", "48", "42", "About 40.")

handle = callspan.instrument(stores=STORE)

with answers() as provider, openai.OpenAI() as client:
    for attempt, text in enumerate(TRIES):
        provider.reply(text=text, input_tokens=7, output_tokens=len(text.split()))
        with callspan.session("arithmetic", group_id="6 x 7", metadata={"attempt": attempt}) as session:
            reply = client.chat.completions.create(
                model="Qwen/Qwen3-8B", messages=TASK, logprobs=True, extra_body={"return_token_ids": True}
            )
            session.reward(1.0 if reply.choices[0].message.content == "42" else 0.0)

handle.force_flush()
with open_store(STORE) as reader:
    datasets.export(reader, "rollouts", "rollouts.jsonl")
for line in Path("rollouts.jsonl").read_text().splitlines():
    rollout = json.loads(line)
    (step,) = rollout["steps"]
    print(rollout["group_id"], rollout["reward"], step["tokens"]["completion_ids"])
