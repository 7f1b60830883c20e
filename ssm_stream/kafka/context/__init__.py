"""Context topics: slowly changing facts that are joined to events."""
