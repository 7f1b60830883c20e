"""Carries a state over to a configuration with other inputs: each array is mapped input by input, by name."""
