"""Samples in which late labels are rows of their own."""
