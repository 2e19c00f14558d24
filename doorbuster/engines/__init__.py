"""Machinery that knows no domain; an engine may own tables or processes."""
