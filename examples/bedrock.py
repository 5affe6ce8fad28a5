"""A model of Amazon Bedrock by boto3's `converse`.

python examples/bedrock.py
"""

import boto3

import callspan
from offline import answers

handle = callspan.instrument(stores="sqlite:///callspan.db")

with answers("The Loire."):
    client = boto3.client("bedrock-runtime", region_name="us-east-1")
    reply = client.converse(
        modelId="anthropic.claude-sonnet-4-5-20250929-v1:0",
        messages=[{"role": "user", "content": [{"text": "Name a river in France."}]}],
    )
    print(reply["output"]["message"]["content"][0]["text"])

handle.force_flush()
