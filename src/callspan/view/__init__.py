"""View: pages about a store: sessions, calls and conversations, on loopback as they are recorded, or as a file."""
