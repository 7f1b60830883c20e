"""Commands on the state of a group: they need its members to have stopped."""
