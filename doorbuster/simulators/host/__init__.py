"""What a simulated PSP stands on: HTTP, a durable ledger, a clock to move, faults on demand, webhooks, an admin door.

A PSP brings its own `Psp` (see server.py): what it lets in, what it decides, what its errors look like.
"""
