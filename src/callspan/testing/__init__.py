"""For tests of applications: capture spans and records, and a scripted provider on loopback."""
