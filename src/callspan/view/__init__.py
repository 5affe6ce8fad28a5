"""View: pages about a store with sessions, calls and conversations, served live on loopback or saved as a file."""
