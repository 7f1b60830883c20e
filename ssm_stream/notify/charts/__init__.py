"""A small picture of an alert in a message: value, prediction and interval."""
