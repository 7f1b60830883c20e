"""Commands on the inputs of a stored state."""
