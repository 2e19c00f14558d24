"""KakaoPay, simulated: a process that speaks its online payment API from the vendor's documents, with its own ledger.

What is taken from where, and what could not be verified, is in docs/psp/kakaopay.md. It knows nothing of the shop.
"""
