"""The control topic: planned stops that are announced while the flow runs."""
