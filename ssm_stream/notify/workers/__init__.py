"""A worker a target: each reads the alerts topic by itself, so that none waits for another."""
