"""What the test applications do: calls of both SDKs, with keys and addresses from the SDKs' own variables."""

import openai


def ask(text: str) -> str:
    with openai.OpenAI(max_retries=0) as client:
        reply = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": text}])
    return reply.choices[0].message.content or ""


def ask_claude(text: str) -> str:
    import anthropic  # takes twice the time of the other SDK, which most of these applications need alone

    with anthropic.Anthropic(max_retries=0) as client:
        message = client.messages.create(
            model="claude-haiku-4-5", max_tokens=64, messages=[{"role": "user", "content": text}]
        )
    return message.content[0].text if message.content[0].type == "text" else ""


def ask_streamed(text: str) -> str:
    with openai.OpenAI(max_retries=0) as client:
        chunks = client.chat.completions.create(
            model="gpt-5", stream=True, messages=[{"role": "user", "content": text}]
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
