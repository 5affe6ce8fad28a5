"""The agent and its environment: sessions, timesteps, tools, events, rewards."""
