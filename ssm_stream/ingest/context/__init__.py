"""Context topics: the facts of entities, and which of them hold at the time of an event or a row."""
