"""What the test applications do: calls of both SDKs, with keys and addresses from the SDKs' own variables.

As a script it makes calls, of both SDKs if it simply ends, and ends in the requested way, or leaves them to others.
`fork`, `spawn` and `os-fork`: a master makes a call, and its children the others, as Celery's prefork pool does.
"""

import multiprocessing
import os
import signal
import sys

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


def main(count: int, ending: str) -> None:
    if ending in ("fork", "spawn", "os-fork"):
        ask("from the master")
        in_children(count, ending)
    else:
        calls(count, both=ending == "return")
        end(ending)


def calls(count: int, *, both: bool) -> None:
    for number in range(count):
        ask(f"question {number}")
        if both:
            ask_claude(f"question {number}")


def in_children(count: int, how: str) -> None:
    if how == "os-fork":
        child = os.fork()
        if child == 0:
            calls(count, both=False)
            sys.exit(0)
        os.waitpid(child, 0)
        return
    with multiprocessing.get_context(how).Pool(2) as pool:
        pool.map(ask, [f"question {number}" for number in range(count)], chunksize=1)
        pool.close()
        pool.join()


def end(ending: str) -> None:
    if ending == "graceful-sigterm":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if "sigterm" in ending:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    if ending == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "return")
