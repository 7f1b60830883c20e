"""The tools, by what they answer: a method of a class each, whose docstring and parameters the assistant reads."""
