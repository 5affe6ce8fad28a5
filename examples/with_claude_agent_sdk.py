"""The claude-agent-sdk, whose calls are made by another program: `receive` records what it reports.

pip install "callspan[cli]" claude-agent-sdk
python examples/with_claude_agent_sdk.py && callspan show last
"""

import asyncio
import tempfile

from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, TextBlock, query

import callspan
from offline import answers

handle = callspan.instrument(stores="sqlite:///callspan.db", receive=True)


async def ask(prompt: str) -> None:
    """Print the words of the agent, which works in an empty directory."""
    with tempfile.TemporaryDirectory() as directory:
        options = ClaudeAgentOptions(cwd=directory, max_turns=2, permission_mode="bypassPermissions")
        async for message in query(prompt=prompt, options=options):
            if isinstance(message, AssistantMessage):
                print("".join(block.text for block in message.content if isinstance(block, TextBlock)))


with answers() as provider:
    provider.reply(text="The Loire.", repeat=True)
    asyncio.run(ask("Name a river in France."))

handle.force_flush()
