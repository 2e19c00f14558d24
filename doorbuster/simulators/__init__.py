"""The outside world as separate processes with durable ledgers; nothing here imports the shop."""
