"""Evaluate two versions of a prompt, compare them, and export the calls that were right as training data.

python examples/evaluate.py
"""

import openai

import callspan
from callspan import datasets, open_store
from callspan.stores import CallFilter
from offline import answers

STORE = "sqlite:///callspan.db"
PROMPTS = {"v1": "Answer.", "v2": "Answer with one word."}
QUESTIONS = {"Capital of France?": "Paris", "Capital of Italy?": "Rome", "Capital of Spain?": "Madrid"}
SCRIPT = ["It is Paris, I think.", "Rome", "Perhaps Madrid.", "Paris", "Rome", "Madrid"]

handle = callspan.instrument(stores=STORE)

with answers(*SCRIPT), openai.OpenAI() as client:
    for version, prompt in PROMPTS.items():
        for question, expected in QUESTIONS.items():
            with callspan.session("quiz", task_id=question, metadata={"prompt_version": version}) as session:
                reply = client.chat.completions.create(
                    model="gpt-4.1-mini",
                    messages=[{"role": "system", "content": prompt}, {"role": "user", "content": question}],
                )
                is_right = reply.choices[0].message.content == expected
                callspan.reward(float(is_right), objective="exact", source="evaluator")
                session.outcome(success=is_right)

handle.force_flush()
with open_store(STORE) as reader:
    for group in reader.summary("meta:prompt_version"):
        print(group.key, f"{group.calls} calls, {group.output_tokens} tokens of output, ${group.cost_usd}")
    right = CallFilter(objectives=("exact",), min_score=1.0)
    print(datasets.export(reader, "openai", "train.jsonl", right).rows, "right answers in train.jsonl")
print("Now: callspan compare meta:prompt_version=v1 =v2 --objective exact")
