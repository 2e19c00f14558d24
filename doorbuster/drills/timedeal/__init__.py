"""Drill `timedeal`: the time deal that deadlocked, replayed on a real PostgreSQL, and then the way it is survived."""
