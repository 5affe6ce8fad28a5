"""google: adapters of Gemini's APIs, on its own host and on Vertex."""
