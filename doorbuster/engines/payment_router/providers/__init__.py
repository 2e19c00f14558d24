"""One file per payment provider: pure functions that build requests and read answers."""
