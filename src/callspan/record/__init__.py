"""Records: the data types of calls, sessions and timesteps. Uses only msgspec and the standard library."""
