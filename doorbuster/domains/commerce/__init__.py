"""Buying: payment and the order process."""
