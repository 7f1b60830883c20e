"""Which columns of a sample are inputs, and why others are none."""
