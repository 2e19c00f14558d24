"""The history checker: writers and consumers under SIGKILL, and proof from committed rows that the log held."""
