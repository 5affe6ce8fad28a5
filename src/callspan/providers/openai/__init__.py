"""OpenAI's endpoints, including compatible ones of other providers."""
