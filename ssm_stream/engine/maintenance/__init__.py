"""Planned stops: which events lie in a window, and what happens to their alerts."""
