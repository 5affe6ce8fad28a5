"""An application that does not know callspan: it only calls a model."""

import openai

with openai.OpenAI() as client:
    reply = client.chat.completions.create(
        model="gpt-4.1-mini", messages=[{"role": "user", "content": "Name a river in France."}]
    )
    print(reply.choices[0].message.content)
