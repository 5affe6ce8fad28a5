"""Runtime: what callspan needs inside a process that is not its own: the guard, threads, locks, forks, clock, files."""
