"""How long a test waits for what must come about."""

SLOWER = 4.0
"""By how much a machine may be slower than the one for which the seconds of tests are meant, as one that others use is.
What does not come about at all is found all the same, only later."""
