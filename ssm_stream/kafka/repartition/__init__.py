"""Repartitioning: messages of a topic that is not keyed by entity are copied to the partitions of their entities."""
