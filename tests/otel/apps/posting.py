"""A call without an SDK, for tests of what is sent: to import an SDK takes most of the time of a short process."""

import os

import httpx


def ask(text: str) -> str:
    body = {"model": "gpt-5", "messages": [{"role": "user", "content": text}]}
    reply = httpx.post(f"{os.environ['OPENAI_BASE_URL']}/chat/completions", json=body).json()
    return str(reply["choices"][0]["message"]["content"])


if __name__ == "__main__":
    ask("Hi")
