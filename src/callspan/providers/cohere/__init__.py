"""cohere: adapters of Cohere's APIs: chat in both versions, embeddings, and reranking."""
