"""Samples in which a machine's signals come in several rows of one time, a row a measurement."""
