"""Drills: each replays an incident, then shows with figures how the shop survives it."""
