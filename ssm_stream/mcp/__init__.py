"""The server for AI assistants: what a flow predicts and alerts, read from its topics; it changes nothing.

This package itself does not load the SDK, which is the extra `mcp`.
"""
