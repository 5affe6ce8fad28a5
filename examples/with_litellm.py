"""LiteLLM, which needs no hook of its own: each request is known by its path and body.

pip install "callspan[cli]" litellm
python examples/with_litellm.py
"""

import litellm

import callspan
from offline import answers

handle = callspan.instrument(stores="sqlite:///callspan.db")

with answers("The Loire.", "The Po."):
    for model in ("openai/gpt-4.1-mini", "anthropic/claude-sonnet-4-5"):
        reply = litellm.completion(model=model, messages=[{"role": "user", "content": "Name a river."}])
        print(reply.choices[0].message.content)

handle.force_flush()
