"""Generations: earlier states that are kept, to go back to."""
