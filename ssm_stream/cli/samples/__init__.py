"""The sample of a file that a draft is made of, and the rows that follow it."""
