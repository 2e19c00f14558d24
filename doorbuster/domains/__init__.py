"""What the shop is: one folder per domain, grouped as in map.py, each with the same files."""
