"""Rewinds a state to a kept generation: what came after it is read again, without the stretches to be forgotten."""
