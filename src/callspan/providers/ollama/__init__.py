"""ollama: adapters of Ollama's own API: chat, generation, and embeddings."""
