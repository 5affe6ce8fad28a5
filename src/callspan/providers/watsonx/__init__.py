"""watsonx: adapters of IBM watsonx.ai: chat, generation and embeddings of text."""
