"""Terminal: how the sub-commands show calls, sessions and progress, without control characters of recorded text."""
