"""The small parts of the agent's API, one by one."""
