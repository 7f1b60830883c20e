"""Counts of one target that its store keeps: events inside episodes, labelled events of the last batch."""
