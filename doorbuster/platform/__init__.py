"""Foundations without commerce and without tables: calls, database, errors, ids, money, clock, HTTP, batching."""
