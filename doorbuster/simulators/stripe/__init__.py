"""Stripe, simulated: a process that speaks API v1 of version 2026-10-28.endive, with its own ledger.

What is taken from where, and what could not be verified, is in docs/psp/stripe.md. It knows nothing of the shop.
"""
