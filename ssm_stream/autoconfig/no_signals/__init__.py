"""What is no signal, by its course."""
