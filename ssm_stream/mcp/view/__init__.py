"""The bounded view of a flow that the tools answer from."""
