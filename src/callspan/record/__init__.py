"""Records: what is kept of a call, a session, a step. msgspec and the standard library only."""
