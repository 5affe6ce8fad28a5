"""OpenAI's endpoints, and those of everyone who speaks them."""
