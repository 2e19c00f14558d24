"""Toss Payments, simulated: a process that speaks its wire format from the vendor's documents, with its own ledger.

What is taken from where, and what could not be verified, is in docs/psp/toss.md. It knows nothing of the shop.
"""
