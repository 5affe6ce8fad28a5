"""OpenAI's endpoints, also as other providers serve them."""
