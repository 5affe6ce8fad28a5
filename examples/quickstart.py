"""Five lines: every call of the openai SDK becomes a span and a record.

Without OPENAI_API_KEY a scripted provider on loopback answers, so it runs offline:

    python examples/quickstart.py && callspan calls && callspan show --help
"""

import os
from contextlib import ExitStack

import callspan

handle = callspan.instrument(stores="sqlite:///callspan.db")

with ExitStack() as stack:
    if not os.environ.get("OPENAI_API_KEY"):
        from callspan.testing import ScriptedProvider

        provider = stack.enter_context(ScriptedProvider())
        provider.reply(text="Paris.", input_tokens=14, output_tokens=2)
        os.environ |= {"OPENAI_API_KEY": "scripted", "OPENAI_BASE_URL": provider.openai_url}

    import openai

    client = stack.enter_context(openai.OpenAI())
    reply = client.chat.completions.create(
        model="gpt-4.1-mini", messages=[{"role": "user", "content": "What is the capital of France? One word."}]
    )
    print(reply.choices[0].message.content)

handle.force_flush()
print("Now: callspan calls")
