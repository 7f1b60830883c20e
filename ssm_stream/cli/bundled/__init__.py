"""Commands for what comes with the package: the demonstration, the example files."""
