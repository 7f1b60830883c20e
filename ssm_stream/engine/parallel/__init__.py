"""Batches of several sources that are learned at the same time, on several cores."""
