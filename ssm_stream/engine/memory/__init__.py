"""Memory of the state: where each row lies, and arrays that grow and shrink by rows."""
