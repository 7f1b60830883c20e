"""Hourly summaries of each entity: what happened to it in an hour of event time, one row an hour."""
