"""Doorbuster: a commerce backend for shops that sell by time deal."""

__version__ = "0.1.0"
