"""cloudflare: adapter of Workers AI."""
