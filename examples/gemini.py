"""Gemini by google-genai: a stream and an embedding.

python examples/gemini.py
"""

from google import genai

import callspan
from offline import answers

handle = callspan.instrument(stores="sqlite:///callspan.db")

with answers("The Loire."):
    client = genai.Client()
    for chunk in client.models.generate_content_stream(model="gemini-2.5-flash", contents="Name a river in France."):
        print(chunk.text or "", end="")
    vectors = client.models.embed_content(model="gemini-embedding-001", contents="Loire")
    print(f"\n{len(vectors.embeddings or ())} embedding")

handle.force_flush()
